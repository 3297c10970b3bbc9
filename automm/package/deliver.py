"""From the chosen models to a verified package and the run's summary."""

from __future__ import annotations

import json
import operator
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import automm
from automm.answers import decided
from automm.core.kinds import Exporter, Task
from automm.core.processor import Processor
from automm.data.arrays import ArrayStore
from automm.errors import GateMissedError, PluginError
from automm.model.assemble import AnswerModel, EnsembleModel, answer_graph
from automm.model.learned import restore
from automm.model.lora import merge_adapters
from automm.package.content import PackageContent, PackageInput
from automm.package.exports import export_folder
from automm.package.verify import verify_package
from automm.package.write import write_package
from automm.plan.model import PlannedInput
from automm.plan.prepare import Part
from automm.recipe.model import GateSpec
from automm.report.folder import trial_folder, write_json
from automm.report.summary import summary_of
from automm.run import Member, Run
from automm.runtime import drift
from automm.runtime.manifest import FILE, RESUME
from automm.train.bench import View
from automm.train.learn import AGAIN, refit
from automm.train.module import evaluate, measure
from automm.train.run import device, evaluation_batches, load_weights
from automm.update.kept import resume_files
from automm.update.reference import drift_reference

VERIFY_ROWS = 16
LATENCY_CALLS = 30
REFIT_SHARE = 0.4
"""Share of the time that is left after the search for fitting the winning learners on folds."""
REFIT_SECONDS = 300.0
"""The same without a time budget."""
LATENCY_SECONDS = 2.0
"""After this time no further call is measured; slow packages do with fewer."""
COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclass
class Assembled:
    """The winner as one module, with the inputs it reads.

    Attributes:
        module: From batch to answers.
        choices: Slug in the batch → the planned input and the encoder choice whose processor feeds it.
    """

    module: torch.nn.Module
    choices: dict[str, tuple[PlannedInput, dict[str, Any]]]


def assemble(run: Run, members: Sequence[Member]) -> Assembled:
    """Rebuilds the chosen models with their weights; inputs that two models read alike are shared."""
    inputs = {item.slug: item for item in run.plan.inputs}
    choices: dict[str, tuple[PlannedInput, dict[str, Any]]] = {}
    keys: dict[str, Processor] = {}
    models, names = [], []
    for member in members:
        outer: dict[str, str] = {}
        processors = {}
        for slug, choice in member.resolved["encoders"].items():
            processor = processors[slug] = run.bench.processor(slug, choice)
            same = [o for o, known in keys.items() if known is processor and choices[o][0].slug == slug]
            outer[slug] = same[0] if same else _free(slug, {*keys, *(inputs.keys() - {slug})})
            keys[outer[slug]], choices[outer[slug]] = processor, (inputs[slug], choice)
        folder = trial_folder(run.folder, member.name)
        weights = load_weights(folder / (AGAIN if (folder / AGAIN).exists() else "weights.safetensors"))
        model = restore(member.resolved, processors, run.prepared.task, run.plugins.registry, weights)
        merge_adapters(model)
        models.append(AnswerModel(model, run.prepared.task))
        names.append(outer)
    if len(models) == 1:
        return Assembled(models[0].eval(), choices)
    ensemble = EnsembleModel(models, [member.weight for member in members], names, run.prepared.task)
    return Assembled(ensemble.eval(), choices)


def _free(slug: str, taken: set[str]) -> str:
    number, found = 2, slug
    while found in taken:
        found, number = f"{slug}_{number}", number + 1
    return found


def view(run: Run, part: str, assembled: Assembled) -> View:
    """What the winner sees of a part."""
    stores: dict[str, ArrayStore] = {}
    processors: dict[str, Processor] = {}
    bad = np.zeros(len(run.prepared.parts[part].rows), bool)
    for outer, (item, choice) in assembled.choices.items():
        stores[outer] = run.bench.store(part, item.slug, choice)
        processors[outer] = run.bench.processor(item.slug, choice)
        bad |= stores[outer].bad
    return View(stores, processors, run.prepared.parts[part].target, np.flatnonzero(~bad))


def deliver(run: Run, members: Sequence[Member], winner: Mapping[str, Any]) -> dict[str, Any]:
    """Measures the winner on the test part, writes and verifies the package, holds the gates.

    Args:
        run: The run.
        members: The models that answer together; one of them without an ensemble.
        winner: Name, validation metrics and decision; the test metrics and the package go by the decision.

    Returns:
        The summary on rank 0, an empty dictionary elsewhere.

    Raises:
        GateMissedError: If a `require:` gate is missed; the package exists then.
        VerificationError: If the package disagrees with the model.
    """
    _refit(run, [*members, *(Member(*single["member"]) for single in winner["single"])])
    assembled = assemble(run, members)
    metrics: dict[str, Any] = {"valid": winner["metrics"]}
    winner = {**winner, "single": _single(run, winner["single"])}
    run.prepared.task = decided(run.prepared.task, winner["decision"])
    tested = view(run, "test", assembled) if run.plan.rows["test"] else None
    if tested is not None and len(tested.positions):
        metrics["test"] = _measured(run, assembled, tested, run.prepared.task)
    # The store of every part is built by all ranks together, so also the one that the package's examples come from.
    side = "test" if tested is not None and len(tested.positions) > 1 else "valid"
    shown = tested if side == "test" and tested is not None else view(run, "valid", assembled)
    train = view(run, "train", assembled)
    valid = shown if side == "valid" else view(run, "valid", assembled)
    compressing = _compressing(run, members, assembled)
    made = run.ranks.keep(
        lambda: _package(run, members, winner, assembled, metrics, side, shown, train, valid, compressing)
    )
    return made or {}


def _compressing(run: Run, members: Sequence[Member], assembled: Assembled) -> Any:
    """What compression reads, made by all ranks together; None if the recipe asks for none."""
    if run.recipe.compress is None:
        return None
    from automm.package.chains import pupils, seen

    return seen(run, assembled), pupils(run, members)


def _refit(run: Run, members: Sequence[Member]) -> None:
    """Fits the learners again on training and validation rows; a network keeps its weights."""
    learners = {member.name: member for member in members if "learner" in member.resolved}
    for left, member in zip(range(len(learners), 0, -1), learners.values(), strict=True):
        folder = trial_folder(run.folder, member.name)
        if not run.ranks.broadcast((folder / AGAIN).exists()):
            views = {part: run.bench.view(part, member.resolved) for part in ("train", "valid")}
            done = run.ranks.first(
                partial(refit, member.resolved, run.bench, views, folder, _refit_seconds(run) / left)
            )
            run.event("refit", name=member.name, done=done)


def _refit_seconds(run: Run) -> float:
    """What fitting on folds may take; 0 where folds would mix what the split keeps apart."""
    train, valid = (run.prepared.parts[part].table for part in ("train", "valid"))
    if train is not valid or run.recipe.split.method == "time" or run.stopping():
        return 0.0
    if run.plan.time is None:
        return REFIT_SECONDS
    return max(REFIT_SHARE * (run.began + run.plan.time - time.monotonic()), 0.0)


def _measured(run: Run, assembled: Assembled, tested: View, task: Task) -> dict[str, float | None]:
    """The metrics on the rows of a view."""
    assembled.module.to(device())
    answers, target, _ = evaluate(assembled.module, evaluation_batches(tested, run.ranks), run.ranks)
    assembled.module.cpu()
    return measure(task, answers, target)


def _single(run: Run, best: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the best model of one modality reaches, which fusion has to beat; empty if there is none."""
    for single in best:
        found = {"name": single["member"][0], "valid": single["metrics"], "test": {}}
        assembled = assemble(run, [Member(*single["member"])])
        tested = view(run, "test", assembled) if run.plan.rows["test"] else None
        if tested is not None and len(tested.positions):
            found["test"] = _measured(run, assembled, tested, decided(run.prepared.task, single["decision"]))
        return found
    return {}


def _package(
    run: Run, members: Sequence[Member], winner: Mapping[str, Any], assembled: Assembled, metrics: dict[str, Any],
    side: str, shown: View, train: View, valid: View, compressing: Any = None,
) -> dict[str, Any]:  # fmt: skip
    run.event("exporting", members={member.name: member.weight for member in members})
    part, positions = run.prepared.parts[side], shown.positions[:VERIFY_ROWS]
    rows = raw_rows(run, part, positions)
    example = example_batch(shown, positions)
    graph = answer_graph(assembled.module, shown.processors, example)
    owner = run.plugins.registry.entry("task", run.plan.candidates.task.name).owner
    content = PackageContent(
        name=run.recipe.name,
        task=run.prepared.task,
        target_columns=run.plan.target,
        inputs=[
            PackageInput(outer, item.info, shown.processors[outer], not bool(train.stores[outer].present.all()))
            for outer, (item, _) in assembled.choices.items()
        ],
        graph=graph,
        exporter=_graph_exporter(run),
        golden_rows=rows[:2],
        folder=part.table.folder,
        metrics={key: {name: v for name, v in value.items() if v is not None} for key, value in metrics.items()},
        recipe=run.recipe.public_text(),
        plan=run.plan.model_dump(mode="json"),
        resolved={
            "members": [member._asdict() for member in members],
            "components": {
                name: owner for member in members for name, owner in run.plugins.registry.pins(member.resolved).items()
            },
        },
        data_digest=run.plan.data["train"],
        seed=run.plan.seed,
        task_owner=(owner.distribution, owner.version),
        parent=run.continued.parent if run.continued else None,
        extra={
            drift.FILE: drift_reference(run, members, assembled, {"train": train, "valid": valid}).dump(),
            **resume_files(run, members, assembled, train, side, shown),
        },
    )
    path = write_package(run.folder / "package", content)
    with torch.inference_mode():
        answers = {name: tensor.numpy()[: len(rows)] for name, tensor in graph.module(example).items()}
    files = [status.file for status in run.plugins.statuses if status.file is not None]
    verified = verify_package(path, rows, part.table.folder, answers, content.tolerance, files)
    compression: dict[str, Any] = {}
    if compressing is not None:
        from automm.package.compress import compress

        own, students = compressing
        outcome = compress(run, path, content, assembled.module, members, side, rows, own, students, metrics)
        compression = outcome.table
        metrics, verified = outcome.metrics or metrics, outcome.verified or verified
    exports = _export_folders(run, path)
    latency = measure_latency(path, rows, part.table.folder)
    size = served_bytes(path) / 1e6
    figures = {**metrics.get("test", metrics["valid"]), "latency_ms": latency, "size_mb": size}
    gates = check_gates(run.recipe.require, figures)
    summary = summary_of(
        run, winner, members, metrics, package=str(path), latency_ms=latency, size_mb=size, gates=gates,
        verified_rows=verified.rows, deviations=verified.deviations, exports=exports, compression=compression,
    )  # fmt: skip
    write_json(run.folder / "summary.json", summary)
    manifest = json.loads((path / FILE).read_text("utf-8"))
    run.plugins.call("automm_package_written", run.warn, package=path, manifest=manifest)
    run.event("finished", status=summary["status"], package=str(path), wall_seconds=summary["wall_seconds"])
    missed = [gate for gate in gates if not gate["met"]]
    if missed:
        shown_values = ["not defined" if gate["value"] is None else f"{gate['value']:.4g}" for gate in missed]
        raise GateMissedError(
            "; ".join(
                f"require: {gate['metric']} {gate['operator']} {gate['bound']:g}, it is {value}"
                for gate, value in zip(missed, shown_values, strict=True)
            )
        )
    return summary


def _graph_exporter(run: Run) -> Exporter:
    """The first exporter of the recipe that makes the package's graph, else the first registered one."""
    registry = run.plugins.registry
    named = [registry.get("exporter", name) for name in run.recipe.export]
    for cls in (*named, *(entry.cls for entry in registry.all("exporter"))):
        if cls.makes == "graph":
            return cls(cls.Config())  # type: ignore[no-any-return]
    raise PluginError("no exporter that makes the package's graph is installed")


def _export_folders(run: Run, package: Path) -> dict[str, str]:
    """Has the recipe's other exporters write the package in their formats.

    Returns:
        Exporter → its folder, `export/<name>` in the run folder; one from an earlier run is replaced.

    Raises:
        PluginError: Naming the exporter that raised.
        StorageError: If the disk is full or not writable, or `export/` holds a file of that name.
    """
    registry, written = run.plugins.registry, {}
    for name in run.recipe.export:
        cls: type[Exporter] = registry.get("exporter", name)
        if cls.makes == "folder":
            run.event("export", name=name)
            folder = run.folder / "export" / name.replace(":", "_")
            written[name] = str(export_folder(registry, cls, cls.Config(), package, folder, replace=True))
    return written


def raw_rows(run: Run, part: Part, positions: np.ndarray) -> list[dict[str, Any]]:
    """Raw cells of some rows, column → cell, as a user would send them."""
    columns = list(dict.fromkeys(column for item in run.plan.inputs for column in item.columns))
    cells = part.table.take(columns, part.rows[positions])
    return [{column: cells[column][i] for column in columns} for i in range(len(positions))]


def example_batch(shown: View, positions: np.ndarray) -> dict[str, torch.Tensor]:
    """The same rows as tensors; a single row comes twice, because exporters need two."""
    at = positions if len(positions) > 1 else np.repeat(positions, 2)
    batch = {}
    for slug, store in shown.stores.items():
        batch.update({f"{slug}.{name}": torch.from_numpy(array) for name, array in store.batch(at).items()})
        batch[f"{slug}.present"] = torch.from_numpy(store.present[at])
    return batch


def served_bytes(package: Path) -> int:
    """Size of a package without what only an update reads."""
    resume = package / RESUME
    return sum(file.stat().st_size for file in package.rglob("*") if file.is_file() and not file.is_relative_to(resume))


def measure_latency(package: Path, rows: Sequence[dict[str, Any]], folder: Path) -> float:
    """Median milliseconds of a prediction of one row through the package, on this machine's CPU."""
    predictor = automm.load(package)
    predictor.predict(rows[:1], folder=folder)
    times = []
    for call in range(LATENCY_CALLS):
        start = time.perf_counter()
        predictor.predict([rows[call % len(rows)]], folder=folder)
        times.append(time.perf_counter() - start)
        if sum(times) > LATENCY_SECONDS:
            break
    return 1000 * statistics.median(times)


def check_gates(require: Sequence[GateSpec], values: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """Every gate with the value it is held against: the test metric, or validation where there is no test part."""
    gates = []
    for gate in require:
        value = values.get(gate.metric)
        met = value is not None and COMPARE[gate.operator](value, gate.value)
        gates.append(
            {"metric": gate.metric, "operator": gate.operator, "bound": gate.value, "value": value, "met": met}
        )
    return gates
