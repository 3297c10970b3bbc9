"""Cross-modal attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from automm.api import Context, Features, Tune, nn, torch
from automm_fusion.base import TokenFusion, needs_two


class Mult(TokenFusion):
    """Cross-modal attention (MulT): the tokens of every input look at those of every other, pair by pair.

    Tsai et al. 2019, "Multimodal Transformer for Unaligned Multimodal Language Sequences": per ordered pair a
    transformer whose queries come from one input and whose keys and values from the other; what an input learned from
    the others is joined, goes through self-attention, and its mean is the input's part of the joint vector. (The paper
    takes the last token; a mean does not depend on padding.) Cost and parameters grow with the number of pairs.
    """

    preference = 0.15

    class Config(TokenFusion.Config):
        """Settings of cross-modal attention."""

        hidden: Annotated[int, Field(ge=1), Tune(choices=[32, 64, 128])] = 64
        """Width of the tokens and of the joint features; a multiple of `heads`."""
        layers: Annotated[int, Field(ge=1, le=12), Tune(1, 3)] = 1
        """Layers of each pair's transformer."""

    @classmethod
    def unsuited(cls, context: Context, config: Any) -> str | None:
        """Attention across inputs takes two of them."""
        del config
        return needs_two(context)

    def __init__(self, config: Any, widths: Mapping[str, int]) -> None:
        from automm_fusion._modules import Block, mlp

        super().__init__(config, widths)
        hidden, inputs = config.hidden, range(len(widths))
        self.dropout = nn.Dropout(config.dropout)
        self.pairs = nn.ModuleDict(
            {
                f"{source}_to_{target}": nn.ModuleList(
                    [Block(hidden, config.heads, config.dropout) for _ in range(config.layers)]
                )
                for target in inputs
                for source in inputs
                if source != target
            }
        )
        others = max(len(widths) - 1, 1)
        self.join = nn.ModuleList([nn.Linear(others * hidden, hidden) for _ in inputs])
        self.own = nn.ModuleList([Block(hidden, config.heads, config.dropout) for _ in inputs])
        self.mlp = mlp(len(widths) * hidden, hidden, 1, config.dropout)

    def forward(self, inputs: Mapping[str, Features]) -> Features:
        """Joins a batch into one vector per row."""
        read = [Features(self.dropout(f.tokens), f.mask) for f in self.read(self.hide(inputs))]
        parts = []
        for target, (x, join, own) in enumerate(zip(read, self.join, self.own, strict=True)):
            heard = [self.listen(source, target, read).tokens for source in range(len(read)) if source != target]
            tokens = join(torch.cat(heard or [x.tokens], 2))  # [batch, time, hidden]
            parts.append(own(Features(tokens, x.mask)).mean())
        return Features.vector(self.mlp(torch.cat(parts, 1)))

    def listen(self, source: int, target: int, read: list[Features]) -> Features:
        """The target's tokens after they looked at the source's, [batch, time of the target, hidden]."""
        x = read[target]
        for block in self.pairs[f"{source}_to_{target}"]:
            x = block(x, read[source])
        return x
