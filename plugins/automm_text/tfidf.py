"""Tfidf: text → one vector of numbers, learned from the training texts without their targets. Torch-free."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from automm.api import ArraySpec, Processor, is_null
from automm_text.cutting import readable
from automm_text.ngrams import Ngrams
from automm_text.terms import is_letters

_ROWS_PER_DIMENSION = 3
"""Training texts for each dimension: beyond, dimensions describe single texts and models learn them by heart."""

_FEWEST_DIMENSIONS = 16

_STATISTICS = 10


class Tfidf(Processor):
    """Text → `vector`: its place in the semantic space, the weights of the commonest words, and statistics of its form.

    The semantic space is a truncated SVD of the TF-IDF matrix of words, word pairs, letter n-grams and characters
    (latent semantic analysis, Deerwester et al. 1990). Single words stand beside it for models that split on one column
    at a time. A missing cell is all NaN.
    """

    op = "text.tfidf"

    class Config(Processor.Config):
        """Sizes of the vocabulary and of the vector."""

        max_terms: Annotated[int, Field(ge=1)] = 20_000
        """Most terms in the vocabulary, the most frequent ones."""
        min_count: Annotated[int, Field(ge=1)] = 2
        """Texts that a term must occur in."""
        max_chars: Annotated[int, Field(ge=1)] = 10_000
        """Characters of a text that are read."""
        dimensions: Annotated[int, Field(ge=1)] = 384
        """Most dimensions of the semantic space; a third of the training texts if that is less."""
        words: Annotated[int, Field(ge=0)] = 64
        """Words that get a column of their own: those that part the training texts most evenly."""

    def __init__(self, config: Any, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(config, state)
        self._load()

    def _load(self) -> None:
        self._ngrams = self._terms(self.config.dimensions)
        words = self.state.get("words", np.zeros(0, np.int64))
        self._columns = np.full(self._ngrams.size, -1)
        self._columns[words] = np.arange(len(words))

    def _terms(self, dimensions: int) -> Ngrams:
        names = ("max_terms", "min_count", "max_chars")
        fields = {name: getattr(self.config, name) for name in names}
        settings = Ngrams.Config(**fields, row_terms=self.config.max_terms, space=dimensions)
        return Ngrams(settings, {key: self.state[key] for key in ("terms", "idf") if key in self.state})

    def fit(self, chunks: Iterable[Sequence[Any]]) -> None:
        """Learns the vocabulary, the space and the words."""
        rows = sum(1 for _ in self._present(chunks))
        most = max(rows // _ROWS_PER_DIMENSION, _FEWEST_DIMENSIONS)
        ngrams = self._terms(min(most, self.config.dimensions))
        ngrams.fit(chunks)
        learned = ngrams.state
        share = (1 + rows) / np.exp(learned["idf"].astype(np.float64) - 1) / max(rows, 1)  # of texts with the term
        evenness = np.where([is_letters(term) for term in learned["terms"]], 0, share * (1 - share)).clip(min=0)
        ranked = np.argsort(-evenness, kind="stable")[: self.config.words]
        self.state = {
            "terms": learned["terms"],
            "idf": learned["idf"],
            "space": learned["_terms_to_space"],
            "words": np.sort(ranked[evenness[ranked] > 0]) + 1,
        }
        self._load()

    def _present(self, chunks: Iterable[Sequence[Any]]) -> Iterator[Any]:
        for chunk in chunks:
            yield from (cell for cell in chunk if not is_null(cell) and isinstance(cell, str | int | float))

    def specs(self) -> dict[str, ArraySpec]:
        """One vector of fixed size (known after `fit`)."""
        size = self.state["space"].shape[1] + len(self.state["words"]) + _STATISTICS
        return {"vector": ArraySpec("float32", (size,))}

    def load(self, cell: Any) -> dict[str, np.ndarray]:
        """One text → its vector.

        Raises:
            BadCell: If the cell is not text.
        """
        text = readable(cell, self.config.max_chars)
        row = self._ngrams.load(text)
        ids, weights = row["ids"], row["weights"]
        if not weights.any():
            ids, weights = ids[:0], weights[:0]
        place = weights @ self.state["space"][ids - 1].astype(np.float32)
        words = np.zeros(len(self.state["words"]), np.float32)
        columns = self._columns[ids]
        words[columns[columns >= 0]] = weights[columns >= 0]
        return {"vector": np.concatenate([place, words, statistics(text)])}

    def blank(self) -> dict[str, np.ndarray]:
        """All unknown."""
        return {"vector": np.full(self.specs()["vector"].shape, np.nan, np.float32)}


def statistics(text: str) -> np.ndarray:
    """The form of a text, float32 [10].

    Logarithms of its characters, words and lines, the mean length of words, the shares of digits, capitals, signs and
    East Asian characters, and the logarithms of its exclamation and question marks.
    """
    size, words = max(len(text), 1), text.split()
    wide = 0 if text.isascii() else sum(unicodedata.east_asian_width(one) in "WF" for one in text)
    signs = sum(not (one.isalnum() or one.isspace()) for one in text)
    counts = (len(text), len(words), text.count("\n"))
    marks = (text.count("!") + text.count("！"), text.count("?") + text.count("？"))
    shares = (sum(map(str.isdigit, text)), sum(map(str.isupper, text)), signs, wide)
    mean_length = sum(map(len, words)) / max(len(words), 1)
    return np.array(
        [*np.log1p(counts), np.log1p(mean_length), *(share / size for share in shares), *np.log1p(marks)], np.float32
    )
