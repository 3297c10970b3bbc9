"""Running commands inside the test process: imports are paid once, and every warning is an error."""

from __future__ import annotations

import contextlib
import csv
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from automm.cli.main import main
from fit.conftest import write_table


@dataclass
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """The error message: what follows the progress lines."""
        return self.err[self.err.rfind("error: ") :] if "error: " in self.err else self.err


def run(*arguments: object, cwd: Path) -> Done:
    """Runs `automm …` in a folder; an error must be one message without a traceback."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["automm", *map(str, arguments)])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as left:
            main()
    done = Done(int(left.value.code or 0), out.getvalue(), err.getvalue())
    if "--debug" not in arguments:
        assert "Traceback" not in done.err
        assert "internal error" not in done.err, done.err
    return done


Row = list[str]
Table = list[Row]


def reviews(folder: Path, rows: int = 40, seed: int = 0) -> Table:
    """Header and rows of the table of reviews."""
    write_table(folder / "written.csv", rows, seed)
    with (folder / "written.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def changed(table: Table, column: str, change: Callable[[int, str], str]) -> Table:
    """The table with other cells in a column; `change` is given row number and cell."""
    at = table[0].index(column)
    for number, row in enumerate(table[1:]):
        row[at] = change(number, row[at])
    return table


def with_column(table: Table, column: str, cell: Callable[[int], str]) -> Table:
    """The table with one more column, before the last."""
    return [[*row[:-1], column if at == 0 else cell(at - 1), row[-1]] for at, row in enumerate(table)]


def save(path: Path, table: Table, delimiter: str = ",") -> None:
    """Writes a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(table)
