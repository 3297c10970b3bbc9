"""What all built-in fusions share: their settings, and hiding inputs in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from automm.api import Features, Fusion, Tune, torch


class InputFusion(Fusion, abstract=True):
    """A fusion with a hidden width, layers, dropout and modality dropout."""

    class Config(Fusion.Config):
        """Settings of every built-in fusion."""

        hidden: Annotated[int, Field(ge=1), Tune(choices=[64, 128, 256, 512])] = 256
        """Width of the joint features."""
        layers: Annotated[int, Field(ge=0, le=12), Tune(0, 3)] = 1
        """Hidden layers after the inputs are joined."""
        dropout: Annotated[float, Field(ge=0, lt=1), Tune(0.0, 0.5)] = 0.1
        """Share of features dropped in training."""
        modality_dropout: Annotated[float, Field(ge=0, le=1), Tune(0.0, 0.3)] = 0.0
        """Share of training rows in which one of the present inputs, chosen at random, is hidden. The last present
        input of a row is never hidden (Neverova et al. 2016, ModDrop)."""

    def hide(self, inputs: Mapping[str, Features]) -> dict[str, Features]:
        """In training: the inputs with modality dropout applied; otherwise as they are."""
        share = self.config.modality_dropout
        if not self.training or share == 0 or len(inputs) < 2:
            return dict(inputs)
        present = torch.stack([features.present for features in inputs.values()], 1)  # [batch, inputs]
        victim = (torch.rand(present.shape, device=present.device) * present).argmax(1)  # [batch]
        chosen = (torch.rand(len(present), device=present.device) < share) & (present.sum(1) > 1)
        return {
            name: Features(features.tokens, features.mask & ~(chosen & (victim == at))[:, None])
            for at, (name, features) in enumerate(inputs.items())
        }
