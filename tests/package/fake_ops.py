"""Small torch-free operations for package tests; also loaded as a local plugin file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from automm.api import ArraySpec, BadCell, BadCells, Config, Decoder, Processor, parse_number, read_media


class Words(Processor):
    """Text → ids of known words; time varies."""

    op = "fake.words"
    name = "fake.words"

    class Config(Config):
        most: int = 8

    @property
    def limits(self) -> dict[str, float]:
        return {"words": self.config.most}

    def fit(self, chunks: Iterable[Sequence[Any]]) -> None:
        words = sorted({word for chunk in chunks for cell in chunk if cell for word in str(cell).split()})
        self.state = {"words": {word: at + 2 for at, word in enumerate(words)}, "_cache": object()}

    def specs(self) -> dict[str, ArraySpec]:
        return {"ids": ArraySpec("int64", ("time",)), "mask": ArraySpec("bool", ("time",))}

    def load(self, cell: Any) -> dict[str, np.ndarray]:
        if cell == "explode":
            raise ZeroDivisionError("boom")
        words = str(cell).split()
        if len(words) > self.config.most:
            raise BadCell(f"{len(words)} words are over the limit of {self.config.most}")
        ids = np.array([self.state["words"].get(word, 1) for word in words] or [1])
        return {"ids": ids, "mask": np.ones(len(ids), bool)}


class Columns(Processor):
    """Number columns, standardised with arrays in the state; gives a bad row for what is not a number."""

    op = "fake.columns"
    name = "fake.columns"

    class Config(Config):
        columns: tuple[str, ...]

    def fit(self, chunks: Iterable[Mapping[str, Sequence[Any]]]) -> None:
        rows = [
            [float(c) for c in col]
            for chunk in chunks
            for col in zip(*(chunk[n] for n in self.config.columns), strict=True)
        ]
        table = np.array(rows)
        self.state = {"stats": {"mean": table.mean(0), "std": table.std(0)}}

    def specs(self) -> dict[str, ArraySpec]:
        return {"numbers": ArraySpec("float32", (len(self.config.columns),))}

    def __call__(self, cells: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
        bad: dict[int, str] = {}
        out = []
        for at, row in enumerate(zip(*(cells[name] for name in self.config.columns), strict=True)):
            values = []
            for name, cell in zip(self.config.columns, row, strict=True):
                value = 0.0 if cell is None else parse_number(cell)
                if value is None:
                    bad[at] = f"column {name!r}: {cell!r} is not a number"
                values.append(np.nan if cell is None else value or 0.0)
            out.append(values)
        if bad:
            raise BadCells(bad)
        table = (np.array(out, float).reshape(-1, len(self.config.columns)) - self.state["stats"]["mean"]) / self.state[
            "stats"
        ]["std"]
        return {"numbers": np.nan_to_num(table).astype(np.float32)}


class Levels(Processor):
    """A media file's first four bytes as 8-bit samples."""

    op = "fake.levels"
    name = "fake.levels"
    media = True

    def specs(self) -> dict[str, ArraySpec]:
        return {"pixels": ArraySpec("uint8", (4,))}

    def load(self, cell: Path | bytes) -> dict[str, np.ndarray]:
        data = read_media(cell, 1000)
        if len(data) < 4:
            raise BadCell("too short")
        return {"pixels": np.frombuffer(data[:4], np.uint8)}


class Pick(Decoder):
    """Probabilities → the likeliest name and its probability."""

    op = "fake.pick"
    name = "fake.pick"

    class Config(Config):
        names: tuple[str, ...]

    def columns(self) -> dict[str, str]:
        return {"prediction": "string", **{f"probability_{name}": "number" for name in self.config.names}}

    def decode(self, answers: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        p = answers["probability"]
        found: dict[str, list[Any]] = {"prediction": [self.config.names[at] for at in p.argmax(1)]}
        for at, name in enumerate(self.config.names):
            found[f"probability_{name}"] = [float(value) for value in p[:, at]]
        return found
