"""Attention pooling over the tokens of all inputs, soft and hard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from automm.api import Features, Tune, nn, torch
from automm_fusion.base import TokenFusion


class Attention(TokenFusion):
    """Soft attention pooling: the joint vector is a weighted mean of all tokens, through an MLP.

    The weights are a softmax of w · tanh(V token) as in Ilse et al. 2018, "Attention-based Deep Multiple Instance
    Learning", once per head. All inputs start with the same weight, whatever their number of tokens.
    """

    preference = 0.25

    class Config(TokenFusion.Config):
        """Settings of attention pooling."""

        layers: Annotated[int, Field(ge=0, le=12), Tune(0, 3)] = 1
        """Hidden layers after the pooling."""

    def __init__(self, config: Any, widths: Mapping[str, int]) -> None:
        from automm_fusion._modules import mlp

        super().__init__(config, widths)
        # No bias in the last layer: a softmax does not see what is added to all scores.
        last = nn.Linear(config.hidden, config.heads, bias=False)
        self.score = nn.Sequential(nn.Linear(config.hidden, config.hidden), nn.Tanh(), last)
        self.mlp = mlp(config.hidden, config.hidden, config.layers, config.dropout)

    def forward(self, inputs: Mapping[str, Features]) -> Features:
        """Joins a batch into one vector per row."""
        from automm_fusion._modules import joined

        read = self.read(self.hide(inputs))
        tokens, mask = joined(read)  # [batch, time, hidden], [batch, time]
        counts = torch.cat([f.mask.sum(1, keepdim=True).expand_as(f.mask) for f in read], 1)  # [batch, time]
        scores = self.score(tokens).float() - counts.float().log()[:, :, None]  # [batch, time, heads]
        weights = self.weights(scores.masked_fill(~mask[:, :, None], float("-inf")))
        values = tokens.unflatten(2, (self.config.heads, -1))  # [batch, time, heads, size]
        return Features.vector(self.mlp((values * weights[:, :, :, None]).sum(1).flatten(1)))

    def weights(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores [batch, time, heads], −∞ where there is no token → weights that add to 1 over time."""
        return scores.softmax(1)


class HardAttention(Attention):
    """Hard attention: per head, the mean of the k tokens with the highest scores; the other tokens are not seen.

    Choosing has no gradient; the one of soft attention is passed straight through (Bengio et al. 2013, "Estimating or
    Propagating Gradients Through Stochastic Neurons"). Hard attention: Xu et al. 2015, "Show, Attend and Tell".
    """

    preference = 0.1

    class Config(Attention.Config):
        """Settings of hard attention."""

        k: Annotated[int, Field(ge=1), Tune(2, 16)] = 8
        """How many tokens each head sees; all, if a row has fewer."""

    def weights(self, scores: torch.Tensor) -> torch.Tensor:
        """As in soft attention; forward they are 1/k for the chosen tokens and 0 for the others."""
        soft = scores.softmax(1)
        spare = scores.new_full((1, 1, 1), float("-inf")).expand(scores.shape[0], self.config.k, scores.shape[2])
        padded = torch.cat([scores, spare], 1)  # there may be fewer than k tokens
        best = padded.topk(self.config.k, dim=1).indices
        chosen = torch.zeros_like(padded).scatter(1, best, 1.0)[:, : scores.shape[1]] * scores.isfinite()
        return chosen / chosen.sum(1, keepdim=True) + (soft - soft.detach())
