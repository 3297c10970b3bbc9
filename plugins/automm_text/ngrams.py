"""Ngrams: text → weighted terms of a learned vocabulary, for any language and without a download. Torch-free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from automm.api import ArraySpec, MissingExtraError, Processor, is_null
from automm_text.cutting import readable
from automm_text.terms import is_letters, terms

_COUNTED = 1_000_000
"""Most terms counted at a time while the vocabulary is learned; the rarest are forgotten beyond."""

_LETTER_WEIGHT = 0.3
"""Weight of letter n-grams beside words: there are many of them, and they matter for words never seen."""

_SPREAD = 0.3
"""Small beside an optimiser's steps, so that training moves the term vectors and not only what follows them."""

_LEAST_VALUE = 1e-4
"""Smallest singular value that is kept, as a share of the largest: below is the rounding of repeated texts."""

_SVD_ROWS = 8_000
"""Training texts that the semantic space is computed from."""


class Ngrams(Processor):
    """Text → `ids` and `weights` [time]: terms of the vocabulary with their TF-IDF weights.

    Weights are (1 + log count) · idf, scaled to length 1 (Salton and Buckley 1988). Id 0 with weight 0 is padding.

    `fit` also computes a truncated SVD of the training matrix (latent semantic analysis, Deerwester et al. 1990) that
    the encoder starts from; it is kept under `_terms_to_space`, a key that packages leave out.
    """

    op = "text.ngrams"

    class Config(Processor.Config):
        """Size of the vocabulary."""

        max_terms: Annotated[int, Field(ge=1)] = 20_000
        """Most terms in the vocabulary, the most frequent ones."""
        min_count: Annotated[int, Field(ge=1)] = 2
        """Texts that a term must occur in."""
        max_chars: Annotated[int, Field(ge=1)] = 10_000
        """Characters of a text that are read."""
        row_terms: Annotated[int, Field(ge=1)] = 512
        """Most different terms of one text, those with the largest weights."""
        space: Annotated[int, Field(ge=1)] = 128
        """Dimensions of the semantic space."""

    def __init__(self, config: Any, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(config, state)
        self._load()

    def _load(self) -> None:
        self._ids = {term: at for at, term in enumerate(self.state.get("terms", ()), 1)}
        idf = np.concatenate([[0.0], np.asarray(self.state.get("idf", ()), np.float64)])
        letters = np.array([False, *map(is_letters, self.state.get("terms", ()))])
        self._factors = np.where(letters, _LETTER_WEIGHT, 1.0) * idf

    @property
    def size(self) -> int:
        """Number of ids, padding included (known after `fit`)."""
        return len(self._ids) + 1

    def fit(self, chunks: Iterable[Sequence[Any]]) -> None:
        """Learns the vocabulary, the weights and the semantic space (two passes over the chunks)."""
        rows, counts = 0, Counter[str]()
        for text in self._texts(chunks):
            rows += 1
            counts.update(set(terms(text)))
            if len(counts) > _COUNTED:
                counts = Counter(dict(_ranked(counts)[: _COUNTED // 2]))
        kept = [
            (term, count) for term, count in _ranked(counts)[: self.config.max_terms] if count >= self.config.min_count
        ]
        kept = kept or _ranked(counts)[: self.config.max_terms]  # a handful of texts without a common term
        document_counts = np.array([count for _, count in kept], np.float64)
        self.state = {
            "terms": [term for term, _ in kept],
            "idf": (np.log((1 + rows) / (1 + document_counts)) + 1).astype(np.float32),
        }
        self._load()
        chosen = set(range(rows))
        if rows > _SVD_ROWS:
            chosen = set(np.random.default_rng(0).choice(rows, _SVD_ROWS, replace=False).tolist())
        sample = [self.load(text) for at, text in enumerate(self._texts(chunks)) if at in chosen]
        self.state["_terms_to_space"] = _semantic_space(sample, len(kept), self.config.space)

    def _texts(self, chunks: Iterable[Sequence[Any]]) -> Iterator[str]:
        """The present cells that can be read; calls refuse the others."""
        for chunk in chunks:
            for cell in chunk:
                if not is_null(cell) and isinstance(cell, str | int | float):
                    yield readable(cell, self.config.max_chars)

    def specs(self) -> dict[str, ArraySpec]:
        """The arrays it gives."""
        return {"ids": ArraySpec("int64", ("time",)), "weights": ArraySpec("float32", ("time",))}

    def load(self, cell: Any) -> dict[str, np.ndarray]:
        """One text → its terms, ascending by id; one padding term if it has none.

        Raises:
            BadCell: If the cell is not text.
        """
        get = self._ids.get
        counts = Counter(map(get, terms(readable(cell, self.config.max_chars))))
        del counts[None]
        if not counts:
            return self.blank()
        ids = np.fromiter(counts.keys(), np.int64, len(counts))
        weights = (1 + np.log(np.fromiter(counts.values(), np.float64, len(counts)))) * self._factors[ids]
        if len(ids) > self.config.row_terms:
            # Ties are broken by id, so that the choice never depends on the order of the text.
            kept = np.lexsort((ids, -weights))[: self.config.row_terms]
            ids, weights = ids[kept], weights[kept]
        order = np.argsort(ids)
        return {"ids": ids[order], "weights": (weights[order] / np.linalg.norm(weights)).astype(np.float32)}


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _semantic_space(rows: list[dict[str, np.ndarray]], size: int, dimensions: int) -> np.ndarray:
    """Right singular vectors of the TF-IDF matrix.

    Args:
        rows: `ids` (from 1) and `weights` of each text.
        size: Terms in the vocabulary.
        dimensions: Dimensions asked for; fewer if the matrix has a lower rank.

    Returns:
        Float16 [size, dimensions or fewer]: what a term adds to a text's place in the space. The first
        dimension of the texts has the standard deviation `_SPREAD`, later ones less (as the square root of the
        singular value).
    """
    rank = min(dimensions, len(rows) - 1, size - 1)
    if rank < 1:
        return np.zeros((size, 0), np.float16)
    try:
        from scipy.sparse import csr_matrix
        from sklearn.utils.extmath import randomized_svd
    except ImportError as problem:
        raise MissingExtraError(
            "learning a text vocabulary needs scikit-learn: pip install 'automm[train]'"
        ) from problem
    ends = np.cumsum([0, *(len(row["ids"]) for row in rows)])
    ids = np.concatenate([row["ids"] for row in rows])
    weights = np.concatenate([row["weights"] for row in rows])
    weights[ids == 0] = 0
    matrix = csr_matrix((weights.astype(np.float64), np.maximum(ids - 1, 0), ends), (len(rows), size))
    _, values, right = randomized_svd(matrix, rank, n_iter=4, random_state=0)
    kept = values > _LEAST_VALUE * max(values[0], _LEAST_VALUE)
    values, right = values[kept], right[kept]
    scale = _SPREAD * np.sqrt(len(rows) / (values * values[:1]))
    return (right.T * scale).astype(np.float16)
