"""Tiny realistic data: tables whose cells are texts, numbers, categories and paths to photos, sounds, clips and series.

In a test::

    from automm.testing import fakes

    fakes.write(tmp_path, "texts", "photos", rows=40)   # train.csv, train/photo/0.png, …

Every column tells part of the target: the rows of one class have other words, levels, colours, pitches and rhythms
than those of the other.
"""

from __future__ import annotations

import csv
import io
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from automm.errors import MissingExtraError

TARGET = "verdict"
"""The column to predict, "keep" or "return"."""
NAMES = ("return", "keep")
WORDS = (("broken", "awful", "dirty", "late"), ("lovely", "perfect", "clean", "quick"))
COLOURS = (("brown", "grey"), ("red", "blue"))
TELLS = 0.95
"""Share of the rows in which a column tells the truth; the rest looks like the other class."""
SIZE, RATE, SECONDS, FRAMES, STEPS = 24, 8000, 0.5, 6, 32
Column = dict[str, list[Any]]


def texts(classes: np.ndarray, random: np.random.Generator, folder: Path) -> Column:
    """`review`: a sentence."""
    del folder
    things = ("order", "lamp", "chair", "parcel")
    return {
        "review": [
            f"the {random.choice(things)} was {random.choice(WORDS[c])} and the service {random.choice(WORDS[c])}"
            for c in classes
        ]
    }


def numbers(classes: np.ndarray, random: np.random.Generator, folder: Path) -> Column:
    """`price` and `stars`."""
    del folder
    return {
        "price": [f"{random.normal(50, 10):.2f}" for _ in classes],
        "stars": [f"{random.normal(2 + 2 * c, 0.5):.1f}" for c in classes],
    }


def categories(classes: np.ndarray, random: np.random.Generator, folder: Path) -> Column:
    """`colour`: one of four words."""
    del folder
    return {"colour": [str(random.choice(COLOURS[c])) for c in classes]}


def photos(classes: np.ndarray, random: np.random.Generator, folder: Path) -> Column:
    """`photo`: paths to PNG files of 24 x 24 pixels, reddish or bluish noise."""

    def picture(kind: int) -> bytes:
        from PIL import Image

        pixels = random.integers(0, 120, (SIZE, SIZE, 3))
        pixels[:, :, 2 * (1 - kind)] += 120
        file = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
        return file.getvalue()

    return _files("photo", ".png", picture, classes, folder)


def sounds(classes: np.ndarray, random: np.random.Generator, folder: Path) -> Column:
    """`sound`: paths to WAV files of half a second, a low or a high tone in noise."""

    def tone(kind: int) -> bytes:
        time = np.arange(int(RATE * SECONDS)) / RATE
        pitch = (300, 1200)[kind] * random.uniform(0.9, 1.1)
        samples = 0.4 * np.sin(2 * np.pi * pitch * time) + 0.05 * random.normal(size=len(time))
        file = io.BytesIO()
        with wave.open(file, "wb") as writer:
            writer.setnchannels(1)
            writer.setsampwidth(2)
            writer.setframerate(RATE)
            writer.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        return file.getvalue()

    return _files("sound", ".wav", tone, classes, folder)


def clips(classes: np.ndarray, random: np.random.Generator, folder: Path) -> Column:
    """`clip`: paths to MP4 files of six frames, a square that rests or moves.

    Raises:
        MissingExtraError: If PyAV is not installed.
    """

    def film(kind: int) -> bytes:
        try:
            import av
        except ImportError:
            raise MissingExtraError("writing video needs PyAV: pip install 'automm[video]'") from None
        file = io.BytesIO()
        start = int(random.integers(0, 12))
        with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as out:
            stream = out.add_stream("mpeg4", rate=FRAMES)
            stream.width = stream.height = 2 * SIZE
            stream.pix_fmt = "yuv420p"
            stream.codec_context.thread_count = 1
            stream.options = {"flags": "+bitexact"}
            for step in range(FRAMES):
                pixels = np.full((2 * SIZE, 2 * SIZE, 3), 40, np.uint8)
                at = start + 4 * step * kind
                pixels[at : at + 12, 12:24] = 220
                out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            out.mux(stream.encode())
        return file.getvalue()

    return _files("clip", ".mp4", film, classes, folder)


def series(classes: np.ndarray, random: np.random.Generator, folder: Path) -> Column:
    """`log`: paths to CSV files with one number a line, slow or fast waves."""

    def line(kind: int) -> bytes:
        phase, speed = random.uniform(0, 6), (0.3, 1.2)[kind]
        values = np.sin(speed * np.arange(STEPS) + phase) + 0.1 * random.normal(size=STEPS)
        return "".join(f"{value:.3f}\n" for value in values).encode()

    return _files("log", ".csv", line, classes, folder)


def _files(column: str, extension: str, make: Callable[[int], bytes], classes: np.ndarray, folder: Path) -> Column:
    (folder / column).mkdir(parents=True, exist_ok=True)
    cells = [f"{folder.name}/{column}/{row}{extension}" for row in range(len(classes))]
    for cell, kind in zip(cells, classes, strict=True):
        (folder.parent / cell).write_bytes(make(int(kind)))
    return {column: cells}


KINDS: dict[str, Callable[[np.ndarray, np.random.Generator, Path], Column]] = {
    made.__name__: made for made in (texts, numbers, categories, photos, sounds, clips, series)
}
"""What a table may hold → what makes its columns: (classes, generator, folder) → column → cells."""


def write(
    folder: Path, *kinds: str, rows: int = 40, seed: int = 0, missing: float = 0.0, name: str = "train.csv"
) -> Path:
    """Writes a table, and the files that its cells name.

    Args:
        folder: Where the table goes; the files go into a folder of the table's name beside it.
        kinds: Of `KINDS`; without any texts, numbers and categories.
        rows: Number of rows, half of each class.
        seed: Of the random numbers: the same seed writes the same table.
        missing: Share of the cells that are left empty.
        name: The table's file name.

    Returns:
        The table's path. Its last column is `verdict`.

    Raises:
        ValueError: If a kind is unknown.
    """
    wanted = kinds or ("texts", "numbers", "categories")
    if unknown := [kind for kind in wanted if kind not in KINDS]:
        raise ValueError(f"there are no fake {unknown[0]!r} (there are: {', '.join(KINDS)})")
    random = np.random.default_rng(seed)
    classes = random.permutation(np.arange(rows) % 2)
    table: Column = {}
    for kind in wanted:
        told = np.where(random.random(rows) < TELLS, classes, 1 - classes)
        for column, cells in KINDS[kind](told, random, folder / Path(name).stem).items():
            table[column] = ["" if random.random() < missing else cell for cell in cells]
    table[TARGET] = [NAMES[kind] for kind in classes]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return folder / name
