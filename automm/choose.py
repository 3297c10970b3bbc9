"""Choosing what goes into the package: the best model, or an ensemble where that pays. Rank 0 only."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from automm.answers import compare_remedies, decide, kept_answers
from automm.core.kinds import Metric
from automm.errors import Interrupted, NothingSucceededError
from automm.run import Run, best_of
from automm.search.ensemble import MEMBERS, POOL, Score, select


def choose(run: Run) -> dict[str, Any]:
    """The winner: {"name", "value", "metrics", "members": [[name, weight, resolved], …], "decision", "imbalance",
    "single": the best model of one modality, if there is one, "passed_over": a better model that costs too much,
    "alone": for an ensemble, the best of its kind without others}.

    A single modality wins over the fused models only by being better, an ensemble only if it pays on rows that did not
    select it. Where models keep the gates on latency and size, only these can win.

    Raises:
        NothingSucceededError: With the distinct errors of the failed trials.
        Interrupted: If the run was stopped before the first trial was done.
    """
    reports = [*run.reports, *run.baselines]
    kept = affordable(run, reports)
    best = best_of(kept, run)
    if best is None:
        errors = dict.fromkeys(str(report["error"]) for report in reports if report["error"])
        if run.stopping() and not errors:
            raise Interrupted("stopped before the first trial was done; run the same command again to go on")
        reasons = list(errors)[:5] or ["the time budget ended before the first one"]
        raise NothingSucceededError("no trial gave a model:\n  " + "\n  ".join(reasons))
    alone = winner = {
        "name": best["name"],
        "value": best["value"],
        "metrics": best["metrics"],
        "members": [[best["name"], 1.0, best["resolved"]]],
    }
    if run.recipe.search is not None and run.recipe.search.ensemble:
        winner = _ensemble(run, best, kept)
    winner["decision"], winner["metrics"] = decide(run, winner["members"])
    if len(winner["members"]) > 1:
        alone["decision"], alone["metrics"] = decide(run, alone["members"])
        winner["alone"] = alone
    winner["passed_over"] = _passed_over(run, best, reports)
    winner["imbalance"] = compare_remedies(run)
    winner["single"] = _single(run)
    run.event("winner", name=winner["name"], metric=run.plan.metric, value=winner["value"])
    if decision := winner["decision"]:
        run.event("decision", metric=decision.get("metric", run.plan.metric), gain=decision.get("gain"))
    return winner


def affordable(run: Run, reports: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The complete trials that keep the gates on latency and size as they were measured; all of them if none does."""
    complete = [report for report in reports if report["state"] == "complete"]
    gates = run.recipe.costs
    kept = [report for report in complete if all(gate.met(report.get(gate.metric)) for gate in gates)]
    return kept or complete


def _passed_over(run: Run, chosen: dict[str, Any], reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The best model, if it is better than the one that is chosen because it costs too much; else empty."""
    best = best_of(reports, run)
    if best is None or not run.better(best["value"], chosen["value"]):
        return {}
    found = {key: best[key] for key in ("name", "value", "latency_ms", "size_mb")}
    run.event("passed_over", **found, metric=run.plan.metric, gates=[gate.text for gate in run.recipe.costs])
    return found


def _single(run: Run) -> list[dict[str, Any]]:
    """The best model of one modality, read as well as can be: {"member", "decision", "metrics"}."""
    best = best_of(run.baselines, run)
    if best is None:
        return []
    member = [best["name"], 1.0, best["resolved"]]
    decision, metrics = decide(run, [member])
    return [{"member": member, "decision": decision, "metrics": metrics}]


EXPORT_SECONDS = 12.0
"""What it may take to export, verify and measure one more model."""


def _members(run: Run) -> int:
    """How many models can still be exported in the time that is left."""
    if run.plan.time is None:
        return MEMBERS
    again = EXPORT_SECONDS if run.recipe.costs else 0.0  # an ensemble that misses a gate makes room for a single model
    return min(MEMBERS, int((run.began + run.plan.time - time.monotonic() - again) / EXPORT_SECONDS))


ALIKE = 3
"""Most candidates of an ensemble with the same learner and inputs: what is alike adds little."""


def _varied(reports: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The best reports, few of a kind."""
    counts: Counter[tuple[str, ...]] = Counter()
    found = []
    for report in reports:
        resolved = report["resolved"]
        key = (str(resolved.get("learner", {}).get("name")), *resolved["encoders"])
        counts[key] += 1
        if counts[key] <= ALIKE:
            found.append(report)
    return found


def _ensemble(run: Run, best: dict[str, Any], reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """An ensemble of the best of some complete trials and baselines, or the one that does without others."""
    import torch

    from automm.train.module import measure

    complete = sorted(reports, key=lambda report: report["value"], reverse=run.plan.maximize)
    pool, task = [], run.prepared.task
    _, rows, target = kept_answers(run, best["name"])
    for report in _varied(complete)[:POOL]:
        kept = kept_answers(run, report["name"])
        if torch.equal(kept.rows, rows):  # a trial that refused other cells cannot be averaged row by row
            pool.append((report, kept.answers))
    metric = task.metrics()[run.plan.metric]

    def scorer(metric: Metric) -> Score:
        sign = 1.0 if metric.maximize else -1.0

        def score(answers: Any, at: np.ndarray) -> float:
            value = metric.compute({name: tensor[at] for name, tensor in answers.items()}, target[at])
            return sign * value if np.isfinite(value) else -np.inf

        return score

    guide = scorer(task.metrics()[metric.guide]) if metric.guide else None
    answers = [answers for _, answers in pool]
    weights = select(answers, len(target), scorer(metric), task.average, run.plan.seed, _members(run), guide)
    chosen = [(pool[at][0], weight) for at, weight in enumerate(weights) if weight > 0]
    metrics = measure(task, task.average([pool[at][1] for at in range(len(weights))], weights), target)
    return {
        "name": "ensemble" if len(chosen) > 1 else chosen[0][0]["name"],
        "value": metrics[run.plan.metric],
        "metrics": metrics,
        "members": [[report["name"], weight, report["resolved"]] for report, weight in chosen],
    }
