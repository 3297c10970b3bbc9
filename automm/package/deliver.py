"""From the chosen models to a verified package and the run's summary."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from automm.answers import decided
from automm.core.kinds import Exporter
from automm.errors import GateMissedError, PluginError
from automm.model.assemble import answer_graph
from automm.package.assembled import VERIFY_ROWS, Assembled, assemble, example_batch, raw_rows, tested_answers, view
from automm.package.champion import champion
from automm.package.content import PackageContent, PackageInput
from automm.package.exports import export_folder
from automm.package.gates import check_gates, measure_latency, missed, served_bytes
from automm.package.verify import VerificationReport, verify_package
from automm.package.write import write_package
from automm.report.folder import trial_folder, write_json
from automm.report.page import write_page
from automm.report.summary import summary_of
from automm.run import Member, Run
from automm.runtime import drift
from automm.runtime.manifest import FILE
from automm.train.bench import View
from automm.train.learn import AGAIN, refit
from automm.train.module import measure
from automm.update.kept import resume_files
from automm.update.reference import drift_reference

REFIT_SECONDS = 300.0
"""What fitting a learner again may take without a time budget."""


@dataclass
class Made:
    """A package that was written, verified and measured.

    Attributes:
        path: Its folder.
        metrics: Part → metrics.
        latency_ms: Of one row.
        size_mb: Of what is served.
        gates: As `check_gates` gives them.
        verified: What its verification found.
        compression: The table of compression; empty without.
    """

    path: Path
    metrics: dict[str, Any]
    latency_ms: float
    size_mb: float
    gates: list[dict[str, Any]]
    verified: VerificationReport
    compression: dict[str, Any]


def deliver(run: Run, members: Sequence[Member], winner: Mapping[str, Any]) -> dict[str, Any]:
    """Measures the winner on the test part, writes and verifies the package, holds the gates.

    If the package of an ensemble misses a gate on latency or size, the best model alone is delivered in its place.

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
    plain, task = run.prepared.task, decided(run.prepared.task, winner["decision"])
    assembled = assemble(run, members)
    metrics: dict[str, Any] = {"valid": winner["metrics"]}
    tested = view(run, "test", assembled) if run.plan.rows["test"] else None
    own = None
    if tested is not None and len(tested.positions):
        own = tested_answers(run, assembled, tested, task)
        metrics["test"] = measure(task, own.answers, own.target)
    single = champion(run, winner, members, task, own)
    run.prepared.task = task
    # The store of every part is built by all ranks together, so also the one that the package's examples come from.
    side = "test" if tested is not None and len(tested.positions) > 1 else "valid"
    shown = tested if side == "test" and tested is not None else view(run, "valid", assembled)
    train = view(run, "train", assembled)
    valid = shown if side == "valid" else view(run, "valid", assembled)
    compressing = _compressing(run, members, assembled)
    made = run.ranks.keep(lambda: _package(run, members, assembled, metrics, side, shown, train, valid, compressing))
    alone = winner.get("alone")
    if alone and (left := run.ranks.first(partial(_left, run, members, winner, made))):
        run.prepared.task = plain
        facts = {key: alone[key] for key in ("name", "value", "metrics", "decision")}
        single_model = {**winner, **facts, "alone": None, "left": left}
        return deliver(run, [Member(*member) for member in alone["members"]], single_model)
    summary = run.ranks.keep(partial(_finished, run, members, {**winner, "single": single}, made))
    return summary or {}


def _left(run: Run, members: Sequence[Member], winner: Mapping[str, Any], made: Made | None) -> dict[str, Any]:
    """Why an ensemble is not delivered: the gates on latency and size that its package misses. Rank 0 only."""
    assert made is not None
    costs = [gate.metric for gate in run.recipe.costs]
    gates = [gate for gate in made.gates if gate["metric"] in costs and not gate["met"]]
    if not gates:
        return {}
    left = {
        "members": {member.name: member.weight for member in members}, "value": winner["value"],
        "latency_ms": made.latency_ms, "size_mb": made.size_mb, "reason": missed(gates),
    }  # fmt: skip
    run.event("ensemble_left", **left, instead=winner["alone"]["name"])
    return left


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
            seconds = REFIT_SECONDS
            if run.refit_deadline is not None:
                seconds = max(run.refit_deadline - time.monotonic(), 0.0) / left
            done = run.ranks.first(
                partial(refit, member.resolved, run.bench, views, folder, seconds, folds=_may_fold(run))
            )
            run.event("refit", name=member.name, done=done)


def _may_fold(run: Run) -> bool:
    """Whether training and validation rows may be mixed: not where the split keeps them apart for a reason."""
    train, valid = (run.prepared.parts[part].table for part in ("train", "valid"))
    return train is valid and run.recipe.split.method != "time" and not run.stopping()


def _package(
    run: Run, members: Sequence[Member], assembled: Assembled, metrics: dict[str, Any], side: str, shown: View,
    train: View, valid: View, compressing: Any = None,
) -> Made:  # fmt: skip
    """Writes, verifies, compresses and measures the package. Rank 0 only."""
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
    latency = measure_latency(path, rows, part.table.folder)
    size = served_bytes(path) / 1e6
    figures = {**metrics.get("test", metrics["valid"]), "latency_ms": latency, "size_mb": size}
    return Made(path, metrics, latency, size, check_gates(run.recipe.require, figures), verified, compression)


def _finished(run: Run, members: Sequence[Member], winner: Mapping[str, Any], made: Made | None) -> dict[str, Any]:
    """Writes the exports and the summary, and holds the gates. Rank 0 only."""
    assert made is not None
    exports = _export_folders(run, made.path)
    summary = summary_of(
        run, winner, members, made.metrics, package=str(made.path), latency_ms=made.latency_ms, size_mb=made.size_mb,
        gates=made.gates, verified_rows=made.verified.rows, deviations=made.verified.deviations, exports=exports,
        compression=made.compression,
    )  # fmt: skip
    write_json(run.folder / "summary.json", summary)
    write_page(run.folder / "report.html", summary, [*run.reports, *run.baselines])
    manifest = json.loads((made.path / FILE).read_text("utf-8"))
    run.plugins.call("automm_package_written", run.warn, package=made.path, manifest=manifest)
    run.event("finished", status=summary["status"], package=str(made.path), wall_seconds=summary["wall_seconds"])
    if told := missed(made.gates):
        raise GateMissedError(told)
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
