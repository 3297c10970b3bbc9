"""Drift: how far later rows are from those that a package was trained on. Torch-free.

A package holds `reference/drift.json`: histograms of the training rows' fields and target, and of what the processors
(by random projections) and the model made of rows held out. `Monitor` counts later rows into the same
bins; `compare` says which distributions have moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pydantic

from automm.core import figures
from automm.core.decoder import Decoder
from automm.core.figures import Figure
from automm.errors import PackageError
from automm.runtime import strictjson
from automm.runtime.distance import chi_squared, kolmogorov_smirnov, psi
from automm.runtime.histograms import Group, Histogram, Seen, histogram
from automm.runtime.inputs import clean
from automm.runtime.media import input_cells, takes_columns
from automm.runtime.projections import Scale, Watched, own_arrays, pooled, projections

if TYPE_CHECKING:
    from automm.core.kinds import Task
    from automm.runtime.package import Package

FILE = "reference/drift.json"
LARGEST = 64 * 2**20
MODERATE, DRIFTED = 0.1, 0.2
"""Population stability index from which a shift is called moderate, and drift."""
SURE = 0.01
"""Chance that any of the tests of an unshifted table is called significant."""
FEWEST = 30
"""With fewer rows nothing can be said."""
COLUMNS = 40
"""Most result columns that are watched."""

Key = tuple[Group, str, str]


class Reference(pydantic.BaseModel):
    """The content of `reference/drift.json`.

    Attributes:
        format: Version of the file.
        rows: Training rows that were looked at.
        scales: Slug → how its arrays are standardised.
        histograms: All histograms.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal[1] = 1
    rows: int
    scales: dict[str, Scale]
    histograms: tuple[Histogram, ...]

    def dump(self) -> bytes:
        """As strict JSON."""
        return strictjson.dumps(self.model_dump(mode="json", exclude_defaults=False), indent=None)


def read_reference(package: Package) -> Reference:
    """The drift reference of a package.

    Raises:
        PackageError: If it has none, or a damaged one.
    """
    if FILE not in package.files.listing:
        raise PackageError(
            f"{package.path}: the package has no {FILE}: an older automm made it; fit again to watch for drift"
        )
    data = package.files.read(FILE)
    strictjson.loads(data, FILE, most=LARGEST)
    try:
        return Reference.model_validate_json(data)
    except pydantic.ValidationError as problem:
        first = problem.errors()[0]
        raise PackageError(f"{FILE}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def field_figures(
    inputs: Sequence[Watched], cells: Mapping[str, Sequence[Any]], arrays: Mapping[str, np.ndarray], folder: Path | None
) -> dict[Key, Figure]:
    """The figures of all fields; a column that several inputs read is taken once.

    Args:
        inputs: The inputs.
        cells: Column → cells, none of which a processor refuses.
        arrays: What the processors made of the same rows, named as in the graph.
        folder: Where media paths start.
    """
    found: dict[Key, Figure] = {}
    done: set[str] = set()
    for item in inputs:
        own = {column: [clean(cell) for cell in cells[column]] for column in item.columns}
        given = input_cells(item.processor, item.columns, own, folder)
        single = item.columns[0] if len(item.columns) == 1 else item.name
        fields = given if takes_columns(item.processor) else {single: given}
        for field, values in fields.items():
            if field not in done:
                done.add(field)
                for figure, content in item.processor.figures(field, values, own_arrays(item, arrays)).items():
                    found["input", field, figure] = content
    return found


def result_figures(decoder: Decoder, answers: Mapping[str, np.ndarray]) -> dict[Key, Figure]:
    """The figures of the results that users read."""
    found: dict[Key, Figure] = {}
    values = decoder.decode(answers)
    for column, kind in list(decoder.columns().items())[:COLUMNS]:
        content = figures.numbers(values[column]) if kind == "number" else figures.names(values[column])
        found["prediction", column, "value"] = content
    return found


def target_figures(task: Task, cells: Mapping[str, Sequence[Any]]) -> dict[Key, Figure]:
    """The figures of the target; rows without one are left out."""
    found: dict[Key, Figure] = {}
    for column, content in task.figures(
        {name: [clean(cell) for cell in values] for name, values in cells.items()}
    ).items():
        found["target", column, "value"] = Figure(
            content.kind, [value for value in content.values if value is not None]
        )
    return found


def learn(
    found: Mapping[Key, Figure],
    scales: Mapping[str, Scale],
    vectors: Mapping[str, tuple[np.ndarray, np.ndarray]],
    rows: int,
) -> Reference:
    """Makes the reference.

    Args:
        found: The figures of training rows, of the target, of refused rows, and of predictions on rows held out.
        scales: Slug → how its vectors are standardised, from the training rows.
        vectors: Slug → what `pooled` gave for rows held out, and whether each row has the input.
        rows: Number of training rows.
    """
    histograms = [histogram(*key, content) for key, content in found.items()]
    for slug, (values, present) in vectors.items():
        for figure, content in projections(slug, values, present, scales[slug]).items():
            histograms.append(histogram("model", slug, figure, content))
    return Reference(rows=rows, scales=dict(scales), histograms=tuple(histograms))


class Monitor:
    """Counts rows into the bins of a package's reference.

    Args:
        package: The opened package.
        task: Its task, to read the target where rows have one; None: the target is not looked at.

    Attributes:
        rows: Rows seen; `refused` of them could not be read.
    """

    def __init__(self, package: Package, task: Task | None = None) -> None:
        self.package, self.task = package, task
        self.reference = read_reference(package)
        self.rows = self.refused = 0
        self._seen = {_key(known): Seen(known) for known in self.reference.histograms}
        self._inputs = watched(package)

    def add(self, table: Mapping[str, Sequence[Any]], rows: int, folder: Path | None) -> dict[int, str]:
        """Counts some rows.

        Args:
            table: Column → cells, `rows` each: all columns that the model reads, and the target's if they are known.
            rows: Number of rows.
            folder: Where media paths start.

        Returns:
            Position → reason of the rows that could not be read.
        """
        arrays, refused = self.package.arrays(table, rows, folder)
        kept = [at for at in range(rows) if at not in refused]
        self.rows += rows
        self.refused += len(refused)
        self._count(refused_figure(len(kept), len(refused)))
        columns = self.package.manifest.target.columns
        if self.task is not None and all(column in table for column in columns):
            self._count(target_figures(self.task, {column: table[column] for column in columns}))
        if not kept:
            return refused
        if refused:
            arrays = {name: array[kept] for name, array in arrays.items()}
        cells = {column: [table[column][at] for at in kept] for column in self.package.columns}
        self._count(field_figures(self._inputs, cells, arrays, folder))
        for item in self._inputs:
            if item.slug in self.reference.scales:
                vectors, present = pooled(item, arrays), arrays[f"{item.slug}.present"]
                parts = projections(item.slug, vectors, present, self.reference.scales[item.slug])
                self._count({("model", item.slug, figure): content for figure, content in parts.items()})
        answers = self.package.run(arrays, len(kept))
        self._count(result_figures(self.package.decoder, answers))
        return refused

    def _count(self, found: Mapping[Key, Figure]) -> None:
        for key, content in found.items():
            if key in self._seen:
                self._seen[key].add(content)

    def findings(self, threshold: float = DRIFTED) -> list[Finding]:
        """What has moved and what has not, the largest shift first; see `compare`."""
        return compare(list(self._seen.values()), threshold)


def watched(package: Package) -> list[Watched]:
    """The inputs of a package."""
    pairs = zip(package.manifest.inputs, package.inputs, strict=True)
    return [Watched(part.name, part.slug, tuple(part.columns), item.processor) for part, item in pairs]


def refused_figure(kept: int, refused: int) -> dict[Key, Figure]:
    """Rows that could be read, and rows that could not, as a figure."""
    return {("rows", "rows", "refused"): Figure("category", ["read"] * kept + ["refused"] * refused)}


def _key(known: Histogram) -> Key:
    return known.group, known.field, known.figure


class Finding(NamedTuple):
    """One figure compared.

    Attributes:
        group: See `Histogram`.
        field: Column, input or result column.
        figure: What of it.
        kind: "number" or "category".
        status: "stable", "moderate", "drift", or "unknown" (too few rows).
        psi: Population stability index.
        ks: Kolmogorov-Smirnov distance of numbers; None for categories.
        chi2: χ² over the bins, missing values among them.
        p: Smallest p-value of the tests, times the number of tests.
        words: What moved, in words.
        bins: Per bin: label, share in the reference, share in the rows.
    """

    group: str
    field: str
    figure: str
    kind: str
    status: str
    psi: float
    ks: float | None
    chi2: float
    p: float
    words: str
    bins: list[tuple[str, float, float]]


ORDER = ("drift", "moderate", "stable", "unknown")


def compare(seen: Sequence[Seen], threshold: float = DRIFTED) -> list[Finding]:
    """Compares counted rows with the reference.

    A figure has drifted if its stability index reaches the threshold and chance alone would hardly give that: the
    index of a few rows is large by itself. The level is shared by all tests (Bonferroni).

    Args:
        seen: What was counted; figures without any row are left out.
        threshold: Stability index from which a shift is called drift.
    """
    counted = [one for one in seen if one.counts.sum() + one.missing > 0]
    found = [_finding(one, threshold, len(counted)) for one in counted]
    return sorted(found, key=lambda finding: (ORDER.index(finding.status), -finding.psi))


def _finding(seen: Seen, threshold: float, tests: int) -> Finding:
    known = seen.reference
    reference = np.array([*known.counts, known.missing])
    counts = np.array([*seen.counts, seen.missing])
    index = psi(reference, counts)
    chi2, p = chi_squared(reference, counts)
    distance = None
    if known.kind == "number":
        distance, other = kolmogorov_smirnov(reference[:-1], counts[:-1])
        p = min(2 * p, 2 * other)
    p = min(p * tests, 1.0)
    status = "stable"
    if min(counts.sum(), reference.sum()) < FEWEST:
        status = "unknown"
    elif p <= SURE and index >= min(MODERATE, threshold):
        status = "drift" if index >= threshold else "moderate"
    shares, others = reference / max(reference.sum(), 1), counts / max(counts.sum(), 1)
    bins = [(label, float(a), float(b)) for label, a, b in zip(known.labels, shares, others, strict=True)]
    words = _words(seen, bins)
    return Finding(known.group, known.field, known.figure, known.kind, status, index, distance, chi2, p, words, bins)


def _words(seen: Seen, bins: Sequence[tuple[str, float, float]]) -> str:
    """The change that says most: the mean of numbers, the name whose share moved most, new names, missing values."""
    known, said = seen.reference, []
    if known.kind == "number" and known.group != "model" and known.mean is not None and seen.mean is not None:
        said.append(f"mean {known.mean:.4g} → {seen.mean:.4g}")
    elif known.kind == "category" and len(bins) > 2:
        label, before, after = max(bins[:-2], key=lambda item: abs(item[2] - item[1]))
        said.append(f"{label} {before:.0%} → {after:.0%}")
        _, before, after = bins[-2]
        if after > before and seen.others:
            examples = ", ".join(repr(name) for name, _ in seen.others.most_common(3))
            said.append(f"others {before:.0%} → {after:.0%} ({examples})")
    if abs(bins[-1][2] - bins[-1][1]) >= 0.02:
        said.append(f"missing {bins[-1][1]:.0%} → {bins[-1][2]:.0%}")
    return ", ".join(said)
