"""Reviews with a planted verdict, and what may happen to such a table."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

HEADER = ("review", "photo", "price", "rating", "colour", "verdict")
WORDS = {"keep": ("great", "lovely", "perfect"), "return": ("broken", "awful", "dirty"), "repair": ("rattling", "bent")}
COLOURS = {"keep": ("red", "blue"), "return": ("green", "blue"), "repair": ("teal", "blue")}
RATING = {"keep": 4.0, "return": 2.0, "repair": 8.0}
SHADE = {"keep": 200, "return": 90, "repair": 20}
PHOTOS = 3


def reviews(
    rows: int, seed: int, verdicts: tuple[str, ...] = ("keep", "return"), clear: float = 0.85
) -> list[tuple[str, ...]]:
    """Rows whose text, photo, rating and colour tell the verdict, each with the probability `clear`."""
    random = np.random.default_rng(seed)
    found = []
    for number in random.integers(1000, size=rows):
        verdict = str(random.choice(verdicts))

        def told(verdict: str = verdict) -> str:
            return verdict if random.random() < clear else str(random.choice(verdicts))

        word = random.choice(WORDS[told()])
        found.append(
            (
                f"room {number} was {word} and the {random.choice(['bed', 'view', 'food'])} as expected",
                f"{told()}{random.integers(PHOTOS)}.png",
                f"{random.normal(50, 10):.2f}",
                f"{random.normal(RATING[told()], 0.5):.1f}",
                str(random.choice(COLOURS[told()])),
                verdict,
            )
        )
    return found


def photos(folder: Path) -> Path:
    """Writes the photos that the rows name, noisy and of a brightness that tells the verdict."""
    random = np.random.default_rng(0)
    for verdict, shade in SHADE.items():
        for at in range(PHOTOS):
            pixels = np.clip(random.normal(shade, 20, (16, 16)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{verdict}{at}.png")
    return folder


def write(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = HEADER) -> Path:
    """Writes a CSV file, and the photos beside it."""
    photos(path.parent)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def changed(rows: list[tuple[str, ...]], **cells: object) -> list[tuple[str, ...]]:
    """The rows with other cells: column → function of the cell and the row's number."""
    return [
        tuple(cells[name](cell, at) if name in cells else cell for name, cell in zip(HEADER, row, strict=True))
        for at, row in enumerate(rows)
    ]
