"""What the trials' answers on the validation rows tell: how they are best read, and what each imbalance remedy did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from automm.core.kinds import Task
from automm.plan.candidates import PLAIN, WEIGHTS
from automm.plan.model import Plan
from automm.plugin.blame import blamed
from automm.report.folder import trial_folder
from automm.run import Run

if TYPE_CHECKING:
    from torch import Tensor


class Kept(NamedTuple):
    """A trial's answers on the validation rows.

    Attributes:
        answers: By name, [rows, …].
        rows: Row numbers [rows], ascending.
        target: Coded target [rows] or [rows, size].
    """

    answers: dict[str, Tensor]
    rows: Tensor
    target: Tensor


def kept_answers(run: Run, name: str) -> Kept:
    """The answers of a trial (or baseline) that completed."""
    import torch

    from automm.train.run import ROW
    from automm.train.weights import load_weights

    answers = load_weights(trial_folder(run.folder, name) / "answers.safetensors")
    rows, valid = answers.pop(ROW), run.prepared.parts["valid"]
    return Kept(answers, rows, torch.from_numpy(valid.target[np.searchsorted(valid.rows, rows.numpy())]))


def decide(run: Run, members: Sequence[Sequence[Any]]) -> tuple[dict[str, Any], dict[str, float | None]]:
    """How the winner's answers are read.

    Args:
        run: The run.
        members: The winner's models: name, weight, resolved configuration.

    Returns:
        The task's decision (empty for the usual reading), and the validation metrics with it.
    """
    from automm.train.module import measure

    task, kept = run.prepared.task, [kept_answers(run, name) for name, _, _ in members]
    answers = kept[0].answers
    if len(members) > 1:
        answers = task.average([one.answers for one in kept], [weight for _, weight, _ in members])
    target = kept[0].target
    arrays = {name: tensor.numpy() for name, tensor in answers.items()}
    with blamed(run.plugins.registry, type(task), "decide"):
        decision = task.decide(arrays, target.numpy(), run.plan.metric, run.plan.seed)
    return decision, measure(decided(task, decision), answers, target)


def decided(task: Task, decision: Mapping[str, Any]) -> Task:
    """The task that reads answers by a decision; the task itself for an empty one."""
    return type(task)(task.config, {**task.state, "decision": dict(decision)}) if decision else task


def remedy_of(resolved: Mapping[str, Any], plan: Plan) -> str:
    """The imbalance remedy of a trial's configuration, in the words of the recipe."""
    if "loss" not in resolved:
        return PLAIN if resolved["sampling"] == PLAIN else WEIGHTS
    used = resolved["loss"]["name"], resolved["sampling"]
    found = {(choice.component.name, choice.sampling): choice.remedy for choice in plan.candidates.loss}
    return found.get(used, PLAIN)


def compare_remedies(run: Run) -> dict[str, Any]:
    """Remedy → the best trial with it, its metric, and how each class fared, on the validation rows.

    Answers are read in the usual way, without a tuned decision. Empty if trials used one remedy only, or the target has
    no classes.
    """
    best: dict[str, dict[str, Any]] = {}
    for report in run.reports:
        if report["state"] == "complete":
            remedy = remedy_of(report["resolved"], run.plan)
            if run.better(report["value"], best[remedy]["value"] if remedy in best else None):
                best[remedy] = report
    if len(best) < 2:
        return {}
    task, found = run.prepared.task, {}
    for remedy, report in best.items():
        kept = kept_answers(run, report["name"])
        with blamed(run.plugins.registry, type(task), "by_class"):
            classes = task.by_class({name: t.numpy() for name, t in kept.answers.items()}, kept.target.numpy())
        if not classes:
            return {}
        found[remedy] = {"trial": report["name"], "value": report["value"], "classes": classes}
    return found
