"""Taking hidden units out of a group of layers, and trying that nothing else changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from automm_compress._coupling import CONVOLUTIONS, NORMS, Batch, Group, Moments

CLOSE = 1e-3
"""Largest deviation of the answers between units that are silent and units that are gone."""
RIDGE = 1e-4
"""Added to the units' variances, as a share of their mean, before they are inverted."""


def scores(group: Group, moments: dict[nn.Module, Moments]) -> Tensor:
    """How much each block of units tells: the variance it brings to what reads it, [blocks] (An et al. 2024)."""
    total = torch.zeros(group.units, dtype=torch.float64)
    for consumer in group.consumers:
        weight = consumer.weight.detach().double()
        power = weight.flatten(2).square().sum(2) if weight.ndim > 2 else weight.square()  # [out, units]
        total += power.sum(0) * moments[consumer].covariance.diagonal()
    return total.reshape(-1, group.block).sum(1)


def kept_units(group: Group, score: Tensor, share: float) -> Tensor:
    """The units of the blocks that tell most; at least one block, `share` of them go."""
    blocks = group.units // group.block
    keep = max(1, blocks - round(share * blocks))
    best = score.topk(keep).indices.sort().values
    return (best[:, None] * group.block + torch.arange(group.block)).flatten()


def reconstruct(consumer: nn.Module, keep: Tensor, moments: Moments) -> None:
    """Sets the weights of units that go to 0, and has the others take over what they told (He et al. 2017).

    Linear layers get the least-squares weights for their own former output; convolutions only lose the units.
    """
    weight = consumer.weight.detach()
    silent = torch.zeros_like(weight)
    if isinstance(consumer, nn.Linear) and consumer.bias is not None:
        covariance = moments.covariance
        inner = covariance[keep][:, keep]
        ridge = RIDGE * inner.diagonal().mean().clamp(min=1e-12) * torch.eye(len(keep), dtype=torch.float64)
        solved = torch.linalg.solve(inner + ridge, covariance[keep] @ weight.double().T).T  # [out, kept]
        lost = weight.double() @ moments.mean - solved @ moments.mean[keep]
        silent[:, keep] = solved.to(weight.dtype)
        consumer.bias.data += lost.to(weight.dtype)
    else:
        silent[:, keep] = weight[:, keep]
    consumer.weight.data = silent


def take_out(model: nn.Module, group: Group, keep: Tensor, moments: dict[nn.Module, Moments], batch: Batch) -> bool:
    """Takes units out of a group.

    Args:
        model: The model that holds the group.
        group: The layers.
        keep: The units that stay.
        moments: Of the consumers' inputs.
        batch: A few rows to try it on.

    Returns:
        Whether it worked; if the model cannot run without the units, it is as before.
    """
    layers = [*group.producers, *group.carriers, *group.consumers]
    before = [dict(vars(layer)) | {"_parameters": dict(layer._parameters), "_buffers": dict(layer._buffers)}
              for layer in layers]  # fmt: skip
    kept_bias = [consumer.bias.detach().clone() if consumer.bias is not None else None for consumer in group.consumers]
    kept_weight = [consumer.weight.detach().clone() for consumer in group.consumers]
    for consumer in group.consumers:
        reconstruct(consumer, keep, moments[consumer])
    with torch.no_grad():
        expected = model(dict(batch))
    for layer in group.producers:
        _rows(layer, keep)
    for layer in group.carriers:
        _rows(layer, keep)
    for layer in group.consumers:
        _columns(layer, keep)
    try:
        with torch.no_grad():
            found = model(dict(batch))
        if all(torch.allclose(found[name], expected[name], CLOSE, CLOSE, equal_nan=True) for name in expected):
            return True
    except Exception:  # noqa: S110 — whatever the model's own code raises: it does not run without these units
        pass
    for layer, state in zip(layers, before, strict=True):
        vars(layer).update(state)
    for consumer, weight, bias in zip(group.consumers, kept_weight, kept_bias, strict=True):
        consumer.weight.data = weight
        if bias is not None:
            consumer.bias.data = bias
    return False


def _rows(layer: nn.Module, keep: Tensor) -> None:
    """Keeps some of what a layer makes."""
    _keep(layer, ("weight", "bias", "running_mean", "running_var"), 0, keep)
    _resize(layer, outputs=len(keep))


def _columns(layer: nn.Module, keep: Tensor) -> None:
    """Keeps some of what a layer reads."""
    _keep(layer, ("weight",), 1, keep)
    _resize(layer, inputs=len(keep))


def _keep(layer: nn.Module, names: Sequence[str], axis: int, keep: Tensor) -> None:
    for name in names:
        tensor: Any = getattr(layer, name, None)
        if tensor is None:
            continue
        part = tensor.detach().index_select(axis, keep).clone()
        if name in layer._parameters:
            layer._parameters[name] = nn.Parameter(part, requires_grad=tensor.requires_grad)
        else:
            layer._buffers[name] = part


def _resize(layer: nn.Module, inputs: int | None = None, outputs: int | None = None) -> None:
    """Brings the sizes that a layer knows of itself up to date."""
    if isinstance(layer, NORMS):
        layer.num_features = outputs or layer.num_features
    elif isinstance(layer, CONVOLUTIONS):
        own = outputs is not None and layer.groups > 1  # a depthwise convolution among the carriers
        layer.out_channels = outputs or layer.out_channels
        layer.in_channels = layer.out_channels if own else inputs or layer.in_channels
        layer.groups = layer.out_channels if own else layer.groups
    elif isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = inputs or layer.in_features, outputs or layer.out_features
