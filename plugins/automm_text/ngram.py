"""The text encoder that is trained from scratch: a weighted sum of term vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from automm.api import ADAPT, Encoder, Features, InputInfo, Processor, Tune, nn, torch
from automm_text.ngrams import Ngrams

if TYPE_CHECKING:
    from torch import Tensor


class NgramText(Encoder):
    """Sums term vectors weighted by TF-IDF, as fastText does (Joulin et al. 2017).

    The vectors start from latent semantic analysis of the training texts (Deerwester et al. 1990) and are trained on.
    Needs no download and no word boundaries: works for any language.
    """

    name = "ngram"
    modality = "text"
    preference = 1.0

    class Config(Encoder.Config):
        """Fields of the n-gram encoder."""

        adapt: Annotated[str, Field(pattern=ADAPT), Tune(choices=["full", "last_1"])] = "full"
        """`last_1` keeps the term vectors as the semantic space gives them: less to learn from few texts."""
        max_terms: Annotated[int, Field(ge=1)] = 20_000
        """Most terms in the vocabulary."""
        min_count: Annotated[int, Field(ge=1)] = 2
        """Training texts that a term must occur in."""
        max_chars: Annotated[int, Field(ge=1)] = 10_000
        """Characters of a text that are read."""
        width: Annotated[int, Field(ge=1), Tune(choices=[64, 128, 256])] = 128
        """Width of the features; the first of them start from the semantic space."""
        dropout: Annotated[float, Field(ge=0, lt=1), Tune(0.0, 0.7)] = 0.3
        """Share of features dropped in training."""
        term_dropout: Annotated[float, Field(ge=0, lt=1), Tune(0.0, 0.5)] = 0.2
        """Share of a text's terms dropped in training."""

    @classmethod
    def processor(cls, config: Any, info: InputInfo) -> Processor:
        """The unfitted vocabulary."""
        del info
        # The width is searched: the same vocabulary and space serve every width.
        fields = {name: getattr(config, name) for name in ("max_terms", "min_count", "max_chars")}
        return Ngrams(Ngrams.Config(**fields))

    def __init__(self, config: Any, processor: Ngrams) -> None:
        super().__init__(config, processor)
        width = config.width
        self.table = nn.Embedding(processor.size, width, padding_idx=0)
        nn.init.normal_(self.table.weight, std=0.03)
        space = processor.state.get("_terms_to_space")
        with torch.no_grad():
            self.table.weight[0] = 0
            if space is not None:
                found = torch.from_numpy(space[:, :width]).float()  # [terms, width or fewer]
                self.table.weight[1:, : found.shape[1]] = found
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.dropout)
        self.width = width

    def layers(self) -> list[Any]:
        """The term vectors, then the projection."""
        return [self.table, nn.ModuleList([self.norm, self.project])]

    def forward(self, arrays: Mapping[str, Tensor]) -> Features:
        """`ids` and `weights` [batch, time] to features with time = 1."""
        weights = nn.functional.dropout(arrays["weights"], self.config.term_dropout, self.training)
        vectors = self.table(arrays["ids"])  # [batch, time, width]
        summed = (weights[:, None, :] @ vectors)[:, 0]  # [batch, width]
        x = self.norm(summed)
        return Features.vector(x + nn.functional.gelu(self.project(self.dropout(x))))
