"""Small modalities, processors and tables for the tests of the data layer."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from automm.api import ArraySpec, BadCell, BadCells, Claim, ColumnProfile, Config, Modality, Processor, read_media
from automm.data.sources import open_table
from automm.data.table import Table
from automm.plugin.registry import Owner, Registry


def write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def table_of(folder: Path, header: list[str], rows: list[list[Any]], name: str = "t.csv") -> Table:
    write_csv(folder / name, header, rows)
    return open_table([name], folder, folder / "cache")


class Prose(Modality):
    @classmethod
    def claim(cls, column: ColumnProfile) -> Claim | None:
        if column.storage != "string" or column.number_share > 0.5:
            return None
        return Claim(0.9 if column.mean_words >= 3 else 0.2, f"{column.mean_words:.0f} words a cell")


class Grid(Modality):
    many_columns = True
    types = ("number", "category")

    @classmethod
    def claim(cls, column: ColumnProfile) -> Claim | None:
        if column.number_share > 0.9:
            return Claim(0.7, "numbers", "number")
        if column.storage == "string" and not column.extensions:
            return Claim(0.5, "few values", "category")
        return None


class Picture(Modality):
    @classmethod
    def claim(cls, column: ColumnProfile) -> Claim | None:
        return Claim(0.95, "existing .png files") if column.exists_share > 0.5 else None


class Wave(Modality):
    @classmethod
    def claim(cls, column: ColumnProfile) -> Claim | None:
        return None

    @classmethod
    def claim_family(cls, prefix: str, columns: Any) -> Claim | None:
        return Claim(0.8, f"{len(columns)} numbered columns")


def registry() -> Registry:
    found = Registry()
    for cls in (Prose, Grid, Picture, Wave):
        found.add(cls, Owner("fakes", "tests", "1"))
    return found


class Scaled(Processor):
    """A number, divided by what `fit` learned."""

    op = "fake.scaled"

    class Config(Config):
        times: float = 1.0

    def fit(self, chunks: Any) -> None:
        self.state["largest"] = max(float(cell) for chunk in chunks for cell in chunk if cell is not None)

    def specs(self) -> dict[str, ArraySpec]:
        return {"value": ArraySpec("float32", (1,))}

    def load(self, cell: Any) -> dict[str, np.ndarray]:
        if cell == "bad":
            raise BadCell("not a number: 'bad'")
        return {"value": np.array([self.config.times * float(cell) / self.state["largest"]])}


class Letters(Processor):
    """Character codes, as many as there are."""

    op = "fake.letters"
    loads = 0

    def specs(self) -> dict[str, ArraySpec]:
        return {"codes": ArraySpec("int64", ("time",), -1), "count": ArraySpec("int64", ())}

    def load(self, cell: str) -> dict[str, np.ndarray]:
        Letters.loads += 1
        return {"codes": np.array([ord(c) for c in cell]), "count": np.array(len(cell))}


class Squares(Processor):
    """Matrices whose two sizes vary."""

    op = "fake.squares"

    def specs(self) -> dict[str, ArraySpec]:
        return {"grid": ArraySpec("float32", ("height", 2, "width"))}

    def load(self, cell: str) -> dict[str, np.ndarray]:
        height, width = int(cell), int(cell) + 1
        return {"grid": np.full((height, 2, width), float(cell))}


class Rowwise(Processor):
    """All columns together."""

    op = "fake.rowwise"

    def specs(self) -> dict[str, ArraySpec]:
        return {"sum": ArraySpec("float32", (1,))}

    def __call__(self, cells: Any) -> dict[str, np.ndarray]:
        columns = [[0.0 if c is None else c for c in column] for column in cells.values()]
        bad = {at: "x: 'bad' is no number" for column in columns for at, c in enumerate(column) if c == "bad"}
        if bad:
            raise BadCells(bad)
        return {"sum": np.sum([np.array(column, np.float32) for column in columns], axis=0)[:, None]}


class FileSize(Processor):
    """The size of a file."""

    op = "fake.size"
    media = True

    def specs(self) -> dict[str, ArraySpec]:
        return {"size": ArraySpec("int64", ())}

    @staticmethod
    def inline(cell: str) -> bool:
        return cell.startswith("inline:")

    def load(self, cell: Any) -> dict[str, np.ndarray]:
        return {"size": np.array(len(cell) if isinstance(cell, str) else len(read_media(cell, 1000)))}


class Steps(Processor):
    """Numbered columns as one series."""

    op = "fake.steps"
    media = True

    def specs(self) -> dict[str, ArraySpec]:
        return {"values": ArraySpec("float32", ("time",))}

    def load(self, cell: Any) -> dict[str, np.ndarray]:
        return {"values": np.array([float(v) for v in cell])}
