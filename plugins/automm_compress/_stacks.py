"""Stacks of layers of one kind, each of which reads what the one before it gave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from automm_compress._coupling import Batch

FEWEST = 3
"""Layers of a stack from which one may go."""


def stacks(model: nn.Module, batch: Batch) -> list[nn.ModuleList]:
    """The stacks of a model."""
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and _alike(m)]
    return [stack for stack in lists if _chained(model, stack, batch)]


def _alike(stack: nn.ModuleList) -> bool:
    return len(stack) >= FEWEST and len({type(layer) for layer in stack}) == 1


def _chained(model: nn.Module, stack: nn.ModuleList, batch: Batch) -> bool:
    """Whether each layer is called once, reads what the one before it gave, and gives as much: any of them may go."""
    given: list[Tensor | None] = []
    made: list[Tensor | None] = []

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        first = args[0] if args else kwargs.get("hidden_states")
        given.append(first if isinstance(first, Tensor) else None)
        made.append(_tensor(output))

    handles = [layer.register_forward_hook(keep, with_kwargs=True) for layer in stack]
    try:
        with torch.no_grad():
            model(dict(batch))
    finally:
        for handle in handles:
            handle.remove()
    if len(given) != len(stack) or any(tensor is None for tensor in (*given, *made)):
        return False
    shapes = {tensor.shape for tensor in (*given, *made) if tensor is not None}
    return len(shapes) == 1 and all(torch.equal(a, b) for a, b in zip(made[:-1], given[1:], strict=True))  # type: ignore[arg-type]


def _tensor(output: Any) -> Tensor | None:
    first = output[0] if isinstance(output, tuple) and output else output
    return first if isinstance(first, Tensor) else None


def drop(model: nn.Module, stack: nn.ModuleList, count: int, batches: Sequence[Batch]) -> None:
    """Takes out layers one after the other, each time the one without which the answers change least."""
    expected = _answers(model, batches)
    for _ in range(count):
        layers = list(stack)
        costs = []
        for at in range(1, len(layers)):
            _set(stack, layers[:at] + layers[at + 1 :])
            found = _answers(model, batches)
            costs.append(sum(float((found[n] - expected[n]).square().mean()) for n in expected))
        best = 1 + costs.index(min(costs))
        _set(stack, layers[:best] + layers[best + 1 :])


def _set(stack: nn.ModuleList, layers: Sequence[nn.Module]) -> None:
    stack._modules.clear()
    stack.extend(layers)


def _answers(model: nn.Module, batches: Sequence[Batch]) -> dict[str, Tensor]:
    with torch.no_grad():
        found = [model(dict(batch)) for batch in batches]
    return {name: torch.cat([one[name].float() for one in found]) for name in found[0]}
