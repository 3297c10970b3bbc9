"""Figures: what is watched of a cell when data may drift. Torch-free."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Number
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from automm.core.arrays import ArraySpec
from automm.core.cells import as_text, parse_number


class Figure(NamedTuple):
    """One figure of every row.

    Attributes:
        kind: "number" or "category".
        values: One entry per row: a number, or a name (several names as a list); None where there is none.
    """

    kind: Literal["number", "category"]
    values: list[Any]


def numbers(cells: Sequence[Any]) -> Figure:
    """Cells as numbers; None where a cell is none."""
    return Figure("number", [None if cell is None else parse_number(cell) for cell in cells])


def names(cells: Sequence[Any]) -> Figure:
    """Cells as names; a list of names stays one."""
    return Figure("category", [_names(cell) for cell in cells])


def _names(cell: Any) -> Any:
    if cell is None:
        return None
    return [as_text(item) for item in cell] if isinstance(cell, list | tuple) else as_text(cell)


def of_cells(cells: Sequence[Any]) -> dict[str, Figure]:
    """The figures of cells by what they are: lists of numbers, single numbers, or text."""
    present = [cell for cell in cells if cell is not None]
    if any(isinstance(cell, list | tuple | np.ndarray) for cell in present):
        return _of_lists(cells)
    if present and all(isinstance(cell, Number) for cell in present):
        return {"value": numbers(cells)}
    return of_text(cells)


def of_text(cells: Sequence[Any]) -> dict[str, Figure]:
    """Length in characters and words, and the shares of capitals, digits, signs, and characters beyond ASCII."""
    found: dict[str, list[float | None]] = {
        name: [] for name in ("characters", "words", "capitals", "digits", "signs", "beyond ASCII")
    }
    for cell in cells:
        text = None if cell is None else as_text(cell)
        if not text:
            for values in found.values():
                values.append(None)
            continue
        size = len(text)
        found["characters"].append(size)
        found["words"].append(len(text.split()))
        found["capitals"].append(sum(map(str.isupper, text)) / size)
        found["digits"].append(sum(map(str.isdigit, text)) / size)
        found["signs"].append(sum(not (char.isalnum() or char.isspace()) for char in text) / size)
        found["beyond ASCII"].append(sum(char > "\x7f" for char in text) / size)
    return {name: Figure("number", values) for name, values in found.items()}


def of_files(cells: Sequence[Any]) -> dict[str, Figure]:
    """The size of files, given as paths or as their bytes."""
    return {"bytes": Figure("number", [_size(cell) for cell in cells])}


def _size(cell: Any) -> int | None:
    if isinstance(cell, bytes | bytearray):
        return len(cell)
    try:
        return os.stat(cell).st_size if isinstance(cell, Path) else None
    except OSError:
        return None


def of_arrays(arrays: Mapping[str, np.ndarray], specs: Mapping[str, ArraySpec]) -> dict[str, Figure]:
    """Mean, deviation and length of what a processor made of rows: loudness, brightness, contrast, duration.

    Args:
        arrays: Array name → [rows, …], padded.
        specs: Their specifications. What equals the padding is not counted, so the figures do not depend on the batch.
    """
    found: dict[str, Figure] = {}
    for name, spec in specs.items():
        if spec.dtype == "bool" or (spec.fixed and len(spec.shape) < 2):
            continue
        flat = arrays[name].reshape(len(arrays[name]), -1)
        real = np.isfinite(flat) if spec.fixed else np.isfinite(flat) & (flat != spec.pad)
        count = real.sum(1)
        if not spec.fixed:
            found[f"{name} length"] = _figure(count, count)
        if flat.dtype.kind == "f" or spec.dtype == "uint8":
            values = np.where(real, flat, 0).astype(np.float64)
            mean = values.sum(1) / np.maximum(count, 1)
            spread = np.where(real, values - mean[:, None], 0) ** 2
            found[f"{name} mean"] = _figure(mean, count)
            found[f"{name} deviation"] = _figure(np.sqrt(spread.sum(1) / np.maximum(count, 1)), count)
    return found


def _figure(values: np.ndarray, count: np.ndarray) -> Figure:
    return Figure("number", [float(value) if n else None for value, n in zip(values, count, strict=True)])


def _of_lists(cells: Sequence[Any]) -> dict[str, Figure]:
    """Length, mean and deviation of lists of numbers."""
    length: list[float | None] = []
    mean: list[float | None] = []
    deviation: list[float | None] = []
    for cell in cells:
        values = np.array([parse_number(item) for item in np.ravel(cell)] if cell is not None else [], np.float64)
        known = values[np.isfinite(values)]
        length.append(None if cell is None else float(len(values)))
        mean.append(float(known.mean()) if len(known) else None)
        deviation.append(float(known.std()) if len(known) else None)
    found = {"length": length, "mean": mean, "deviation": deviation}
    return {name: Figure("number", values) for name, values in found.items()}
