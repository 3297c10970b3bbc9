"""A table that is read once, piece by piece, straight from its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from automm.data.table import to_python


@dataclass(frozen=True)
class Stream:
    """Rows that stream by.

    Attributes:
        name: What messages call it.
        folder: Where relative media paths start.
        columns: Column names, in order.
        rows: About how many rows there are, where that is known; of text files the number of lines.
        read: Gives the rows.
    """

    name: str
    folder: Path
    columns: tuple[str, ...]
    rows: int | None
    read: Callable[[], Iterator[pa.RecordBatch]]

    def chunks(self, columns: Sequence[str], size: int) -> Iterator[tuple[np.ndarray, dict[str, list[Any]]]]:
        """Goes through the rows.

        Args:
            columns: What to read.
            size: Most rows per piece.

        Yields:
            The row numbers from 0, and column → cells as Python values.

        Raises:
            DataError: At the first line that cannot be read.
        """
        seen = 0
        for batch in self.read():
            wanted = batch.select(list(columns))
            for start in range(0, batch.num_rows, size):
                piece = wanted.slice(start, size)
                rows = min(size, batch.num_rows - start)
                yield np.arange(seen, seen + rows), {name: to_python(piece.column(name)) for name in columns}
                seen += rows
