"""Decision-level fusion: late, and hybrid of early and late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from automm.api import Context, Features, Tune, nn, torch
from automm_fusion.base import VectorFusion, needs_two
from automm_fusion.concat import Concat
from automm_fusion.transformer import Transformer


class Late(VectorFusion):
    """Late fusion: every input decides with a network and a head of its own, and the decisions are averaged.

    Kittler et al. 1998, "On Combining Classifiers" (the mean rule, on the heads' outputs); `confidence` is a mixture of
    experts (Jacobs et al. 1991), whose weights differ from row to row. A missing input has no vote. Inputs cannot
    interact, so it overfits least on few rows, and learns no answer that only two inputs together tell.
    """

    preference = 0.6

    class Config(VectorFusion.Config):
        """Settings of late fusion."""

        hidden: Annotated[int, Field(ge=1), Tune(choices=[64, 128, 256, 512])] = 128
        """Width of each input's network."""
        layers: Annotated[int, Field(ge=0, le=12), Tune(0, 3)] = 1
        """Hidden layers of each input's network."""
        weights: Annotated[
            Literal["equal", "learned", "confidence"], Tune(choices=["equal", "learned", "confidence"])
        ] = "equal"
        """What a decision counts: `equal`: all the same; `learned`: one learned number per input; `confidence`: told by
        the input's features, row by row."""
        modality_dropout: Annotated[float, Field(ge=0, le=1), Tune(0.0, 0.5)] = 0.2
        """Share of training rows in which one of the present inputs, chosen at random, is hidden, so that the others
        learn to decide without it (Neverova et al. 2016, ModDrop)."""

    @classmethod
    def unsuited(cls, context: Context, config: Any) -> str | None:
        """One decision needs no averaging."""
        del config
        return needs_two(context)

    def __init__(self, config: Any, widths: Mapping[str, int]) -> None:
        from automm_fusion._modules import Weights, mlp

        super().__init__(config, widths)
        self.networks = nn.ModuleList(
            [mlp(config.hidden, config.hidden, config.layers, config.dropout) for _ in widths]
        )
        self.decisions = self.count(len(widths))
        self.score = None if config.weights == "equal" else Weights(config.weights, self.decisions, config.hidden)

    def count(self, inputs: int) -> int:
        """How many decisions there are."""
        return inputs

    def forward(self, inputs: Mapping[str, Features]) -> Features:
        """One token per input, real where it is present; in a row without any input all are, made of nothing."""
        decisions, present = self.decide(self.hide(inputs))
        return Features(decisions, present | ~present.any(1, keepdim=True))

    def decide(self, inputs: Mapping[str, Features]) -> tuple[torch.Tensor, torch.Tensor]:
        """What each input's head reads, [batch, inputs, hidden], and which inputs are present, [batch, inputs]."""
        vectors, present = self.read(inputs)
        decisions = [network(vector) for network, vector in zip(self.networks, vectors.unbind(1), strict=True)]
        return torch.stack(decisions, 1), present

    def weigh(self, joint: Features) -> torch.Tensor:
        """Weights [batch, decisions]."""
        return super().weigh(joint) if self.score is None else self.score(joint)


class Hybrid(Late):
    """Early and late fusion together: one decision per input, and one of an early fusion of all of them, averaged.

    Snoek et al. 2005, "Early versus Late Fusion in Semantic Video Analysis"; Baltrušaitis et al. 2019, "Multimodal
    Machine Learning: A Survey and Taxonomy", section 6.1. The joint decision can learn what only inputs together tell,
    and the others carry on where an input is missing. The default for several inputs: on few rows it overfits less than
    a joint network, and it does not give up interactions as late fusion does.
    """

    preference = 1.0

    class Config(Late.Config):
        """Settings of hybrid fusion."""

        early: Annotated[Literal["concat", "transformer"], Tune(choices=["concat", "transformer"])] = "concat"
        """How the joint decision is made: from one vector per input, or from all tokens."""
        heads: Annotated[int, Field(ge=1)] = 4
        """Attention heads of `early: transformer`; `hidden` is then a multiple of it."""

        @model_validator(mode="after")
        def _divisible(self) -> Self:
            if self.early == "transformer" and self.hidden % self.heads:
                raise ValueError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads})")
            return self

    def __init__(self, config: Any, widths: Mapping[str, int]) -> None:
        super().__init__(config, widths)
        shared = {"hidden": config.hidden, "dropout": config.dropout, "modality_dropout": 0.0}
        if config.early == "concat":
            self.early = Concat(Concat.Config(layers=config.layers, **shared), widths)
        else:
            own = Transformer.Config(layers=max(config.layers, 1), heads=config.heads, **shared)
            self.early = Transformer(own, widths)

    def count(self, inputs: int) -> int:
        """How many decisions there are."""
        return inputs + 1

    def forward(self, inputs: Mapping[str, Features]) -> Features:
        """One token per input, real where it is present, and the joint one, which always is."""
        shown = self.hide(inputs)
        decisions, present = self.decide(shown)
        joint = self.early(shown)
        return Features(torch.cat([decisions, joint.tokens], 1), torch.cat([present, joint.mask], 1))
