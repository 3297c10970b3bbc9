"""Starting a network from an older one whose vocabulary or classes have grown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from automm.core.kinds import Encoder
from automm.core.processor import Processor
from automm.model.assemble import MultimodalModel
from automm.plugin.blame import blamed
from automm.plugin.registry import Registry

HEAD = "head."


def warm_start(
    model: MultimodalModel,
    weights: Mapping[str, Tensor],
    processors: Mapping[str, Processor],
    names: tuple[Sequence[str], Sequence[str]],
    registry: Registry,
) -> list[str]:
    """Takes over the weights of an older model of the same configuration.

    Args:
        model: The new model.
        weights: The older model's tensors by name; those that are absent (frozen ones) stay as they are.
        processors: Slug → the processor that the older model was trained with.
        names: Class names of the older and of the new target.
        registry: To name the owner of an encoder that raises.

    Returns:
        Names of the tensors that begin anew, because their shape has changed in a way that nothing explains.
    """
    given = dict(weights)
    for slug, encoder in model.encoders.items():
        prefix = f"encoders.{slug}."
        own = {name.removeprefix(prefix): given.pop(name) for name in list(given) if name.startswith(prefix)}
        assert isinstance(encoder, Encoder)
        with blamed(registry, type(encoder), "adopt"):
            own = encoder.adopt(own, processors[slug])
        given |= {f"{prefix}{name}": tensor for name, tensor in own.items()}
    state: dict[str, Any] = dict(model.state_dict())
    taken, anew = {}, []
    for name, tensor in given.items():
        if name not in state:
            continue
        if name.startswith(HEAD):
            tensor = widened(tensor, state[name], names)
        if tensor.shape == state[name].shape:
            taken[name] = tensor
        else:
            anew.append(name)
    model.load_state_dict(taken, strict=False)
    return anew


def widened(tensor: Tensor, now: Tensor, names: tuple[Sequence[str], Sequence[str]]) -> Tensor:
    """A head's tensor with room for new classes: known classes keep their numbers, new ones those of `now`."""
    before, after = names
    if tensor.shape == now.shape and list(before) == list(after):
        return tensor
    axes = [axis for axis, size in enumerate(tensor.shape) if size == len(before) and now.shape[axis] == len(after)]
    if tensor.ndim != now.ndim or len(axes) != 1:
        return tensor
    others = [size for axis, size in enumerate(tensor.shape) if axis != axes[0]]
    if others != [size for axis, size in enumerate(now.shape) if axis != axes[0]]:
        return tensor
    places = torch.tensor([list(after).index(name) for name in before])
    return now.clone().index_copy(axes[0], places, tensor.to(now))
