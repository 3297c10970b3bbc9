"""Checks of losses, on the targets of every installed task that they accept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from automm.api import nn, torch
from automm.core.kinds import Task
from automm.testing import modules
from automm.testing.subject import Subject, installed

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 12


class Problem(NamedTuple):
    """A task with its rows: output of an untrained model, and target as the loss sees it."""

    task: Task
    output: Tensor
    target: Tensor


def _problems(subject: Subject) -> Iterator[Problem]:
    """One problem per installed task whose target the loss accepts."""
    tried = False
    for entry in installed().all("task"):
        cls: Any = entry.cls
        cells = cls.examples(ROWS, 0)
        if cls.target_kind not in subject.cls.targets or cells is None:
            continue
        task = cls(cls.Config())
        task.fit(cells)
        target = task.model_target(torch.from_numpy(task.encode(cells)))
        generator = torch.Generator().manual_seed(0)
        tried = True
        yield Problem(task, torch.randn(ROWS, task.target().size, generator=generator), target)
    assert tried, f"no installed task with examples has a target of kind {sorted(subject.cls.targets)}"


def _make(subject: Subject, task: Task, config: Any = None) -> Any:
    torch.manual_seed(0)
    return subject.cls(config or subject.config, task.target())


def one_value_per_row(subject: Subject) -> None:
    """The loss is a finite float tensor [batch], not negative."""
    for task, output, target in _problems(subject):
        values = _make(subject, task)(output, target)
        assert values.shape == (ROWS,), f"a loss gives one value per row: {list(values.shape)} for {ROWS} rows"
        assert values.is_floating_point(), f"a loss gives floats, not {values.dtype}"
        modules.finite(values, "the loss must be finite")


def rows_are_independent(subject: Subject) -> None:
    """A row's loss depends on no other row: alone, and in another order, it is the same."""
    for task, output, target in _problems(subject):
        module = _make(subject, task)
        values = module(output, target)
        modules.same(module(output[:1], target[:1]), values[:1], "a row alone must have the same loss")
        modules.same(module(output.flip(0), target.flip(0)), values.flip(0), "rows must not depend on their order")


def worse_outputs_cost_more(subject: Subject) -> None:
    """Descending on the outputs lowers the loss and improves the task's default metric."""
    for task, output, target in _problems(subject):
        module = _make(subject, task)
        metric = next(iter(task.metrics().values()))
        coded = torch.from_numpy(task.encode(type(task).examples(ROWS, 0) or {}))
        before = metric.compute(task.answer(output), coded)
        free = output.clone().requires_grad_()
        modules.learns([free], lambda m=module, f=free, t=target: m(f, t).mean(), "descent", 80, (0.1,))  # type: ignore[misc]
        after = metric.compute(task.answer(free), coded)
        assert (after > before) == metric.maximize and after != before, (
            f"descent on the loss must improve the metric: it went from {before:.4g} to {after:.4g}"
        )


def is_finite_in_half_precision(subject: Subject) -> None:
    """Outputs in bfloat16, and extreme ones, give finite losses and gradients."""
    for task, output, target in _problems(subject):
        module = _make(subject, task)
        for scale in (1.0, 1e4):
            for dtype in (torch.float32, torch.bfloat16):
                free = (output * scale).to(dtype).requires_grad_()
                values = module(free, target)
                modules.finite(values, f"outputs of {dtype} times {scale:g}")
                values.sum().backward()
                assert free.grad is not None
                modules.finite(free.grad, f"gradients of outputs of {dtype} times {scale:g}")


def gradients_reach_outputs(subject: Subject) -> None:
    """Every row's output gets a gradient, and every parameter of the loss."""
    for task, output, target in _problems(subject):
        module = _make(subject, task)
        free = output.clone().requires_grad_()
        modules.gradients(module, module(free, target).sum(), "the loss's own parameters")
        assert free.grad is not None and bool(free.grad.abs().sum(1).gt(0).all()), "a row's output gets no gradient"


def eval_is_deterministic(subject: Subject) -> None:
    """In eval mode the same outputs and targets give the same numbers."""
    for task, output, target in _problems(subject):
        module = _make(subject, task).eval()
        assert torch.equal(module(output, target), module(output, target)), "eval mode must be deterministic"


def two_ranks_agree_with_one(subject: Subject) -> None:
    """Two processes of a job, each on half of the rows, get the gradients of one on all rows."""
    for task, output, target in _problems(subject):

        def make(task: Task = task, output: Tensor = output) -> Any:
            return _freed(_make(subject, task), output)

        def loss(module: Any, rows: range, target: Tensor = target) -> Tensor:
            part = slice(rows.start, rows.stop)
            values: Tensor = module.loss(module.output[part], target[part]).sum()
            return values

        modules.two_ranks(make, loss, ROWS)


def _freed(loss: Any, output: Tensor) -> Any:
    """A module whose parameters are the outputs, and the loss's own."""

    class Free(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loss, self.output = loss, nn.Parameter(output.clone())

    return Free().eval()


def minds_its_own_business(subject: Subject) -> None:
    """Building and calling it prints nothing and leaves global random states alone."""
    for task, output, target in _problems(subject):
        with modules.well_behaved("loss"):
            subject.cls(subject.config, task.target())(output, target)


def leaves_inputs_alone(subject: Subject) -> None:
    """Output and target are not changed in place."""
    for task, output, target in _problems(subject):
        module = _make(subject, task)
        rule = "forward must not change output or target"
        modules.unchanged((output, target), lambda m=module, o=output, t=target: m(o, t), rule)  # type: ignore[misc]


def copies_and_reloads(subject: Subject) -> None:
    """Deep copies and state dictionaries keep the numbers."""
    for task, output, target in _problems(subject):
        module = _make(subject, task).eval()
        modules.copies(module, lambda m, o=output, t=target: m(o, t), lambda k=task: _make(subject, k))  # type: ignore[misc]


def search_space_works(subject: Subject) -> None:
    """Both ends of the search space, and every choice, give finite losses."""
    for task, output, target in _problems(subject):
        for config in subject.corners():
            modules.finite(_make(subject, task, config)(output, target), f"with {config!r}")


CHECKS = (
    one_value_per_row,
    rows_are_independent,
    worse_outputs_cost_more,
    is_finite_in_half_precision,
    gradients_reach_outputs,
    eval_is_deterministic,
    two_ranks_agree_with_one,
    minds_its_own_business,
    leaves_inputs_alone,
    copies_and_reloads,
    search_space_works,
)
