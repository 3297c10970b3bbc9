"""Training the challenger: the champion's models again, on new and kept rows, networks from the champion's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from automm.answers import decide
from automm.core.cells import as_text, is_null
from automm.core.kinds import Task
from automm.core.processor import Processor
from automm.data.arrays import InputCells
from automm.data.infer import Inference
from automm.data.table import Table
from automm.errors import DataError, GateMissedError, NothingSucceededError
from automm.package.deliver import deliver
from automm.plan.prepare import Part, Prepared, coded
from automm.plugin.blame import blamed
from automm.report.folder import trial_folder, write_json
from automm.run import Continued, Member, Run, stop_requests
from automm.train.bench import Bench
from automm.train.learn import run_learner
from automm.train.ranks import Ranks
from automm.train.run import run_trial
from automm.update import kept, rows
from automm.update.run import Update
from automm.update.warm import warm_start

NEW_CLASS = 5
"""Rows that a class must have before it becomes one of the model's classes."""
GENTLE = 0.5
"""Learning rates of a network that goes on, as a share of those it began with."""
SHORTER = 0.5
"""Its epochs, as a share."""
FEWEST_EPOCHS = 3


@dataclass
class Challenger:
    """A trained and packaged challenger.

    Attributes:
        package: Its folder.
        task: Its task, with the decision.
        judged: Rows of the joint table that judge.
        counts: Rows by their part in the update.
        new_classes: Classes that the champion does not know.
        warm: Member → whether it began with the champion's weights, or why not.
        gate: The message of a missed gate; empty: all are met.
        metrics: Its metrics on the validation and test rows.
    """

    package: Path
    task: Task
    judged: np.ndarray
    counts: dict[str, int]
    new_classes: list[str]
    warm: dict[str, str]
    gate: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)


def train_challenger(state: Update, new: Table, joint: rows.Joint) -> Challenger:
    """Trains, packages and verifies the challenger.

    Args:
        state: The update.
        new: The new rows by themselves.
        joint: All rows.

    Raises:
        DataError: If there are too few new rows, or a known class is in none of the rows.
        NothingSucceededError: If a member cannot be trained.
    """
    task, added = continued_task(state.task, joint, state.package.manifest.target.columns)
    cells = joint.table.take(state.package.manifest.target.columns, None)
    targets = [str(row) for row in zip(*cells.values(), strict=True)]
    media = {c for item in state.package.inputs if item.processor.media for c in item.columns}
    compared = [column for column in joint.table.columns if column not in media]
    split = rows.split(
        new, joint, state.recipe.split, targets, state.resume.stand_for, state.plan.seed, task.stratified, compared
    )  # fmt: skip
    sides = {
        "train": split.train, "valid": split.valid, "test": np.sort(np.concatenate([split.judged, joint.held_rows])),
    }  # fmt: skip
    registry, target = state.plugins.registry, state.plan.target
    parts = {name: coded(joint.table, at, target, task, registry, state.ledger) for name, at in sides.items()}
    run, warm = _run(state, parts, task, joint)
    good = {name: _usable(run, state, name) for name in parts}
    if any(len(good[name]) < len(part.rows) for name, part in parts.items()):
        parts = {name: _only(part, good[name]) for name, part in parts.items()}
        run, warm = _run(state, parts, task, joint)
    for name, part in parts.items():
        if not len(part.rows):
            raise DataError(f"{new.name}: no row is left for {name}; see {state.folder / 'bad_rows.csv'}")
    state.ledger.write(state.folder)
    state.ledger.check(state.recipe.data.max_bad_rows, joint.table.rows)
    replayed = np.unique(split.train[split.train >= joint.new])
    counts = {
        "new_train": int((split.train < joint.new).sum()),
        "kept_train": len(replayed),
        "repeats": split.repeats,
        "valid": len(split.valid),
        "new_judged": len(split.judged),
        "old_judged": joint.held,
        "copies": split.copies,
    }
    if split.copies:
        state.log.event("warning", text=f"{split.copies:,} new rows are among those that the package keeps")
    state.log.event("joined", rows=counts, new_classes=added)
    with stop_requests(run):
        members = [_trained(run, state, at, warm) for at in range(len(state.resume.members))]
        decision, metrics = decide(run, members)
        winner: dict[str, Any] = {
            "name": "update", "value": metrics[run.plan.metric], "metrics": metrics, "decision": decision,
            "imbalance": {}, "single": [],
        }  # fmt: skip
        gate = ""
        try:
            summary = deliver(run, members, winner)
            reached = {"valid": summary["valid"], "test": summary["test"]}
        except GateMissedError as missed:
            gate, reached = str(missed), {"valid": metrics, "test": {}}
    return Challenger(
        run.folder / "package", run.prepared.task, _judged(split.judged, parts["test"]), counts, added,
        {member.name: warm.get(member.name, "") for member in members}, gate, reached,
    )  # fmt: skip


def _judged(judged: np.ndarray, part: Part) -> np.ndarray:
    return judged[np.isin(judged, part.rows)]


def continued_task(task: Task, joint: rows.Joint, columns: tuple[str, ...]) -> tuple[Task, list[str]]:
    """The champion's task, or one that knows the new classes, too.

    Returns:
        The task without a decision, and the names of the new classes. A class with fewer than `NEW_CLASS` rows is not
        taken for one: its rows are bad rows.

    Raises:
        DataError: If a known class is in none of the rows.
    """
    cls, plain = type(task), {key: value for key, value in task.state.items() if key != "decision"}
    same = cls(task.config, plain)
    known = set(same.target().names)
    if not known:
        return same, []
    cells = joint.table.take(columns, None)
    fresh = cls(task.config)
    fresh.fit(cells)
    target = fresh.target()
    counts = dict(zip(target.names, target.counts, strict=True))
    rare = {name for name in counts if name not in known and counts[name] < NEW_CLASS}
    if rare and len(columns) == 1:
        column, values = columns[0], cells[columns[0]]
        kept_cells = [cell for cell in values if is_null(cell) or as_text(cell) not in rare]
        fresh = cls(task.config)
        fresh.fit({column: kept_cells})
        target = fresh.target()
    added = [name for name in target.names if name not in known]
    if not added:
        return same, []
    lost = [name for name in same.target().names if name not in target.names]
    if lost:
        raise DataError(
            f"the target has new classes ({', '.join(added[:5])}), but no row of the known class {lost[0]!r} is at "
            "hand; add some to the new rows"
        )
    return fresh, added


def _run(state: Update, parts: dict[str, Part], task: Task, joint: rows.Joint) -> tuple[Run, dict[str, str]]:
    """The state of the challenger's training, with the champion's processors where networks go on; and which do."""
    folder, registry = state.folder / "challenger", state.plugins.registry
    counts = dict(zip(task.target().names, task.target().counts, strict=True)) if task.target().counts else {}
    plan = state.plan.model_copy(
        update={
            "rows": {name: len(part.rows) for name, part in parts.items()}, "classes": counts,
            "data": dict.fromkeys(parts, joint.table.digest), "warnings": (), "time": None,
        }
    )  # fmt: skip
    # A repeated row must not stand on both sides when learners are fitted on folds.
    parts = {name: part._replace(group=part.rows) for name, part in parts.items()}
    ranks = Ranks()
    bench = Bench(registry, plan, parts, task, folder / "work", state.ledger, ranks)
    inputs = tuple(item.info for item in plan.inputs)
    prepared = Prepared(parts, {}, Inference(inputs, {}, {}), task, plan.task_reason, [], state.ledger)
    stand_for = np.ones(joint.table.rows)
    if joint.kept:
        stand_for[joint.kept_rows] = max(state.resume.stand_for / joint.kept, 1.0)
    run = Run(
        state.recipe, state.plugins, ranks, folder, state.log, plan, prepared, bench, state.began,
        continued=Continued(state.package.digest, stand_for),
    )  # fmt: skip
    return run, _take_processors(state, run)


def _take_processors(state: Update, run: Run) -> dict[str, str]:
    """Gives the bench the champion's processors, extended by the training rows, for the networks that go on."""
    warm: dict[str, str] = {}
    for at, (name, _, resolved) in enumerate(state.resume.members):
        if "learner" in resolved:
            warm[name] = "fitted anew: it is no network"
            continue
        if not state.resume.weights or not kept.read_weights(state.package, at):
            warm[name] = "trained anew: the package keeps no weights"
            continue
        warm[name] = "continued"
        for slug, choice in resolved["encoders"].items():
            processor = _champion_processor(state, run, slug, choice)
            if processor is None:
                warm[name] = f"trained anew: the processor of {slug} is another one now"
                break
            part, item = run.prepared.parts["train"], next(item for item in run.plan.inputs if item.slug == slug)
            extended = type(processor)(processor.config, processor.state)
            with blamed(state.plugins.registry, type(extended), "extend"):
                extended.extend(InputCells(extended, item.info, part.table, part.rows))
            run.bench.take(slug, choice, extended)
    return warm


def _champion_processor(state: Update, run: Run, slug: str, choice: Mapping[str, Any]) -> Processor | None:
    """The champion's processor of an input for an encoder choice; None if that asks for another one."""
    item = next(item for item in run.plan.inputs if item.slug == slug)
    cls = state.plugins.registry.get("encoder", choice["name"])
    wanted = cls.processor(cls.Config.model_validate(choice["config"]), item.info)
    for part, given in zip(state.package.manifest.inputs, state.package.inputs, strict=True):
        processor: Processor = given.processor
        same = (wanted.op, wanted.version, wanted.config) == (processor.op, processor.version, processor.config)
        if same and part.name == item.name:
            return processor
    return None


def _usable(run: Run, state: Update, part: str) -> np.ndarray:
    """Positions of the rows that every member can read."""
    good = np.arange(len(run.prepared.parts[part].rows))
    for _, _, resolved in state.resume.members:
        good = np.intersect1d(good, run.bench.view(part, resolved).positions)
    return good


def _only(part: Part, positions: np.ndarray) -> Part:
    return part._replace(rows=part.rows[positions], target=part.target[positions], group=None)


def _trained(run: Run, state: Update, at: int, warm: dict[str, str]) -> Member:
    """Trains one member of the challenger."""
    name, weight, resolved = state.resume.members[at]
    folder = trial_folder(run.folder, name)
    if "learner" in resolved:
        report = run_learner(name, resolved, run.bench, folder, stopping=run.stopping)
    else:
        went_on = warm[name] == "continued"
        anew: list[str] = []

        def start(model: Any) -> None:
            if not went_on:
                return
            processors = {}
            for slug, choice in resolved["encoders"].items():
                found = _champion_processor(state, run, slug, choice)
                assert found is not None
                processors[slug] = found
            names = state.package.manifest.target.names, run.prepared.task.target().names
            weights = kept.read_weights(state.package, at)
            anew.extend(warm_start(model, weights, processors, names, state.plugins.registry))

        used = {**resolved, "train": gentle(resolved["train"])} if went_on else resolved
        report, _ = run_trial(name, used, run.bench, folder, stopping=run.stopping, start=start)
        if anew:
            warm[name] = f"continued; {len(anew)} tensors begin anew ({', '.join(anew[:3])})"
    write_json(folder / "report.json", report.json())
    facts = {key: report.json()[key] for key in ("name", "state", "value", "epochs", "seconds", "error")}
    run.event("trial", metric=run.plan.metric, best=False, what=warm[name], **facts)
    if report.state != "complete":
        raise NothingSucceededError(f"the challenger's model {name} cannot be trained: {report.error or report.ended}")
    return Member(name, weight, resolved)


def gentle(train: Mapping[str, Any]) -> dict[str, Any]:
    """Training settings of a network that goes on: smaller steps, fewer epochs."""
    return {
        **train,
        "learning_rate": GENTLE * train["learning_rate"],
        "pretrained_learning_rate": GENTLE * train["pretrained_learning_rate"],
        "epochs": max(FEWEST_EPOCHS, round(SHORTER * train["epochs"])),
    }
