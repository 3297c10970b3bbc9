"""Predicting files of any size: rows stream in, predictions stream out, and memory stays as it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from automm.data.results import check_ending, open_results
from automm.data.sources import open_stream
from automm.errors import DataError, UsageError
from automm.runtime.predictor import Predictor, load, missing_columns


@dataclass(frozen=True)
class Counts:
    """What became of the rows of a file.

    Attributes:
        rows: Rows read.
        refused: Rows that could not be used; the results say why.
    """

    rows: int
    refused: int


def predict_file(
    package: Predictor | Path | str,
    table: Path | str,
    out: Path | str,
    *,
    allow_missing: bool = False,
    batch_size: int = 256,
    progress: bool = False,
) -> Counts:
    """Predicts every row of a file.

    Args:
        package: A loaded package, or its folder.
        table: The file, in any format that recipes read; media paths start in its folder.
        out: The result file (.csv, .jsonl or .parquet): one line per row, in order. It appears when it is complete.
        allow_missing: Take columns that the file does not have for missing cells.
        batch_size: Most rows in memory at a time.
        progress: Show a progress bar on the terminal, if standard error is one.

    Raises:
        DataError: If the file is damaged, or lacks columns.
        UsageError: If the result would overwrite the table, or its ending is unknown.
        StorageError: If the result cannot be written.
    """
    table, out = Path(table), Path(out)
    check_ending(out)
    if not table.exists():
        raise DataError(f"{table}: no such file")
    if out.exists() and out.samefile(table):
        raise UsageError(f"{out} is the input table; choose another name for the results")
    predictor = package if isinstance(package, Predictor) else load(package)
    most = predictor.package.manifest.limits.rows
    if batch_size > most:
        raise UsageError(f"{batch_size:,} rows at a time are over the package's limit of {most:,}")
    types = {"row": "integer", **predictor.package.decoder.columns(), "error": "string"}
    rows = refused = 0
    with open_stream(table) as source:
        absent = [name for name in predictor.columns if name not in source.columns]
        if absent and not allow_missing:
            raise DataError(f"{table}: {missing_columns(absent, source.columns)}")
        there = [name for name in predictor.columns if name in source.columns]
        with open_results(out, types) as file, _bar(source.rows, progress) as advance:
            chunks = source.chunks(there, size=batch_size)
            for numbers, found in predictor.predict_chunks(chunks, folder=source.folder, allow_missing=allow_missing):
                errors = [found.refused.get(at) for at in range(len(found))]
                file.write({"row": [int(number) + 1 for number in numbers], **found.columns, "error": errors})
                rows += len(found)
                refused += len(found.refused)
                advance(len(found))
            if rows == 0:
                raise DataError(f"{table}: the table has a header but no rows")
    return Counts(rows, refused)


@contextmanager
def _bar(rows: int | None, shown: bool) -> Iterator[Callable[[int], object]]:
    """A progress bar on standard error, or nothing."""
    if not (shown and sys.stderr.isatty()):
        yield lambda _: None
        return
    made: Any = click.progressbar(length=rows, label="predicting", file=sys.stderr, show_pos=True, width=30)
    with made as bar:
        yield bar.update
