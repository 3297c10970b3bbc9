"""Low-rank adapters (LoRA, Hu et al. 2022): small trained matrices beside the frozen weights of linear layers."""

from __future__ import annotations

import re
import sys

from torch import nn

from automm.core.kinds import Encoder
from automm.errors import MissingExtraError, PluginError

RANK = 8
"""Rank of `adapt: lora`."""


def rank_of(how: str) -> int | None:
    """The rank that `adapt` asks for (`lora`, `lora_16`); None if it asks for no adapters."""
    if not how.startswith("lora"):
        return None
    return int(how.removeprefix("lora").removeprefix("_") or RANK)


def add_adapters(encoder: Encoder, rank: int) -> None:
    """Freezes an encoder and puts a trained adapter beside each of its linear layers but the fresh ones.

    The second matrix of an adapter starts at zero, so that the encoder still answers as before.

    Raises:
        PluginError: If the encoder has no linear layer that could carry one.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as problem:
        raise MissingExtraError("`adapt: lora` needs peft: pip install 'automm[train]'") from problem
    encoder.requires_grad_(False)
    names = _linear_layers(encoder)
    if not names:
        raise PluginError(
            f"encoder {encoder.name!r} has no linear layers that `adapt: lora` could train beside; "
            "use none, last_N or full"
        )
    targets = "|".join(map(re.escape, names))
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=f"({targets})"), encoder)


def merge_adapters(module: nn.Module) -> None:
    """Adds every adapter to the weights it stands beside and takes it away."""
    if "peft" not in sys.modules:  # then there are no adapters, and importing it would take seconds
        return
    from peft.tuners.lora import LoraLayer

    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoraLayer):
                child.merge()
                setattr(parent, name, child.get_base_layer())


def _linear_layers(encoder: Encoder) -> list[str]:
    """Names of the linear layers that are called as modules and are not fresh."""
    left_out = {id(module) for top in encoder.fresh() for module in top.modules()}
    for module in encoder.modules():
        # PyTorch's fused attention reads the weights of its layers and never calls them.
        if isinstance(module, nn.MultiheadAttention | nn.TransformerEncoderLayer):
            left_out |= {id(inner) for inner in module.modules()}
    return [
        name for name, module in encoder.named_modules() if isinstance(module, nn.Linear) and id(module) not in left_out
    ]
