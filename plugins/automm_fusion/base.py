"""What all built-in fusions share: their settings, hiding inputs in training, and vectors or tokens of one width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from automm.api import Context, Features, Fusion, Tune, torch


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
        modality_dropout: Annotated[float, Field(ge=0, le=1), Tune(0.0, 0.5)] = 0.1
        """Share of training rows in which one of the present inputs, chosen at random, is hidden. The last present
        input of a row is never hidden (Neverova et al. 2016, ModDrop). Without it, what stands for a missing input is
        never trained on rows that are complete."""

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


class VectorFusion(InputFusion, abstract=True):
    """A fusion of one vector per input; a missing input is a learned vector."""

    def __init__(self, config: Any, widths: Mapping[str, int]) -> None:
        from automm_fusion._modules import Vectors

        super().__init__(config, widths)
        self.width = config.hidden
        self.names = list(widths)
        self.vectors = Vectors(list(widths.values()), config.hidden)

    def read(self, inputs: Mapping[str, Features]) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors [batch, inputs, hidden] and which inputs are present [batch, inputs]."""
        found: tuple[torch.Tensor, torch.Tensor] = self.vectors([inputs[name] for name in self.names])
        return found


class TokenFusion(InputFusion, abstract=True):
    """A fusion of all tokens of all inputs; a missing input is one learned token."""

    class Config(InputFusion.Config):
        """Settings of a fusion with attention heads."""

        hidden: Annotated[int, Field(ge=1), Tune(choices=[64, 128, 256])] = 128
        """Width of the joint features; a multiple of `heads`."""
        heads: Annotated[int, Field(ge=1), Tune(choices=[2, 4, 8])] = 4
        """Attention heads."""

        @model_validator(mode="after")
        def _divisible(self) -> Self:
            if self.hidden % self.heads:
                raise ValueError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads})")
            return self

    def __init__(self, config: Any, widths: Mapping[str, int]) -> None:
        from automm_fusion._modules import Tokens

        super().__init__(config, widths)
        self.width = config.hidden
        self.names = list(widths)
        self.tokens = Tokens(list(widths.values()), config.hidden)

    def read(self, inputs: Mapping[str, Features]) -> list[Features]:
        """The tokens of every input, [batch, time, hidden] each."""
        found: list[Features] = self.tokens([inputs[name] for name in self.names])
        return found


def needs_two(context: Context) -> str | None:
    """Why a fusion of several inputs does not fit a problem with one."""
    return "it needs at least two inputs, there is one" if len(context.inputs) < 2 else None
