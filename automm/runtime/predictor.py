"""Predicting with a package: any table-like data in, one result or one refusal per row out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from automm.errors import DataError, PackageError
from automm.runtime.package import Package, open_package

Table = Mapping[str, Sequence[Any]]
Numbers = Sequence[int] | np.ndarray


RAGGED = 32
"""Rows that run together where their length varies: all are padded to the longest of them."""


@dataclass
class Predictions:
    """Results in the order of the rows that were given.

    Attributes:
        columns: Result column → one value per row; None where the row was refused.
        refused: Position of a refused row → why, naming the column.
        count: Number of rows.
    """

    columns: dict[str, list[Any]]
    refused: dict[int, str] = field(default_factory=dict)
    count: int = 0

    def __len__(self) -> int:
        return self.count

    def add(self, part: Predictions) -> None:
        """Appends the results of further rows."""
        for name, values in part.columns.items():
            self.columns[name] += values
        self.refused |= {self.count + at: reason for at, reason in part.refused.items()}
        self.count += part.count

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dictionary per row: the result columns, and "error", None unless the row was refused."""
        return [
            {**{name: values[at] for name, values in self.columns.items()}, "error": self.refused.get(at)}
            for at in range(self.count)
        ]

    def to_pandas(self) -> Any:
        """The rows as a `pandas.DataFrame`, where pandas is installed."""
        import pandas as pd

        errors = [self.refused.get(at) for at in range(self.count)]
        return pd.DataFrame({**self.columns, "error": pd.Series(errors, dtype=object)})


class Predictor:
    """Predicts with an opened package; safe to share between threads.

    Args:
        package: The package.

    Attributes:
        package: The package.
        columns: The table columns it reads.
    """

    def __init__(self, package: Package) -> None:
        self.package = package
        self.columns = package.columns
        self._results = tuple(package.decoder.columns())
        sizes = [size for item in package.inputs for spec in item.processor.specs().values() for size in spec.shape]
        self._together = RAGGED if any(isinstance(size, str) for size in sizes) else None

    def predict(
        self,
        data: Any,
        *,
        folder: Path | str | None = None,
        allow_missing: bool = False,
        batch_size: int = 256,
    ) -> Predictions:
        """Predicts rows that are in memory.

        Args:
            data: A list of dictionaries, one dictionary, a dictionary of columns (all its values are lists of one
                length), or a pandas, pyarrow or polars table. Columns that the model does not read are left aside.
            folder: Where media paths start. Without it media cells must be bytes.
            allow_missing: Take columns that are absent altogether for missing cells.
            batch_size: Most rows in memory as arrays at a time.

        Raises:
            DataError: If a column is absent, or the data are of no known form.
        """
        base = Path(folder) if folder is not None else None
        whole = Predictions({name: [] for name in self._results})
        for start, table, rows in self._pieces(data, allow_missing, batch_size):
            part = self._batch(table, rows, base)
            if start == 0 and rows < batch_size:
                return part
            whole.add(part)
        return whole

    def _pieces(self, data: Any, allow_missing: bool, size: int) -> Iterator[tuple[int, Table, int]]:
        """(first row, column → cells, rows) of every piece. A frame becomes Python cells piece by piece."""
        count = _frame_rows(data)
        if count is not None and count > size:
            for start in range(0, count, size):
                piece = data.iloc[start : start + size] if hasattr(data, "iloc") else data.slice(start, size)
                given, rows = as_table(piece, self.columns)
                yield start, self.complete(given, rows, allow_missing, data), rows
            return
        given, rows = as_table(data, self.columns)
        table = self.complete(given, rows, allow_missing, data)
        for start in range(0, rows, size):
            piece = table if rows <= size else {name: cells[start : start + size] for name, cells in table.items()}
            yield start, piece, min(size, rows - start)

    def predict_chunks(
        self,
        chunks: Iterable[tuple[Numbers, Table]],
        *,
        folder: Path | str | None = None,
        allow_missing: bool = False,
    ) -> Iterator[tuple[Numbers, Predictions]]:
        """Predicts a table that streams in, holding one chunk at a time.

        Args:
            chunks: (row numbers, column → cells) pairs, as `automm.data` tables give them.
            folder: Where media paths start.
            allow_missing: Take absent columns for missing cells.

        Yields:
            The same row numbers with their predictions.
        """
        base = Path(folder) if folder is not None else None
        for numbers, columns in chunks:
            table = self.complete(columns, len(numbers), allow_missing)
            yield numbers, self._batch(table, len(numbers), base)

    def complete(self, table: Table, rows: int, allow_missing: bool = False, data: Any = None) -> Table:
        """The table with every column the model reads.

        Args:
            table: Column → cells, `rows` each.
            rows: Number of rows.
            allow_missing: Take absent columns for missing cells.
            data: What the table was taken from; its other column names help the message.

        Raises:
            DataError: Naming all absent columns, unless `allow_missing`.
        """
        absent = [name for name in self.columns if name not in table]
        if not absent:
            return table
        if not allow_missing:
            raise DataError(missing_columns(absent, list(table) if data is None else column_names(data)))
        return {**table, **{name: [None] * rows for name in absent}}

    def _batch(self, table: Table, rows: int, folder: Path | None) -> Predictions:
        if rows == 0:
            return Predictions({name: [] for name in self._results})
        most = self._together
        if most is None or not most < rows <= self.package.manifest.limits.rows:
            return self._run(table, rows, folder)
        whole = Predictions({name: [] for name in self._results})
        for start in range(0, rows, most):
            piece = {name: cells[start : start + most] for name, cells in table.items()}
            whole.add(self._run(piece, min(most, rows - start), folder))
        return whole

    def _run(self, table: Table, rows: int, folder: Path | None) -> Predictions:
        answers, refused = self.package.answers(table, rows, folder)
        kept = rows - len(refused)
        found = self.package.decoder.decode(answers) if kept else {name: [] for name in self._results}
        for name, values in found.items():
            if len(values) != kept:
                raise PackageError(f"the decoder gave {len(values)} values of {name!r} for {kept} rows")
        if refused:
            found = {name: _spread(values, refused, rows) for name, values in found.items()}
        return Predictions(found, refused, rows)


def load(
    path: Path | str, *, threads: int | None = None, verify: Literal["goldens", "hashes"] = "goldens"
) -> Predictor:
    """Loads a package for predicting.

    Args:
        path: The package folder.
        threads: Threads inside one prediction; by default one per core.
        verify: See `open_package`.

    Raises:
        PackageError: If the package is damaged, foreign or refused.
        VerificationError: If its own examples come out differently here.
    """
    return Predictor(open_package(path, threads=threads, verify=verify))


def missing_columns(absent: Sequence[str], present: Sequence[str]) -> str:
    """The message about absent columns, with the nearest present name for each."""
    names = []
    for name in absent:
        near = difflib.get_close_matches(name, present, 1, 0.8)
        names.append(f"{name!r} (there is {near[0]!r})" if near else repr(name))
    return (
        f"the model reads {len(absent)} column{'s' * (len(absent) > 1)} that the data do not have: {', '.join(names)}; "
        "add them, or allow missing columns to predict without (--allow-missing, allow_missing=True)"
    )


def as_table(data: Any, columns: Sequence[str]) -> tuple[dict[str, Sequence[Any]], int]:
    """Data of any accepted form → (column → cells, number of rows); only the columns that are asked for and there.

    Raises:
        DataError: If the form is unknown or columns differ in length.
    """
    if isinstance(data, Mapping):
        lists = {name: cells for name, cells in data.items() if _is_list(cells)}
        if not data or len(lists) < len(data):
            return {name: [data[name]] for name in columns if name in data}, 1
        if len({len(cells) for cells in lists.values()}) > 1:
            sizes = {name: len(cells) for name, cells in lists.items()}
            raise DataError(f"columns have different lengths: {sizes}; for one row with list cells pass [row]")
        return {name: list(data[name]) for name in columns if name in data}, len(next(iter(lists.values())))
    if hasattr(data, "column_names") and hasattr(data, "to_pydict"):  # pyarrow
        return data.select([name for name in columns if name in data.column_names]).to_pydict(), data.num_rows
    if hasattr(data, "get_columns") and hasattr(data, "height"):  # polars
        return {name: data[name].to_list() for name in columns if name in data.columns}, data.height
    if hasattr(data, "iloc") and hasattr(data, "columns"):  # pandas
        there = [name for name in columns if name in data.columns]
        if repeated := [name for name in there if getattr(data[name], "ndim", 1) != 1]:
            raise DataError(f"the column {repeated[0]!r} appears more than once")
        return {name: data[name].tolist() for name in there}, len(data)
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        for at, row in enumerate(data):
            if not isinstance(row, Mapping):
                raise DataError(f"row {at} is a {type(row).__name__}; every row is a dictionary from column to cell")
        there = [name for name in columns if not data or any(name in row for row in data)]
        return {name: [row.get(name) for row in data] for name in there}, len(data)
    raise DataError(
        f"cannot read rows from {type(data).__name__}; give a list of dictionaries, columns, or a data frame"
    )


def _frame_rows(data: Any) -> int | None:
    """Number of rows of a pandas, pyarrow or polars table; None for everything else."""
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        return len(data)
    for rows in ("num_rows", "height"):
        if hasattr(data, rows) and hasattr(data, "slice"):
            return int(getattr(data, rows))
    return None


def column_names(data: Any) -> list[str]:
    """The column names of data in any form that `as_table` reads."""
    if isinstance(data, Mapping):
        return [str(name) for name in data]
    for attribute in ("column_names", "columns"):
        if hasattr(data, attribute):
            return [str(name) for name in getattr(data, attribute)]
    return list(dict.fromkeys(str(name) for row in data[:100] for name in row))


def _is_list(cells: Any) -> bool:
    return isinstance(cells, list | tuple) or (hasattr(cells, "tolist") and getattr(cells, "ndim", 0) == 1)


def _spread(values: Sequence[Any], refused: Mapping[int, str], rows: int) -> list[Any]:
    """Values of the rows that were kept → values of all rows, None where a row was refused."""
    following = iter(values)
    return [None if at in refused else next(following) for at in range(rows)]
