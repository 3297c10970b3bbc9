"""`fit`: recipe → plan → trials → winner → package → summary. Reads from top to bottom like that sentence."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from automm.data.ledger import Ledger
from automm.errors import AutommError, DataError, ExitCode, GateMissedError, Interrupted, NothingSucceededError
from automm.package.content import PackageContent, PackageInput
from automm.plan import build_plan, prepare
from automm.plan.model import Plan
from automm.plan.prepare import Part, Prepared, total_rows
from automm.plugin.loader import Plugins
from automm.recipe.model import GateSpec, Recipe
from automm.recipe.parse import load_with_plugins
from automm.report.folder import RunFolder, storage_errors, write_json
from automm.report.progress import Progress, progress
from automm.report.summary import summary_of
from automm.search.space import first_trials, single
from automm.search.study import Study
from automm.train.bench import Bench
from automm.train.ranks import Ranks, joined

RESERVE = 0.12
"""Share of the time budget kept for export, verification and test metrics, within `RESERVE_BOUNDS` seconds."""
RESERVE_BOUNDS = (15.0, 300.0)
BASELINE_SHARE = 0.3
"""Most of the time that the single-modality baselines may take."""
FIRST_SHARE = 0.4
"""Most of the remaining time that one trial may take."""
VERIFY_ROWS = 16
LATENCY_CALLS = 30


@dataclass
class FitOptions:
    """What the command line adds to a recipe."""

    out: Path | None = None
    block: tuple[str, ...] = ()
    plugin_files: tuple[Path, ...] = ()
    strict: bool = False
    quiet: bool = False


@dataclass
class Run:
    """The state of one `fit`, shared by its steps."""

    recipe: Recipe
    plugins: Plugins
    ranks: Ranks
    folder: Path
    log: RunFolder | None
    plan: Plan
    prepared: Prepared
    bench: Bench
    began: float
    reports: list[dict[str, Any]] = field(default_factory=list)
    baselines: list[dict[str, Any]] = field(default_factory=list)
    requests: int = 0

    def event(self, event: str, **facts: Any) -> None:
        """Logs an event, on rank 0."""
        if self.log is not None:
            self.log.event(event, **facts)

    def warn(self, text: str) -> None:
        """Logs a warning."""
        self.event("warning", text=text)

    def stopping(self) -> bool:
        """Whether the user asked for the end."""
        return self.requests > 0

    @property
    def train_deadline(self) -> float | None:
        """`time.monotonic()` at which training must be over."""
        if self.plan.time is None:
            return None
        reserve = min(max(RESERVE * self.plan.time, RESERVE_BOUNDS[0]), RESERVE_BOUNDS[1], 0.5 * self.plan.time)
        return self.began + self.plan.time - reserve

    def better(self, value: float | None, than: float | None) -> bool:
        """Whether a metric value is better than another."""
        if value is None or than is None:
            return value is not None
        return value > than if self.plan.maximize else value < than


def fit(path: Path, options: FitOptions) -> dict[str, Any]:
    """Fits a recipe.

    Args:
        path: The recipe file.
        options: What the command line adds.

    Returns:
        The summary, also in `summary.json` of the run folder.

    Raises:
        AutommError: If no package could be made, or a gate was missed (the package exists then).
    """
    began = time.monotonic()
    with joined() as ranks:
        recipe, plugins = load_with_plugins(
            path, block=options.block, files=options.plugin_files, strict=options.strict
        )
        folder = run_folder(path, options.out)
        show = progress(quiet=options.quiet or not ranks.main)
        log: RunFolder | None = None
        try:
            log = _opened(folder, ranks, show)
            return _fit(recipe, plugins, ranks, folder, log, began)
        except AutommError as problem:
            if log is not None and not isinstance(problem, GateMissedError):
                _write_failure(folder, recipe, problem, began)
            raise
        finally:
            show.close()
            if log is not None:
                log.close()


def run_folder(recipe: Path, out: Path | None) -> Path:
    """Where a run lives: `--out`, or `runs/<recipe name>` below the current folder."""
    return (out or Path("runs") / recipe.stem).absolute()


def _opened(folder: Path, ranks: Ranks, show: Progress) -> RunFolder | None:
    """Rank 0 locks and opens the run folder."""
    opened: list[RunFolder] = []
    ranks.first(lambda: opened.append(RunFolder(folder, show)))
    return opened[0] if opened else None


def _fit(
    recipe: Recipe, plugins: Plugins, ranks: Ranks, folder: Path, log: RunFolder | None, began: float
) -> dict[str, Any]:
    resumed = (folder / "study.journal").exists()
    if log is not None:
        log.event("started", recipe=str(recipe.path), folder=str(folder), resumed=resumed, processes=ranks.world)
        shutil.copyfile(recipe.path, folder / "recipe.yaml")
        for text in plugins.problems():
            log.event("warning", text=text)
    run = _planned(recipe, plugins, ranks, folder, log, began)
    with _stop_requests(run):
        study = Study(run.plan, plugins.registry, folder, recipe.search.storage if recipe.search else None) if log else None
        if run.plan.searching:
            _search_with_baselines(run, study)
        else:
            _search(run, study)
            _baselines(run)
        _check_bad_rows(run)
        winner = ranks.broadcast(_winner(run) if ranks.main else None)
        return _finish(run, winner)


def _planned(
    recipe: Recipe, plugins: Plugins, ranks: Ranks, folder: Path, log: RunFolder | None, began: float
) -> Run:
    """Opens the data and builds the plan."""
    work = folder / "work"
    ledger = Ledger()
    start = time.monotonic()
    try:
        prepared = ranks.first_then_all(lambda: prepare(recipe, plugins.registry, work / "tables", ledger))
    except DataError:
        if log is not None:
            _write_ledger(ledger, folder)
        raise
    plan = build_plan(recipe, plugins.registry, prepared)
    bench = Bench(plugins.registry, plan, prepared.parts, prepared.task, work, ledger, ranks)
    run = Run(recipe, plugins, ranks, folder, log, plan, prepared, bench, began)
    if log is not None:
        write_json(folder / "plan.json", {"digest": plan.digest, **plan.model_dump(mode="json")})
        run.event("planned", digest=plan.digest, lines=plan.lines(), seconds=time.monotonic() - start)
    # The default configuration's arrays first: most bad rows show here, before any time is spent on training.
    start = time.monotonic()
    resolved, _ = first_trials(plan, plugins.registry)[0]
    for part in ("train", "valid"):
        bench.view(part, resolved)
    _check_bad_rows(run)
    for part in ("train", "valid"):
        if not len(bench.view(part, resolved).positions):
            raise DataError(f"data.{part}: no row is left that can be used; see {folder / 'bad_rows.csv'}")
    run.event("data", rows=", ".join(f"{n:,} {p}" for p, n in plan.rows.items() if n), seconds=time.monotonic() - start)
    return run


def _check_bad_rows(run: Run) -> None:
    """Stops the run if too many rows are bad; says how many there are otherwise."""
    ledger, total = run.prepared.ledger, total_rows(run.prepared.parts)
    if run.log is not None:
        _write_ledger(ledger, run.folder)
    run.ranks.first(lambda: ledger.check(run.recipe.data.max_bad_rows, total))
    if len(ledger) and run.log is not None:
        run.event("bad_rows", count=ledger.bad(), file=str(run.folder / "bad_rows.csv"))


def _write_ledger(ledger: Ledger, folder: Path) -> None:
    with storage_errors(folder / "bad_rows.csv"):
        ledger.write(folder)


@contextmanager
def _stop_requests(run: Run) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM ends the search with the best so far; the second ends the run, to be resumed."""

    def handle(number: int, _: Any) -> None:
        run.requests += 1
        if run.requests > 1:
            raise KeyboardInterrupt
        run.event("stopping", reason=f"{signal.Signals(number).name}: finishing with the best so far; again to stop now")

    try:
        old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread (a test, a notebook): the host handles signals
        yield
        return
    try:
        yield
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)


def _search_with_baselines(run: Run, study: Study | None) -> None:
    """The default first, then each modality alone, then the rest of the budget on the search."""
    first = len(first_trials(run.plan, run.plugins.registry))
    _search(run, study, most=first)
    _baselines(run)
    _search(run, study)


def _search(run: Run, study: Study | None, most: int | None = None) -> None:
    """Asks, trains, tells, until the budget is spent. Rank 0 asks; all ranks train."""
    while True:
        asked = run.ranks.broadcast(_ask(run, study, most) if run.ranks.main else None)
        if asked is None:
            return
        index, resolved = asked
        report = _trial(run, str(index), resolved, study, _deadline(run, FIRST_SHARE))
        if run.ranks.main and study is not None:
            value = report["value"]
            study.tell(value, report["state"], {"seconds": report["seconds"], "reason": report["error"] or report["ended"]})
            best = _best(run.reports, run)
            run.reports.append(report)
            leads = report["state"] == "complete" and run.better(value, best["value"] if best else None)
            facts = {key: report[key] for key in ("name", "state", "value", "epochs", "seconds", "error")}
            run.event("trial", metric=run.plan.metric, best=leads, **facts)
            run.plugins.call("automm_trial_finished", run.warn, report=report)


def _ask(run: Run, study: Study | None, most: int | None) -> tuple[int, dict[str, Any]] | None:
    """The next trial, or None when the budget is spent. Reports of an earlier run are taken over first."""
    assert study is not None
    assert run.log is not None
    counted = study.counted()
    for at in range(len(run.reports), len(counted)):
        done = run.log.report(str(at))
        run.reports.append(done or {"name": str(at), "state": "failed", "value": None, "error": "its report is lost"})
    limits = [limit for limit in (run.plan.trials, most) if limit is not None]
    if limits and len(counted) >= min(limits):
        return None
    if run.stopping():
        return None
    deadline = run.train_deadline
    if deadline is not None and run.reports:
        usual = statistics.median(r.get("seconds", 0.0) for r in run.reports)
        if time.monotonic() + min(usual, 60.0) > deadline:
            return None
    if len(run.reports) >= 3 and all(report["state"] == "failed" for report in run.reports):
        return None  # the same failure would only repeat
    return study.ask()


def _deadline(run: Run, share: float) -> float | None:
    """When a trial must end that may take a share of the remaining time."""
    if run.train_deadline is None:
        return None
    now = time.monotonic()
    return now + max(share * (run.train_deadline - now), 0.0)


def _trial(
    run: Run, name: str, resolved: dict[str, Any], study: Study | None, deadline: float | None
) -> dict[str, Any]:
    """Trains one configuration and keeps its report."""
    from automm.train.callbacks import no_callbacks
    from automm.train.run import run_trial

    folder = run.folder / "trials" / name

    def on_epoch(epoch: int, value: float, metrics: dict[str, Any]) -> bool:
        left = None if run.plan.time is None else run.began + run.plan.time - time.monotonic()
        run.event("epoch", name=name, epoch=epoch, metrics=metrics, left=left, trials=run.plan.trials)
        return study.report(epoch, value) if study is not None and run.plan.searching else False

    callbacks = [
        item
        for group in run.plugins.call("automm_callbacks", run.warn, no_callbacks, resolved=resolved, folder=folder)
        for item in group
    ]
    report, _ = run_trial(
        name, resolved, run.bench, folder, on_epoch=on_epoch, deadline=deadline, stopping=run.stopping,
        callbacks=callbacks, logger=_tensorboard(run, name),
    )  # fmt: skip
    if run.ranks.main:
        write_json(folder / "report.json", report.json())
    return report.json()


def _tensorboard(run: Run, name: str) -> Any:
    """A TensorBoard logger where the package is installed; a logger that cannot start never fails a run."""
    if not run.ranks.main:
        return None
    try:
        from lightning.pytorch.loggers import TensorBoardLogger

        return TensorBoardLogger(run.folder, name="tensorboard", version=name)
    except Exception:
        return None


def _baselines(run: Run) -> None:
    """Each modality alone, with the default components: the champions that fusion has to beat."""
    modalities = run.plan.modalities()
    if len(modalities) < 2:
        return
    resolved, _ = first_trials(run.plan, run.plugins.registry)[0]
    for modality, slugs in modalities.items():
        known = run.ranks.first(lambda name=f"only-{modality}": run.log.report(name) if run.log else None)
        if run.ranks.broadcast(run.stopping()):
            return
        report = known or _trial(
            run, f"only-{modality}", single(run.plan, resolved, slugs), None, _deadline(run, BASELINE_SHARE / len(modalities))
        )
        run.baselines.append(report)
        run.event("baseline", name=report["name"], metric=run.plan.metric, value=report["value"], error=report["error"])


def _best(reports: Sequence[dict[str, Any]], run: Run) -> dict[str, Any] | None:
    best: dict[str, Any] | None = None
    for report in reports:
        if report["state"] == "complete" and run.better(report["value"], best["value"] if best else None):
            best = report
    return best


def _winner(run: Run) -> dict[str, Any]:
    """The best trial; a single modality wins only by being better than every fused model.

    Raises:
        NothingSucceededError: With the distinct errors of the failed trials.
    """
    fused, alone = _best(run.reports, run), _best(run.baselines, run)
    winner = alone if alone and (fused is None or run.better(alone["value"], fused["value"])) else fused
    if winner is None:
        errors = dict.fromkeys(str(report["error"]) for report in (*run.reports, *run.baselines) if report["error"])
        if run.stopping() and not errors:
            raise Interrupted("stopped before the first trial was done; run the same command again to go on")
        raise NothingSucceededError(
            "no trial gave a model:\n  " + "\n  ".join(list(errors)[:5] or ["the time budget ended before the first one"])
        )
    run.event("winner", name=winner["name"], metric=run.plan.metric, value=winner["value"])
    return winner


def _finish(run: Run, winner: dict[str, Any]) -> dict[str, Any]:
    """Test metrics, package, verification, gates and summary, from the winner's weights."""
    from automm.model.assemble import build_model
    from automm.train.module import evaluate, measure
    from automm.train.run import device, evaluation_batches, load_weights

    resolved, task = winner["resolved"], run.prepared.task
    views = {part: run.bench.view(part, resolved) for part in ("train", "valid", "test") if run.plan.rows[part]}
    model = build_model(resolved, views["train"].processors, task, run.plugins.registry)
    load_weights(model, run.folder / "trials" / winner["name"] / "weights.safetensors")
    model.to(device()).eval()
    metrics = {"valid": winner["metrics"]}
    if "test" in views and len(views["test"].positions):
        answers, target, _ = evaluate(model, task, evaluation_batches(views["test"], run.ranks), run.ranks)
        metrics["test"] = measure(task, answers, target)
    if not run.ranks.main:
        run.ranks.first(lambda: None)  # rank 0 writes the package
        return {}
    made: list[dict[str, Any]] = []
    run.ranks.first(lambda: made.append(_package(run, winner, model, views, metrics)))
    return made[0]


def _package(
    run: Run, winner: dict[str, Any], model: Any, views: dict[str, Any], metrics: dict[str, Any]
) -> dict[str, Any]:
    """Writes, verifies and measures the package, then the summary."""
    from automm.model.assemble import answer_graph
    from automm.package.verify import verify_package
    from automm.package.write import write_package

    run.event("exporting")
    side = "test" if "test" in views and len(views["test"].positions) >= 2 else "valid"
    part, view = run.prepared.parts[side], views[side]
    positions = view.positions[:VERIFY_ROWS]
    rows = raw_rows(run, part, positions)
    example = example_batch(view, positions)
    graph = answer_graph(model.cpu(), run.prepared.task, view.processors, example)
    registry, task = run.plugins.registry, run.prepared.task
    owner = registry.entry("task", task.name).owner
    content = PackageContent(
        name=run.recipe.name, task=task, target_columns=run.plan.target, inputs=_package_inputs(run, views),
        graph=graph, exporter=_graph_exporter(run), golden_rows=rows[:2], folder=part.table.folder,
        metrics={key: _numbers(value) for key, value in metrics.items()}, recipe=run.recipe.path.read_text("utf-8"),
        plan=run.plan.model_dump(mode="json"), resolved=winner["resolved"], data_digest=run.plan.data["train"],
        seed=run.plan.seed, task_owner=(owner.distribution, owner.version),
    )  # fmt: skip
    path = write_package(run.folder / "package", content)
    import torch

    with torch.inference_mode():
        answers = {name: tensor.numpy()[: len(rows)] for name, tensor in graph.module(example).items()}
    files = [status.file for status in run.plugins.statuses if status.file is not None]
    verified = verify_package(path, rows, part.table.folder, answers, content.tolerance, files)
    latency = measure_latency(path, rows, part.table.folder)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6
    gates = _gates(run.recipe.require, metrics, latency, size)
    summary = summary_of(
        run, winner, metrics, package=str(path), latency_ms=latency, size_mb=size, gates=gates,
        verified_rows=verified.rows, deviations=verified.deviations,
    )  # fmt: skip
    write_json(run.folder / "summary.json", summary)
    run.plugins.call("automm_package_written", run.warn, package=path, manifest=summary)
    run.event("finished", status=summary["status"], package=str(path), wall_seconds=summary["wall_seconds"])
    missed = [gate for gate in gates if not gate["met"]]
    if missed:
        raise GateMissedError(
            "; ".join(f"require: {g['metric']} {g['operator']} {g['bound']:g}, it is {_shown(g['value'])}" for g in missed)
        )
    return summary


def _package_inputs(run: Run, views: dict[str, Any]) -> list[PackageInput]:
    found = []
    for item in run.plan.inputs:
        view = views["train"]
        if item.slug in view.processors:
            optional = not bool(view.stores[item.slug].present.all())
            found.append(PackageInput(item.slug, item.info, view.processors[item.slug], optional))
    return found


def _graph_exporter(run: Run) -> Any:
    """The first exporter of the recipe that makes the package's graph, else the first registered one."""
    registry = run.plugins.registry
    named = [registry.get("exporter", name) for name in run.recipe.export]
    graph_makers = [cls for cls in (*named, *(e.cls for e in registry.all("exporter"))) if cls.makes == "graph"]
    if not graph_makers:
        raise NothingSucceededError("no exporter that makes a graph is installed")
    return graph_makers[0](graph_makers[0].Config())


def raw_rows(run: Run, part: Part, positions: np.ndarray) -> list[dict[str, Any]]:
    """Raw cells of some rows, column → cell, as a user would send them."""
    columns = list(dict.fromkeys(column for item in run.plan.inputs for column in item.columns))
    cells = part.table.take(columns, part.rows[positions])
    return [{column: cells[column][i] for column in columns} for i in range(len(positions))]


def example_batch(view: Any, positions: np.ndarray) -> dict[str, Any]:
    """The same rows as tensors, at least two."""
    import torch

    at = positions if len(positions) > 1 else np.repeat(positions, 2)
    batch = {}
    for slug, store in view.stores.items():
        batch.update({f"{slug}.{name}": torch.from_numpy(array) for name, array in store.batch(at).items()})
        batch[f"{slug}.present"] = torch.from_numpy(store.present[at])
    return batch


def measure_latency(package: Path, rows: list[dict[str, Any]], folder: Path) -> float:
    """Median milliseconds of a prediction of one row, on this machine's CPU."""
    import automm

    predictor = automm.load(package)
    predictor.predict(rows[:1], folder=folder)
    times = []
    for call in range(LATENCY_CALLS):
        start = time.perf_counter()
        predictor.predict([rows[call % len(rows)]], folder=folder)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def _gates(
    require: Sequence[GateSpec], metrics: dict[str, Any], latency_ms: float, size_mb: float
) -> list[dict[str, Any]]:
    """Every gate with the value it was held against: the test metric, or validation where there is no test part."""
    import operator

    compare = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
    side = "test" if "test" in metrics else "valid"
    values = {**metrics[side], "latency_ms": latency_ms, "size_mb": size_mb}
    return [
        {
            "metric": gate.metric,
            "operator": gate.operator,
            "bound": gate.value,
            "value": values.get(gate.metric),
            "met": values.get(gate.metric) is not None and compare[gate.operator](values[gate.metric], gate.value),
        }
        for gate in require
    ]


def _numbers(metrics: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if value is not None and math.isfinite(value)}


def _shown(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4g}"


def _write_failure(folder: Path, recipe: Recipe, problem: AutommError, began: float) -> None:
    """A summary that says why there is no package."""
    status = "interrupted" if problem.exit_code is ExitCode.INTERRUPTED else "failed"
    write_json(
        folder / "summary.json",
        {
            "status": status, "exit_code": int(problem.exit_code), "error": str(problem), "recipe": recipe.name,
            "metric": recipe.metric, "valid": {}, "test": {}, "trials": {}, "package": None,
            "wall_seconds": round(time.monotonic() - began, 3),
        },
    )  # fmt: skip


def in_job() -> bool:
    """Whether a launcher started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def launch(arguments: Sequence[str], processes: int, out: Path) -> int:
    """Runs the same command under torchrun on this machine.

    Args:
        arguments: The command line after `automm`.
        processes: Number of processes.
        out: The run folder.

    Returns:
        The exit code of the run; torchrun's own says only that some process failed.
    """
    import subprocess

    before = time.time()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    code = subprocess.run([*command, "-m", "automm", *arguments], check=False).returncode
    summary = out / "summary.json"
    if code and summary.exists() and summary.stat().st_mtime >= before:
        return int(json.loads(summary.read_text("utf-8"))["exit_code"])
    return code
