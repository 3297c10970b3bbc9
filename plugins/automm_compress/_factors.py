"""Two thin linear layers in place of one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from automm_compress._coupling import Batch, Moments, moments_of


class Factors(nn.Module):
    """`up(down(x))`; `weight` and `bias` read like those of the layer it stands for.

    Args:
        down: [rank, inputs].
        up: [outputs, rank].
        bias: [outputs] or None.
    """

    def __init__(self, down: Tensor, up: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.in_features, self.out_features = down.shape[1], up.shape[0]

    @property
    def weight(self) -> Tensor:
        """The product, [outputs, inputs]."""
        return self.up @ self.down

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] → [..., outputs]."""
        return nn.functional.linear(nn.functional.linear(x, self.down), self.up, self.bias)


def factorise(model: nn.Module, batches: Sequence[Batch], share: float, smallest: int) -> int:
    """Replaces the large linear layers of a model; gives how many."""
    layers = {
        (parent, name): child
        for parent in model.modules()
        for name, child in parent.named_children()
        # PyTorch's own attention reads the weights of its layers past their `forward`.
        if isinstance(child, nn.Linear) and child.weight.numel() >= smallest
        and not isinstance(parent, nn.MultiheadAttention | nn.TransformerEncoderLayer)
    }  # fmt: skip
    moments = moments_of(model, batches, list(dict.fromkeys(layers.values())))
    made: dict[nn.Linear, Factors] = {}
    for (parent, name), layer in layers.items():
        if moments[layer].count:
            made[layer] = made.get(layer) or _split(layer, moments[layer], share)
            setattr(parent, name, made[layer])
    return len(made)


def _split(layer: nn.Linear, moments: Moments, share: float) -> Factors:
    """The factors that keep most of a layer's output on the inputs that were seen."""
    outputs, inputs = layer.weight.shape
    rank = max(1, int(share * outputs * inputs / (outputs + inputs)))
    values, vectors = torch.linalg.eigh(moments.second)
    scale = values.clamp(min=1e-6 * float(values.max()) + 1e-12).sqrt()
    root, inverse = vectors * scale, vectors / scale  # [inputs, inputs] each; root @ vectorsᵀ is the moments' root
    left, size, right = torch.linalg.svd(layer.weight.detach().double() @ root, full_matrices=False)
    up = (left[:, :rank] * size[:rank].sqrt()).float()
    down = (size[:rank].sqrt()[:, None] * right[:rank] @ inverse.T).float()
    bias = None if layer.bias is None else layer.bias.detach().clone()
    return Factors(down.contiguous(), up.contiguous(), bias)
