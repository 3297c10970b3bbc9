"""The ledger of rows that cannot be used."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from automm.errors import DataError

SHOWN = 5


class BadRow(NamedTuple):
    """A row that cannot be used.

    Attributes:
        table: The table's name.
        row: Row number as the user counts it: the first row below the header is 1.
        column: The column or input at fault.
        reason: What is wrong.
    """

    table: str
    row: int
    column: str
    reason: str


class Ledger:
    """Collects bad rows over all tables and inputs."""

    def __init__(self) -> None:
        self._rows: dict[BadRow, None] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def entries(self) -> list[BadRow]:
        """All entries, in the order in which they were found."""
        return list(self._rows)

    def add(self, table: str, row: int, column: str, reason: str) -> None:
        """Notes a bad row once.

        Args:
            table: The table's name.
            row: Row number inside the table, from 0.
            column: The column or input at fault.
            reason: What is wrong; what stands before the first colon names the kind of problem.
        """
        self._rows[BadRow(table, row + 1, column, reason)] = None

    def bad(self, table: str | None = None) -> int:
        """Number of different bad rows (of one table)."""
        return len({(entry.table, entry.row) for entry in self._rows if table is None or entry.table == table})

    def counts(self) -> dict[str, int]:
        """Kind of problem → number of entries, most frequent first."""
        return dict(Counter(entry.reason.split(":")[0] for entry in self._rows).most_common())

    def write(self, folder: Path) -> None:
        """Writes `bad_rows.csv` and `bad_rows.jsonl` into a folder; nothing if there are no entries."""
        if not self._rows:
            return
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "bad_rows.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(BadRow._fields)
            writer.writerows(self._rows)
        with (folder / "bad_rows.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(entry._asdict(), ensure_ascii=False) + "\n" for entry in self._rows)

    def check(self, threshold: float, total: int) -> None:
        """Stops when too many rows are bad.

        Args:
            threshold: Largest tolerated share.
            total: Number of rows in all tables.

        Raises:
            DataError: With the counts by reason and the first examples.
        """
        bad = self.bad()
        if not bad or bad <= threshold * total:
            return
        counts = "\n".join(f"  {count} x {reason}" for reason, count in list(self.counts().items())[:10])
        first = "\n".join(f"  {e.table}, row {e.row}, {e.column}: {e.reason}" for e in self.entries[:SHOWN])
        raise DataError(
            f"{bad:,} of {total:,} rows ({bad / max(total, 1):.1%}) cannot be used;"
            f" data.max_bad_rows allows {threshold:.1%}. Correct them, or allow more\n"
            f"{counts}\nThe first of them:\n{first}"
        )
