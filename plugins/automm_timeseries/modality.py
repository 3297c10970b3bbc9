"""Recognising columns of time series."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automm.api import BadCell, Claim, ColumnProfile, Examples, InputInfo, Modality, claim_files, parse_number
from automm_timeseries.read import Bounds, read_cell

EXTENSIONS = frozenset({".npy", ".csv", ".tsv", ".parquet", ".json"})
TIME_WORDS = frozenset({"t", "ts", "time", "timestep", "step", "lag", "sample", "tick", "hour", "day", "week", "month"})
FEWEST = 8
SMOOTH = 0.6


class Series(Modality):
    """Columns of paths to series files, lists of numbers in a cell, or one numbered column per time step."""

    name = "series"

    @classmethod
    def claim(cls, column: ColumnProfile) -> Claim | None:
        """Claims columns of existing .npy, .csv, .tsv, .parquet or .json files, and of lists of numbers."""
        if column.list_share >= 0.5 and any(_readable(cell) for cell in column.sample):
            return Claim(0.9 * column.list_share, f"{column.list_share:.0%} of the cells are lists of numbers")
        return claim_files(column, EXTENSIONS, "series")

    @classmethod
    def claim_family(cls, prefix: str, columns: Sequence[ColumnProfile]) -> Claim | None:
        """Claims numeric columns that are named after time, or whose values change little from one to the next."""
        if len(columns) < FEWEST or any(column.number_share < 0.95 for column in columns):
            return None
        if prefix.strip("_-. ").lower() in TIME_WORDS:
            return Claim(0.85, f"{len(columns)} numeric columns numbered by {prefix.strip('_-. ')!r}")
        ratio = _roughness(columns)
        if ratio is None or ratio > SMOOTH:
            return None
        return Claim(0.75, f"{len(columns)} numbered numeric columns whose neighbours have similar values")

    @classmethod
    def examples(cls, count: int, seed: int) -> Examples:
        """Lists of 20 to 40 numbers; those of group 0 are noise, those of group 1 waves."""
        generator = np.random.default_rng(seed)
        groups = tuple(row % 2 for row in range(count))
        cells = []
        for group in groups:
            values = generator.normal(size=generator.integers(20, 41)) * (0.2 if group else 1.0)
            phase = generator.uniform(0, 6)
            cells.append((values + group * np.sin(np.arange(len(values)) / 3 + phase)).round(4).tolist())
        return Examples(InputInfo("signal", cls.name, ("signal",)), cells, groups)


def _readable(cell: object) -> bool:
    try:
        read_cell(cell, Bounds())
    except BadCell:
        return False
    return True


def _roughness(columns: Sequence[ColumnProfile]) -> float | None:
    """Mean step between neighbouring columns over that between random ones; below 1 where order carries meaning."""
    count = min(len(column.sample) for column in columns)
    if count < 3 or any(column.nulls for column in columns):  # without nulls the samples are of the same rows
        return None
    rows = [[parse_number(column.sample[at]) for column in columns] for at in range(count)]
    values = np.array([row for row in rows if None not in row], np.float64)  # [rows, columns]
    if len(values) < 3:
        return None
    scale = values.std(0)
    values = (values - values.mean(0)) / np.where(scale > 0, scale, 1)
    shuffled = values[:, np.random.default_rng(0).permutation(values.shape[1])]
    random = np.abs(np.diff(shuffled, axis=1)).mean()
    return float(np.abs(np.diff(values, axis=1)).mean() / random) if random > 0 else None
