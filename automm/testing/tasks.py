"""Checks of tasks and of the decoders they come with, on the task's own examples."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from automm.api import nn, torch
from automm.core.features import Features
from automm.core.kinds import Task
from automm.core.processor import BadCells
from automm.errors import DataError
from automm.testing import modules
from automm.testing.subject import ROWS, Subject, installed, is_operation, take, without

if TYPE_CHECKING:
    from torch import Tensor

WIDTH = 8


def _cells(subject: Subject, seed: int = 0) -> dict[str, list[Any]]:
    cells: dict[str, list[Any]] | None = subject.cls.examples(ROWS, seed)
    assert cells is not None, f"write `examples` for task {subject.cls.name!r}"
    return cells


def _make(subject: Subject, config: Any = None) -> Any:
    task: Task = subject.cls(config or subject.config)
    task.fit(_cells(subject))
    return task


def _joint(rows: int, seed: int = 0) -> Features:
    """Joint features as a fusion gives them."""
    return Features.vector(torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed)))


def _answers(task: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)
    found: dict[str, Tensor] = task.answer(task.head(WIDTH).eval()(_joint(ROWS)))
    return {name: answer.detach() for name, answer in found.items()}


def codes_every_row(subject: Subject) -> None:
    """`encode` gives finite numbers, one row per cell, and the same for one cell at a time."""
    task, cells = _make(subject), _cells(subject)
    codes = task.encode(cells)
    assert isinstance(codes, np.ndarray) and len(codes) == ROWS, f"encode must give an array of {ROWS} rows"
    assert np.isfinite(codes).all(), "encode gives NaN or infinity"
    alone = np.concatenate([task.encode(take(cells, [row])) for row in range(ROWS)])
    np.testing.assert_array_equal(alone, codes, "a cell alone must be coded as in a batch")


def describes_its_target(subject: Subject) -> None:
    """`target` is of the declared kind, with sizes that fit each other."""
    target = _make(subject).target()
    assert target.kind == subject.cls.target_kind, f"target().kind is {target.kind!r}, not target_kind"
    assert target.size >= 1 and target.rows == ROWS, f"size {target.size}, rows {target.rows} of {ROWS}"
    assert len(target.names) in (0, target.size), f"{len(target.names)} names for size {target.size}"
    assert len(target.counts) == len(target.names), f"{len(target.counts)} counts for {len(target.names)} names"


def refuses_missing_targets(subject: Subject) -> None:
    """Rows without a target are named with a reason, and an empty target is a DataError."""
    task, cells = _make(subject), _cells(subject)
    try:
        task.encode(without(cells, (1, 4)))
    except BadCells as problem:
        assert set(problem.reasons) == {1, 4}, f"rows 1 and 4 are empty, encode names {sorted(problem.reasons)}"
        assert all(problem.reasons.values()), "every bad row needs a reason"
    else:
        raise AssertionError("encode must raise BadCells for missing targets")
    try:
        subject.cls(subject.config).fit(without(cells, range(ROWS)))
    except DataError as problem:
        assert str(problem), "the DataError needs a message"
    else:
        raise AssertionError("fit must raise DataError if every target is missing")


def state_is_json(subject: Subject) -> None:
    """The fitted state survives strict JSON."""
    task, cells = _make(subject), _cells(subject)
    again = subject.cls(subject.config, json.loads(json.dumps(task.state, allow_nan=False)))
    assert dataclasses.asdict(again.target()) == dataclasses.asdict(task.target()), "target() changes in JSON"
    np.testing.assert_array_equal(again.encode(cells), task.encode(cells), "encode changes in JSON")


def head_fits_the_target(subject: Subject) -> None:
    """The head gives [batch, size] from one token and from several, and trains."""
    task = _make(subject)
    torch.manual_seed(0)
    head = task.head(WIDTH)
    tokens = torch.randn(5, 3, WIDTH)
    for joint in (_joint(5), _joint(1), Features(tokens, torch.ones(5, 3).bool())):
        rows = len(joint.tokens)
        output = head(joint)
        if task.needs == "vector":
            assert output.shape == (rows, task.target().size), f"output {list(output.shape)}, size {task.target().size}"
        modules.finite(output, "the head's output must be finite")
    modules.gradients(head, head(_joint(ROWS)).square().sum(), "the head")


def works_in_half_precision(subject: Subject) -> None:
    """Under bfloat16 autocast the head's outputs and gradients are finite, and near those in 32 bit."""
    task = _make(subject)
    torch.manual_seed(0)
    joint = _joint(ROWS)
    modules.half_precision(task.head(WIDTH), lambda head: head(joint), "the head in bfloat16")


def learns_a_planted_signal(subject: Subject) -> None:
    """With an installed loss the head learns a target that the joint features tell."""
    task = _make(subject)
    target = task.model_target(torch.from_numpy(task.encode(_cells(subject))))
    accepting: list[Any] = [e.cls for e in installed().all("loss") if task.target_kind in getattr(e.cls, "targets", ())]
    assert accepting, f"no installed loss takes targets of the kind {task.target_kind!r}: offer one in the same plugin"
    cls = max(accepting, key=lambda loss: loss.preference)
    loss = cls(cls.Config(), task.target())
    told = target.double() if target.ndim == 2 else target.double()[:, None]
    if not target.is_floating_point():
        told = nn.functional.one_hot(target, task.target().size).double()
    features = torch.nn.functional.pad(told[:, :WIDTH], (0, max(0, WIDTH - told.shape[1]))).float()
    joint = Features.vector(features + 0.01 * _joint(ROWS).tokens[:, 0])
    torch.manual_seed(0)
    head = task.head(WIDTH)
    modules.learns(
        head.parameters(),
        lambda: loss(head(joint), target).mean(),
        rule=f"the head must learn a planted signal with the loss {cls.name}",
        steps=80,
        rates=(1e-2, 1e-1),
    )


def minds_its_own_business(subject: Subject) -> None:
    """Fitting, answering and measuring prints nothing and leaves global random states alone."""
    cells = _cells(subject)
    with modules.well_behaved("task"):
        task = subject.cls(subject.config)
        task.fit(cells)
        answers = task.answer(task.head(WIDTH)(_joint(ROWS)))
        next(iter(task.metrics().values())).compute(answers, torch.from_numpy(task.encode(cells)))


def model_target_is_finite(subject: Subject) -> None:
    """The target as the loss sees it is finite and keeps its rows."""
    task = _make(subject)
    codes = torch.from_numpy(task.encode(_cells(subject)))
    seen = task.model_target(codes)
    assert len(seen) == ROWS, f"model_target gives {len(seen)} rows for {ROWS}"
    modules.finite(seen, "model_target must be finite")


def metrics_are_computed(subject: Subject) -> None:
    """`metrics` are those of `metric_names`, with the same directions, and give numbers."""
    task = _make(subject)
    metrics, names = task.metrics(), subject.cls.metric_names()
    assert list(metrics) == list(names), f"metric_names gives {list(names)}, metrics gives {list(metrics)}"
    codes, answers = torch.from_numpy(task.encode(_cells(subject))), _answers(task)
    for name, metric in metrics.items():
        assert metric.maximize == names[name], f"metric {name!r}: metrics and metric_names disagree on its direction"
        value = metric.compute(answers, codes)
        assert isinstance(value, float) and math.isfinite(value), f"metric {name!r} gives {value!r}"


def decoder_reads_the_answers(subject: Subject) -> None:
    """The decoder gives the columns it declares, one JSON value per row, for any number of rows."""
    task = _make(subject)
    decoder, answers = task.decoder(), {name: answer.numpy() for name, answer in _answers(task).items()}
    for rows in (ROWS, 1, 0):
        found = decoder.decode({name: answer[:rows] for name, answer in answers.items()})
        assert list(found) == list(decoder.columns()), (
            f"columns() gives {list(decoder.columns())}, decode {list(found)}"
        )
        for name, values in found.items():
            assert len(values) == rows, f"column {name!r} has {len(values)} values for {rows} rows"
        json.dumps(found, allow_nan=False)


def decoder_can_be_stored(subject: Subject) -> None:
    """The decoder is a registered operation, and its configuration survives JSON."""
    task = _make(subject)
    decoder = task.decoder()
    cls: Any = type(decoder)
    assert is_operation(cls), f"{cls.op!r} is not the entry point of {cls.__name__} in the group automm_ops"
    again = cls(cls.Config.model_validate_json(decoder.config.model_dump_json()))
    answers: Mapping[str, np.ndarray] = {name: answer.numpy() for name, answer in _answers(task).items()}
    assert again.decode(answers) == decoder.decode(answers), "the decoder reads differently once stored"


def search_space_works(subject: Subject) -> None:
    """Both ends of the search space, and every choice, give a fitted task with finite answers."""
    for config in subject.corners():
        for name, answer in _answers(_make(subject, config)).items():
            modules.finite(answer, f"answer {name!r} with {config!r}")


def exports_a_graph(subject: Subject) -> None:
    """Head and answer export, and agree at other batch sizes."""
    task = _make(subject)
    module = _flat(task)
    batches = [{"joint": _joint(rows, seed=1).tokens} for rows in (1, 3)]
    modules.exports(module, batches, {"joint": _joint(4).tokens}, {"joint": {0: "batch"}})


def _flat(task: Any) -> Any:
    """Head and answer as a module from plain tensors to answers."""

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.head = task.head(WIDTH)

        def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            found: dict[str, Tensor] = task.answer(self.head(Features.vector(batch["joint"][:, 0])))
            return found

    return Flat().eval()


CHECKS = (
    codes_every_row,
    describes_its_target,
    refuses_missing_targets,
    state_is_json,
    head_fits_the_target,
    works_in_half_precision,
    learns_a_planted_signal,
    minds_its_own_business,
    model_target_is_finite,
    metrics_are_computed,
    decoder_reads_the_answers,
    decoder_can_be_stored,
    search_space_works,
    exports_a_graph,
)
