"""The text encoder over fixed descriptors."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from automm.api import InputInfo, Processor, VectorEncoder
from automm_text.tfidf import Tfidf


class TfidfSvd(VectorEncoder):
    """Latent semantic analysis: TF-IDF of words and characters, reduced by SVD (Deerwester et al. 1990); training-free.

    Beside the semantic space stand the commonest words as columns of their own, and statistics of the text's form. Any
    language, no download.
    """

    name = "tfidf_svd"
    modality = "text"
    preference = 1.5

    class Config(VectorEncoder.Config):
        """Fields of the encoder over TF-IDF."""

        max_terms: Annotated[int, Field(ge=1)] = 20_000
        """Most terms in the vocabulary."""
        min_count: Annotated[int, Field(ge=1)] = 2
        """Training texts that a term must occur in."""
        max_chars: Annotated[int, Field(ge=1)] = 10_000
        """Characters of a text that are read."""
        dimensions: Annotated[int, Field(ge=1)] = 384
        """Most dimensions of the semantic space; a third of the training texts if that is less."""
        words: Annotated[int, Field(ge=0)] = 64
        """Words that get a column of their own."""

    @classmethod
    def processor(cls, config: Any, info: InputInfo) -> Processor:
        """TF-IDF, SVD and statistics."""
        del info
        fields = ("max_terms", "min_count", "max_chars", "dimensions", "words")
        return Tfidf(Tfidf.Config(**{name: getattr(config, name) for name in fields}))
