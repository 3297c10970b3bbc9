"""Histograms of what was seen in training, and what later rows are counted into. Torch-free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from pydantic import Field

from automm.core.figures import Figure

BINS = 10
"""Bins of a number; each holds about the same number of training rows."""
TOP = 50
"""Most names of a category that are counted on their own."""
SAME = 1e-6
"""Numbers this close, as a share of their size and of their usual spread, count as equal."""
EXAMPLES = 1000
"""Most different names beyond the known ones that are remembered while counting."""
LONGEST = 80
"""Characters of a name that are kept."""

Group = Literal["input", "model", "prediction", "target", "rows"]


class Histogram(pydantic.BaseModel):
    """How often the training rows' values fall into bins.

    Attributes:
        group: "input": a field of the table; "model": an input as the model reads it; "prediction"; "target"; "rows":
            whether rows could be read.
        field: Column, input or result column.
        figure: What is counted of it ("value", "words", "bytes", …).
        kind: "number" or "category".
        edges: Numbers: upper edges (inclusive) of all bins but the last, ascending.
        names: Categories: the most frequent names; the last bin counts all others.
        counts: Rows per bin: len(edges) + 1, or len(names) + 1.
        missing: Rows without a value.
        mean: Mean of the numbers.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    group: Group
    field: str
    figure: str
    kind: Literal["number", "category"]
    edges: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    counts: tuple[Annotated[int, Field(ge=0)], ...]
    missing: Annotated[int, Field(ge=0)] = 0
    mean: float | None = None

    @pydantic.model_validator(mode="after")
    def _fitting(self) -> Histogram:
        if len(self.counts) != len(self.edges) + len(self.names) + 1:
            raise ValueError(f"{self.field}: {len(self.counts)} counts do not fit its bins")
        if list(self.edges) != sorted(set(self.edges)) or len(set(self.names)) != len(self.names):
            raise ValueError(f"{self.field}: the bins are not in order, or repeat")
        return self

    @property
    def labels(self) -> list[str]:
        """What the bins are, in words; the last stands for missing values."""
        if self.kind == "category":
            return [*self.names, "(others)", "(missing)"]
        if not self.edges:
            return ["(all)", "(missing)"]
        inner = [f"{low:.4g} … {high:.4g}" for low, high in zip(self.edges, self.edges[1:], strict=False)]
        return [f"≤ {self.edges[0]:.4g}", *inner, f"> {self.edges[-1]:.4g}", "(missing)"]


def histogram(group: Group, field: str, figure: str, content: Figure) -> Histogram:
    """Chooses bins for values and counts them."""
    if content.kind == "category":
        counted = Counter(name[:LONGEST] for names in content.values for name in _listed(names))
        bins: dict[str, Any] = {"names": tuple(name for name, _ in counted.most_common(TOP))}
    else:
        bins = {"edges": tuple(_edges(_finite(content.values)))}
    size = len(next(iter(bins.values()))) + 1
    blank = Histogram(group=group, field=field, figure=figure, kind=content.kind, counts=(0,) * size, **bins)
    seen = Seen(blank)
    seen.add(content)
    update = {"counts": tuple(map(int, seen.counts)), "missing": int(seen.missing), "mean": seen.mean}
    return blank.model_copy(update=update)


def _edges(values: np.ndarray) -> list[float]:
    """Upper edges of bins of about equal size; few different values get a bin each.

    Edges lie half-way between two values: the same cell read again may differ in the last digits.
    """
    if not len(values):
        return []
    different = np.unique(values)
    low, high = different[:-1], different[1:]
    usual = np.quantile(np.abs(values - np.median(values)), 0.9)
    apart = high - low > SAME * (usual + np.abs(low) + np.abs(high))
    between = ((low + high) / 2)[apart]
    if len(between) >= BINS:
        cuts = np.quantile(values, np.arange(1, BINS) / BINS, method="inverted_cdf")
        places = np.unique(np.searchsorted(between, cuts))
        between = between[places[places < len(between)]]
    return [float(edge) for edge in between]


def _finite(values: Sequence[Any]) -> np.ndarray:
    found = np.array([np.nan if value is None else value for value in values], np.float64)
    return found[np.isfinite(found)]


def _listed(names: Any) -> list[str]:
    return [] if names is None else names if isinstance(names, list) else [names]


class Seen:
    """Counts values into the bins of a histogram.

    Args:
        reference: The histogram.

    Attributes:
        counts: Values per bin, [bins].
        missing: Rows without a value.
        others: Names that the reference does not know, with their counts.
    """

    def __init__(self, reference: Histogram) -> None:
        self.reference = reference
        self.counts = np.zeros(len(reference.counts), np.int64)
        self.missing = 0
        self.others: Counter[str] = Counter()
        self._at = {name: at for at, name in enumerate(reference.names)}
        self._edges = np.array(reference.edges, np.float64)
        self._sum, self._numbers = 0.0, 0

    @property
    def mean(self) -> float | None:
        """Mean of the numbers."""
        mean = self._sum / self._numbers if self._numbers else None
        return mean if mean is not None and np.isfinite(mean) else None

    def add(self, content: Figure) -> None:
        """Counts some rows."""
        if self.reference.kind == "number":
            self._add_numbers(content.values if content.kind == "number" else [None] * len(content.values))
        else:
            self._add_names(content.values)

    def _add_numbers(self, values: Sequence[Any]) -> None:
        found = _finite(values)
        self.missing += len(values) - len(found)
        self._sum += float(found.sum())
        self._numbers += len(found)
        self.counts += np.bincount(np.searchsorted(self._edges, found, side="left"), minlength=len(self.counts))

    def _add_names(self, values: Sequence[Any]) -> None:
        for names in values:
            self.missing += names is None
            for name in _listed(names):
                name = str(name)[:LONGEST]
                at = self._at.get(name, -1)
                self.counts[at] += 1
                if at < 0 and (name in self.others or len(self.others) < EXAMPLES):
                    self.others[name] += 1
