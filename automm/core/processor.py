"""Processors: raw cells → arrays. One implementation for training and serving; torch-free and deterministic."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from automm.core.arrays import ArraySpec, collate
from automm.core.component import Component
from automm.core.figures import Figure, of_arrays, of_cells, of_files


class BadCell(Exception):
    """A cell cannot be used; the message says why, for the ledger or the response."""


class BadCells(Exception):
    """Some cells of a batch cannot be used.

    Attributes:
        reasons: Position in the batch → why.
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        self.reasons = dict(reasons)
        first = next(iter(self.reasons.items()), (None, ""))
        super().__init__(f"{len(self.reasons)} bad cells, the first at {first[0]}: {first[1]}")


class Processor(Component, abstract=True):
    """Turns cells into arrays.

    An author writes `specs` and `load` (one cell → arrays), and `fit` if something must be learned from the training
    rows. What `fit` learns goes into `self.state`: strings, numbers, lists and dictionaries of them, and NumPy arrays.
    Keys of `state` that begin with "_" serve only to build the encoder before training; packages leave them out.
    A processor of many columns overrides `__call__` instead of `load` and gives fixed shapes.

    Attributes:
        op: What packages call it, for ever ("image.resize").
        version: Raised whenever the same cell would give other arrays.
        media: True if string cells are paths to files; they arrive as `pathlib.Path` (checked to lie inside the data
            folder) or as `bytes`.
        limits: What it refuses, for the manifest: name → bound ("pixels": 50_000_000).
    """

    kind = "processor"
    op: ClassVar[str] = ""
    version: ClassVar[int] = 1
    media: ClassVar[bool] = False

    def __init__(self, config: Any, state: Mapping[str, Any] | None = None) -> None:
        self.config = config
        self.state: dict[str, Any] = dict(state or {})

    @property
    def limits(self) -> dict[str, float]:
        """What it refuses: name → bound."""
        return {}

    @staticmethod
    def inline(cell: str) -> bool:
        """For `media`: whether this string is the data itself and not a path."""
        del cell
        return False

    def fit(self, chunks: Iterable[Any]) -> None:
        """Learns `self.state` from the training cells.

        Args:
            chunks: Pieces of the column; a list of cells each, or for an input of many columns a mapping from column to
                its list of cells. None is a missing cell. May be iterated more than once.
        """
        del chunks

    def extend(self, chunks: Iterable[Any]) -> None:
        """Learns from later cells what is new in them (categories, say) when a package is updated.

        What had a place in the arrays keeps it, so that trained weights still fit; see `Encoder.adopt`. By default
        nothing changes.

        Args:
            chunks: As for `fit`.
        """
        del chunks

    def figures(self, field: str, cells: Sequence[Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Figure]:
        """What is watched of a field when data may drift: figure ("words", "value") → its values.

        By default: of text its length and kinds of characters, of numbers their value, of lists their length, mean and
        deviation, of media their size in bytes and the length, mean and deviation of the arrays.

        Args:
            field: The column, or the input if it reads several columns as one.
            cells: Its cells as `load` gets them; None is a missing one. All of them can be used.
            arrays: What `__call__` gave for the same rows (of all columns), padded.
        """
        del field
        return {**of_files(cells), **of_arrays(arrays, self.specs())} if self.media else of_cells(cells)

    def specs(self) -> dict[str, ArraySpec]:
        """The arrays it gives (known after `fit`)."""
        raise NotImplementedError

    def load(self, cell: Any) -> dict[str, np.ndarray]:
        """One present cell → one row of each array.

        Raises:
            BadCell: If the cell cannot be used.
        """
        raise NotImplementedError

    def blank(self) -> dict[str, np.ndarray]:
        """The row that stands for a missing cell; zeros by default (one long where a size varies)."""
        return {
            name: np.zeros([1 if isinstance(size, str) else size for size in spec.shape], spec.dtype)
            for name, spec in self.specs().items()
        }

    def items(self, cells: Sequence[Any]) -> list[dict[str, np.ndarray]]:
        """`load` for every cell (on all cores for media), `blank` for None.

        Raises:
            BadCells: For the cells that cannot be used.
        """
        reasons: dict[int, str] = {}

        def one(at: int) -> dict[str, np.ndarray]:
            cell = cells[at]
            if cell is None:
                return self.blank()
            try:
                return self.load(cell)
            except BadCell as problem:
                reasons[at] = str(problem)
                return {}

        if self.media and len(cells) > 1:
            workers = len(os.sched_getaffinity(0))
            # Several cells at a time: handing over a cell can cost as much as reading it.
            step = -(-len(cells) // (8 * workers))
            spans = [range(at, min(at + step, len(cells))) for at in range(0, len(cells), step)]
            with ThreadPoolExecutor(workers) as pool:
                rows = [row for part in pool.map(lambda span: [one(at) for at in span], spans) for row in part]
        else:
            rows = [one(at) for at in range(len(cells))]
        if reasons:
            raise BadCells(dict(sorted(reasons.items())))
        return rows

    def __call__(self, cells: Any) -> dict[str, np.ndarray]:
        """A batch of cells → arrays [batch, …].

        Args:
            cells: A list of cells, or for an input of many columns a mapping from column to its list of cells.

        Raises:
            BadCells: For the cells that cannot be used.
        """
        return collate(self.items(cells), self.specs())


def read_media(cell: Path | bytes, most: int) -> bytes:
    """The bytes of a media cell.

    Args:
        cell: A path or the bytes themselves.
        most: Largest size in bytes.

    Raises:
        BadCell: If the file is missing, unreadable, empty or too large.
    """
    if isinstance(cell, bytes | bytearray):
        data = bytes(cell)
        size = len(data)
    elif not isinstance(cell, Path):
        raise BadCell(f"must be a file or its bytes, it is {type(cell).__name__}")
    else:
        try:
            size = cell.stat().st_size
            data = cell.read_bytes() if size <= most else b""
        except FileNotFoundError:
            raise BadCell(f"file not found: {cell.name}") from None
        except OSError as problem:
            raise BadCell(f"cannot read {cell.name}: {problem.strerror}") from None
    if size > most:
        raise BadCell(f"file of {size:,} bytes is over the limit of {most:,}")
    if not data:
        raise BadCell("file is empty")
    return data
