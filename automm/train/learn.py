"""Fitting a learner on fixed descriptors: the counterpart of a training run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from automm.core.kinds import Encoder
from automm.core.learner import FOLDS, Learner, Rows
from automm.errors import AutommError, StorageError
from automm.model.learned import Averaged, LearnedModel, build_learned, pooled
from automm.plugin.blame import blamed
from automm.train.bench import Bench, View
from automm.train.cost import cost_of
from automm.train.module import measure
from automm.train.ranks import Ranks
from automm.train.report import TrialReport
from automm.train.run import ROW, describe_error, device, evaluation_batches
from automm.train.weights import save_weights

AGAIN = "refit.safetensors"
"""The weights of a learner that was fitted again on training and validation rows."""
MEMORY = 4 * 2**30
"""Bytes of descriptors that a learner may hold at once."""


def run_learner(
    name: str,
    resolved: dict[str, Any],
    bench: Bench,
    folder: Path,
    *,
    deadline: float | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> TrialReport:
    """Fits a learner's configuration on rank 0 while the others wait.

    Args:
        name: For the report.
        resolved: The configuration, with `learner` in place of fusion, loss and train.
        bench: Data, task and registry.
        folder: The trial's folder; the learner's weights and its validation answers are written there.
        deadline: `time.monotonic()` at which it ends with what there is.
        stopping: Asks whether the user wants the run to end.

    Returns:
        The report. A failure is a failed report, never an exception.

    Raises:
        StorageError: If the disk is full or not writable: the next trial could not write, either.
    """
    began = time.monotonic()
    report = TrialReport(name, "failed", resolved)
    error: Exception | None = None
    views = {}
    try:
        views = {part: bench.view(part, resolved) for part in ("train", "valid")}
    except Exception as problem:
        error = problem
    failures = [failure for failure in bench.ranks.gather(describe_error(error)) if failure]
    if not failures:
        try:
            done = bench.ranks.first(
                lambda: _fit(resolved, bench, views, folder, lambda: stopping() or _over(deadline))
            )
            report.metrics, report.value = done["metrics"], done["metrics"].get(bench.metric)
            report.parameters = report.trained = done["parameters"]
            report.checkpoints = done["checkpoints"]
            report.latency_ms, report.size_mb = done["cost"]
            report.settled, report.epochs, report.best_epoch = done["settled"], 1, 0
        except Exception as problem:
            failures = [describe_error(problem)]
    for kind, text in failures:
        if kind == StorageError.__name__:
            raise StorageError(text)
    if failures:
        report.error = failures[0][1]
    elif report.value is None:
        report.error = f"{bench.metric} is not defined on the validation rows"
    else:
        report.state = "complete"
    report.seconds = round(time.monotonic() - began, 3)
    return report


def refit(
    resolved: Mapping[str, Any], bench: Bench, views: Mapping[str, View], folder: Path, seconds: float, *, folds: bool
) -> str:
    """Fits a learner again on training and validation rows. Rank 0 only.

    Where folds may be drawn and the time allows it, one learner per fold is fitted on the other folds, stops early on
    its own, and their outputs are averaged: on small tables that is worth more than any other setting. Else one learner
    is fitted on all rows, with what validation settled, or the trial's stays.

    Args:
        resolved: The trial's configuration.
        bench: Task and registry.
        views: Its training and validation rows.
        folder: The trial's folder; the weights are written there.
        seconds: What it may take.
        folds: Whether folds may be drawn.

    Returns:
        What was done, for the log.
    """
    if any(not len(view.positions) for view in views.values()):
        return "kept: it has no training or no validation rows"
    report = json.loads((folder / "report.json").read_text("utf-8"))
    settled, once = report["settled"], report["seconds"]
    if once > seconds:
        return f"kept: {once:.0f} s to fit it again are not left"
    encoders, make = build_learned(
        resolved, views["train"].processors, bench.task, bench.registry, bench.checkpoints.encoder
    )
    parts, widths = zip(*(_rows(bench, part, view, encoders, resolved) for part, view in views.items()), strict=True)
    joint = _joined(parts)
    learners = _folds(make, widths[0], joint, settled, bench, seconds) if folds and 2 * once <= seconds else []
    if not learners:
        learners = [make(widths[0])]
        with blamed(bench.registry, type(learners[0]), "fit"):
            learners[0].fit(joint, None, settled, lambda: False)
    model = LearnedModel(encoders, _joint(learners, bench), bench.registry)
    save_weights(model.weights(), folder / AGAIN)
    return f"fitted on {len(learners)} folds" if len(learners) > 1 else "fitted on all rows"


def _joint(learners: Sequence[Learner], bench: Bench) -> Learner | Averaged:
    """Learners as one."""
    if len(learners) == 1:
        return learners[0]
    cls = bench.registry.get("learner", learners[0].name)
    with blamed(bench.registry, cls, "merged"):
        return cls.merged(learners) or Averaged(learners)


def _joined(parts: Sequence[Rows]) -> Rows:
    """The rows of several parts, one after the other; groups only if all have them."""
    groups = [part.group for part in parts if part.group is not None]
    features, target, weight = (np.concatenate(values) for values in zip(*(part[:3] for part in parts), strict=True))
    return Rows(features, target, weight, np.concatenate(groups) if len(groups) == len(parts) else None)


def _folds(
    make: Callable[[Mapping[str, int]], Learner],
    widths: Mapping[str, int],
    rows: Rows,
    settled: Mapping[str, Any],
    bench: Bench,
    seconds: float,
) -> list[Learner]:
    """A learner per fold, each fitted on the other folds, as many as the time allows; none if that is one."""
    folds = rows.folds(FOLDS, bench.plan.seed)
    began, learners = time.monotonic(), []
    numbers = np.unique(folds)
    for done, fold in enumerate(numbers if len(numbers) > 1 else ()):
        if done and (time.monotonic() - began) * (done + 1) / done > seconds:
            break
        learner = make(widths)
        with blamed(bench.registry, type(learner), "fit"):
            learner.fit(rows.take(folds != fold), rows.take(folds == fold), settled, lambda: False)
        learners.append(learner)
    return learners if len(learners) > 1 else []


def _over(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() > deadline


def _fit(
    resolved: dict[str, Any], bench: Bench, views: Mapping[str, View], folder: Path, stop: Callable[[], bool]
) -> dict[str, Any]:
    """Describes, fits, measures, writes. Rank 0 only."""
    encoders, make = build_learned(
        resolved, views["train"].processors, bench.task, bench.registry, bench.checkpoints.encoder
    )
    train, widths = _rows(bench, "train", views["train"], encoders, resolved)
    valid, _ = _rows(bench, "valid", views["valid"], encoders, resolved)
    learner = make(widths)
    with blamed(bench.registry, type(learner), "fit"):
        settled = learner.fit(train, valid, {}, stop)
    with torch.no_grad(), blamed(bench.registry, type(learner), "forward"):
        output = learner(torch.from_numpy(valid.features))
    model = LearnedModel(encoders, learner, bench.registry)
    answers = bench.task.answer(output)
    view = views["valid"]
    target = torch.from_numpy(view.target[view.positions])
    rows = torch.from_numpy(next(iter(view.stores.values())).rows[view.positions])
    weights = model.weights()
    save_weights(weights, folder / "weights.safetensors")
    save_weights({**answers, ROW: rows}, folder / "answers.safetensors")
    return {
        "metrics": measure(bench.task, answers, target),
        "parameters": sum(tensor.numel() for tensor in weights.values()),
        "cost": list(cost_of(model, bench, view)),
        "checkpoints": bench.checkpoints.digests(resolved, views["train"].processors),
        "settled": settled,
    }


def _rows(
    bench: Bench, part: str, view: View, encoders: Mapping[str, Encoder], resolved: Mapping[str, Any]
) -> tuple[Rows, dict[str, int]]:
    """Descriptors, targets and weights of a part's usable rows, and the width of each input's descriptors."""
    features = {slug: _described(bench, view, slug, encoder) for slug, encoder in encoders.items()}
    matrix = np.concatenate(list(features.values()), 1)
    target = bench.task.model_target(torch.from_numpy(view.target[view.positions])).numpy()
    weight = np.ones(len(matrix), np.float32)
    if resolved["sampling"] != "none":
        drawn = bench.sampling(view, resolved["sampling"])["weights"]
        weight = (drawn / drawn.mean()).astype(np.float32)
    group = bench.parts[part].group
    own = None if group is None else group[view.positions]
    return Rows(matrix, target, weight, own), {slug: values.shape[1] for slug, values in features.items()}


@torch.no_grad()
def _described(bench: Bench, view: View, slug: str, encoder: Encoder) -> np.ndarray:
    """An input's descriptors, float32 [rows, width]."""
    own = View({slug: view.stores[slug]}, {}, view.target, view.positions)
    encoder.to(device()).eval()
    pieces = []
    for batch in evaluation_batches(own, Ranks()):
        arrays = {key.removeprefix(f"{slug}."): value for key, value in batch.items() if key.startswith(f"{slug}.")}
        present = arrays.pop("present")
        pieces.append(pooled(encoder, arrays, present, bench.registry).float().cpu().numpy())
        if sum(piece.nbytes for piece in pieces) > MEMORY:
            raise AutommError(f"the descriptors of {slug} take more than {MEMORY / 2**30:.0f} GiB of memory")
    encoder.cpu()
    return np.concatenate(pieces)
