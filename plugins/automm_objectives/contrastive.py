"""Contrastive alignment of the inputs of a row."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field

from automm.api import F, Features, Tune, nn, torch
from automm_objectives.base import InputsObjective


class Contrastive(InputsObjective):
    """Inputs of one row are to be more alike than inputs of different rows (InfoNCE).

    van den Oord et al. 2018; between modalities as in CLIP (Radford et al. 2021), symmetrically for every pair of
    inputs. The larger the batch, the harder and the better.
    """

    preference = 1.0

    class Config(InputsObjective.Config):
        """Settings of the contrastive alignment."""

        width: Annotated[int, Field(ge=1), Tune(choices=[32, 64, 128])] = 64
        """Width of the space in which inputs are compared."""
        temperature: Annotated[float, Field(gt=0, le=1), Tune(0.05, 0.5, log=True)] = 0.1
        """Small values tell the most alike rows apart, large ones all rows."""

    def __init__(self, config: Any, widths: Mapping[str, int], joint: int) -> None:
        super().__init__(config, widths, joint)
        self.project = nn.ModuleList([nn.Linear(width, config.width) for width in widths.values()])

    def forward(
        self, inputs: Mapping[str, Features], fuse: Callable[[Mapping[str, Features]], torch.Tensor]
    ) -> torch.Tensor:
        """The mean over a row's pairs of inputs, [batch]; 0 for a row that has one input."""
        del fuse
        present = [features.present for features in inputs.values()]
        vectors = [
            F.normalize(project(features.mean()).float(), dim=1)
            for project, features in zip(self.project, inputs.values(), strict=True)
        ]
        total, pairs = torch.zeros_like(vectors[0][:, 0]), torch.zeros_like(vectors[0][:, 0])
        for one, other in itertools.combinations(range(len(vectors)), 2):
            both = present[one] & present[other]  # [batch]
            alike = vectors[one] @ vectors[other].T / self.config.temperature  # [batch, batch]
            # Rows that lack one of the two are no choices; a row is always one of its own.
            choices = both[None, :] | torch.eye(len(both), dtype=torch.bool, device=both.device)
            forth = _choosing(alike, choices)
            back = _choosing(alike.T, choices)
            total = total + both * (forth + back) / 2
            pairs = pairs + both
        return total / pairs.clamp(min=1)


def _choosing(alike: torch.Tensor, choices: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of choosing one's own row, [batch]."""
    return -alike.masked_fill(~choices, -1e4).log_softmax(1).diagonal()
