"""Telling a hidden input from the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from automm.api import Features, nn, torch
from automm_objectives.base import InputsObjective


class HiddenInput(InputsObjective):
    """One input of a row is hidden, and the joint features of the others must tell what it was.

    Masked prediction of features instead of raw data, as in data2vec (Baevski et al. 2022): what is to be told is the
    hidden input's own feature vector, standardised over the batch, and learns nothing itself. Trains the fusion, too.
    """

    class Config(InputsObjective.Config):
        """Settings of the prediction of hidden inputs."""

    def __init__(self, config: Any, widths: Mapping[str, int], joint: int) -> None:
        super().__init__(config, widths, joint)
        self.tell = nn.ModuleList(
            [nn.Sequential(nn.Linear(joint, joint), nn.GELU(), nn.Linear(joint, width)) for width in widths.values()]
        )

    def forward(
        self, inputs: Mapping[str, Features], fuse: Callable[[Mapping[str, Features]], torch.Tensor]
    ) -> torch.Tensor:
        """Mean squared error of the hidden input's standardised vector, [batch]; 0 for a row that has one input."""
        present = torch.stack([features.present for features in inputs.values()], 1)  # [batch, inputs]
        chance = torch.rand(present.shape, device=present.device).masked_fill(~present, -1.0)
        hidden = nn.functional.one_hot(chance.argmax(1), len(inputs)).bool() & (present.sum(1) > 1)[:, None]
        shown = {}
        for at, (name, (tokens, mask)) in enumerate(inputs.items()):
            seen = mask & ~hidden[:, at, None]
            shown[name] = Features(tokens * seen[:, :, None], seen)
        joint = fuse(shown)
        total = torch.zeros(len(joint), device=joint.device)
        for at, (tell, features) in enumerate(zip(self.tell, inputs.values(), strict=True)):
            wanted = _standardised(features.mean().detach().float(), present[:, at])
            total = total + hidden[:, at] * (tell(joint).float() - wanted).square().mean(1)
        return total


def _standardised(vectors: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Mean 0 and variance 1 over the rows that have the input, [batch, width]; zeros where nothing varies."""
    rows = present[:, None].to(vectors.dtype)
    count = rows.sum().clamp(min=1)
    centred = (vectors - (vectors * rows).sum(0) / count) * rows
    return centred / ((centred.square().sum(0) / count).sqrt() + 1e-3)
