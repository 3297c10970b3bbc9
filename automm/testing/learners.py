"""Checks of learners, on the targets of every installed task that they accept."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from automm.api import nn, torch
from automm.core.kinds import Task
from automm.core.learner import Rows
from automm.testing import modules
from automm.testing.subject import Subject, installed

ROWS = 240
WIDTHS = {"words": 4, "picture": 2}
WIDTH = sum(WIDTHS.values())


def _never() -> bool:
    return False


def _rows(task: Task, cells: dict[str, list[Any]], seed: int = 0) -> Rows:
    """Descriptors that tell the target: noise, some unknown values, and in column 0 (and 1) the coded target."""
    random = np.random.default_rng(seed)
    target = task.model_target(torch.from_numpy(task.encode(cells))).numpy()
    features = random.normal(size=(len(target), WIDTH)).astype(np.float32)
    first = target if target.ndim == 1 else target[:, 0]
    scale = float(np.std(first)) or 1.0
    features[:, 0] = first + 0.1 * scale * random.normal(size=len(first))
    if target.ndim == 2:
        features[:, 1] = target[:, -1] + 0.1 * random.normal(size=len(target))
    features[random.random(features.shape) < 0.03] = np.nan
    features[:, WIDTH - 1] = np.nan  # a column that nothing is known of
    return Rows(features, target, np.ones(len(target), np.float32))


def _problems(subject: Subject) -> Iterator[tuple[Task, Rows, Rows]]:
    """Task, training and validation rows for every installed task whose target the learner accepts."""
    if subject.cls.by_gradient:
        return
    tried = False
    for entry in installed().all("task"):
        cls: Any = entry.cls
        cells = cls.examples(ROWS, 0)
        if cls.target_kind not in subject.cls.targets or cells is None:
            continue
        task = cls(cls.Config())
        task.fit(cells)
        tried = True
        yield task, _rows(task, cells), _rows(task, cells, seed=1)
    assert tried, f"no installed task with examples has a target of kind {sorted(subject.cls.targets)}"


def _fitted(subject: Subject, task: Task, train: Rows, valid: Rows | None, settled: Any = None) -> tuple[Any, Any]:
    torch.manual_seed(0)
    module = subject.cls(subject.config, WIDTHS, task.target())
    return module, module.fit(train, valid, settled or {}, _never)


def _outputs(module: nn.Module, features: np.ndarray) -> Any:
    with torch.no_grad():
        return module(torch.from_numpy(features))


def _loss(task: Task, output: Any, target: np.ndarray) -> float:
    """A plain loss of outputs, by the shape of the target."""
    wanted = torch.from_numpy(target)
    if wanted.ndim == 2:
        return float(nn.functional.binary_cross_entropy_with_logits(output, wanted.float()))
    if wanted.is_floating_point():
        return float((output[:, 0] - wanted.float()).square().mean())
    return float(nn.functional.cross_entropy(output, wanted))


def learns_a_planted_signal(subject: Subject) -> None:
    """Outputs [rows, size] are finite and halve the loss of an output that knows only the target's distribution."""
    for task, train, valid in _problems(subject):
        module, _ = _fitted(subject, task, train, valid)
        output = _outputs(module, valid.features)
        assert output.shape == (ROWS, task.target().size), (
            f"the output has shape {list(output.shape)}, not {[ROWS, task.target().size]}"
        )
        modules.finite(output, "outputs must be finite, whatever is unknown")
        guess = _guess(task, train.target)
        found, base = _loss(task, output, valid.target), _loss(task, guess.expand(ROWS, -1), valid.target)
        assert found < base / 2, f"task {task.name}: the loss is {found:.3g}, without any feature {base:.3g}"


def _guess(task: Task, target: np.ndarray) -> Any:
    """The output that knows only the target's distribution."""
    size = task.target().size
    if target.ndim == 2:
        share = torch.from_numpy(target).float().mean(0).clamp(1e-3, 1 - 1e-3)
        return (share / (1 - share)).log()
    if np.issubdtype(target.dtype, np.floating):
        return torch.tensor([float(target.mean())])
    counts = np.bincount(target, minlength=size).astype(np.float32)
    return torch.from_numpy(np.log(np.maximum(counts, 1e-3) / counts.sum()))


def fits_again_on_all_rows(subject: Subject) -> None:
    """Without validation rows it uses what an earlier fit settled, which is plain JSON."""
    import json

    for task, train, valid in _problems(subject):
        _, settled = _fitted(subject, task, train, valid)
        told = json.loads(json.dumps(settled, allow_nan=False))
        module, again = _fitted(subject, task, train, None, told)
        assert again == settled, f"fitted again it settled {again} in place of {settled}"
        modules.finite(_outputs(module, valid.features), "outputs after fitting again")


def repeats_itself(subject: Subject) -> None:
    """The same rows give the same numbers."""
    for task, train, valid in _problems(subject):
        first, second = (_fitted(subject, task, train, valid)[0] for _ in range(2))
        assert torch.equal(_outputs(first, valid.features), _outputs(second, valid.features)), "fit must repeat itself"


def rows_are_independent(subject: Subject) -> None:
    """A row alone, and all rows in another order, give what they give in a batch."""
    for task, train, valid in _problems(subject):
        module, _ = _fitted(subject, task, train, valid)
        whole = _outputs(module, valid.features)
        for row in (0, ROWS - 1):
            modules.same(_outputs(module, valid.features[[row]]), whole[[row]], "a row alone must give the same")
        modules.same(_outputs(module, valid.features[::-1].copy()), whole.flip(0), "the order must not matter")


def any_input_may_be_missing(subject: Subject) -> None:
    """Rows in which an input, or every input, is unknown get finite outputs, and leave other rows alone."""
    for task, train, valid in _problems(subject):
        module, _ = _fitted(subject, task, train, valid)
        features = valid.features[:8].copy()
        before = _outputs(module, features)
        features[0, : WIDTHS["words"]] = np.nan
        features[1, WIDTHS["words"] :] = np.nan
        features[2] = np.nan
        after = _outputs(module, features)
        modules.finite(after, "outputs must be finite, whatever is missing")
        modules.same(after[3:], before[3:], "a missing input must not change other rows")


def leaves_inputs_alone(subject: Subject) -> None:
    """Neither `fit` nor `forward` changes its rows in place."""
    for task, train, valid in _problems(subject):
        before = copy.deepcopy((train, valid))
        module, _ = _fitted(subject, task, train, valid)
        _outputs(module, valid.features)
        for rows, kept in zip((train, valid), before, strict=True):
            for field, array, same in zip(Rows._fields, rows, kept, strict=True):
                np.testing.assert_array_equal(array, same, f"{field} must not be changed in place")


def minds_its_own_business(subject: Subject) -> None:
    """Fitting and predicting prints nothing and leaves global random states alone."""
    for task, train, valid in _problems(subject):
        with modules.well_behaved("learner"):
            module = subject.cls(subject.config, WIDTHS, task.target())
            module.fit(train, valid, {}, _never)
            _outputs(module, valid.features)


def reloads(subject: Subject) -> None:
    """A deep copy, and a new instance that takes the stored state, whatever its shapes, give the same numbers."""
    for task, train, valid in _problems(subject):
        module, _ = _fitted(subject, task, train, valid)
        other = subject.cls(subject.config, WIDTHS, task.target())
        other.load_state_dict(modules.stored(module))
        expected = _outputs(module, valid.features)
        copied = _outputs(copy.deepcopy(module), valid.features)
        assert torch.equal(copied, expected), "a deep copy must give the same numbers"
        assert torch.equal(_outputs(other, valid.features), expected), "a state dictionary must keep the numbers"


def weights_count(subject: Subject) -> None:
    """Rows of hardly any weight, whose targets are wrong, do less harm than they do with full weight."""
    for task, train, valid in _problems(subject):
        random = np.random.default_rng(2)
        kept = random.random(ROWS) < 0.5
        noisy = train.target.copy()
        noisy[~kept] = random.permutation(noisy[~kept])  # wrong targets, which the weights take out
        weighted = Rows(train.features, noisy, np.where(kept, 2.0, 1e-6).astype(np.float32))
        module, _ = _fitted(subject, task, weighted, valid)
        plain, _ = _fitted(subject, task, weighted._replace(weight=np.ones(ROWS, np.float32)), valid)
        losses = [_loss(task, _outputs(m, valid.features), valid.target) for m in (module, plain)]
        assert losses[0] < losses[1], f"weights must count: loss {losses[0]:.3g} with, {losses[1]:.3g} without"


def search_space_works(subject: Subject) -> None:
    """Both ends of the search space, and every choice, give finite outputs."""
    for task, train, valid in _problems(subject):
        for config in subject.corners():
            module = subject.cls(config, WIDTHS, task.target())
            module.fit(train, valid, {}, _never)
            modules.finite(_outputs(module, valid.features), f"with {config!r}")
        break


def exports_a_graph(subject: Subject) -> None:
    """The exported graph agrees with the module at other batch sizes, unknown values included."""
    problems = sorted(_problems(subject), key=lambda problem: problem[0].target().size)
    for task, train, valid in problems[:: max(len(problems) - 1, 1)]:  # the fewest and the most outputs
        module, _ = _fitted(subject, task, train, valid)
        features = torch.from_numpy(valid.features)

        def batch(rows: int, features: Any = features) -> dict[str, Any]:
            return {"x.features": features[:rows].clone()}

        class Flat(nn.Module):
            def __init__(self, learner: nn.Module = module) -> None:
                super().__init__()
                self.learner = learner

            def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
                return {"output": self.learner(batch["x.features"])}

        modules.exports(Flat().eval(), [batch(1), batch(7)], batch(3), {"x.features": {0: "batch"}})


CHECKS: tuple[Callable[[Subject], None], ...] = (
    learns_a_planted_signal,
    fits_again_on_all_rows,
    repeats_itself,
    rows_are_independent,
    any_input_may_be_missing,
    leaves_inputs_alone,
    minds_its_own_business,
    reloads,
    weights_count,
    search_space_works,
    exports_a_graph,
)
