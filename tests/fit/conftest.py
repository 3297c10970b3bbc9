"""A small real-looking table and recipes over it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WORDS = {"good": ("great", "lovely", "perfect"), "bad": ("broken", "awful", "dirty")}


def write_table(path: Path, rows: int, seed: int = 0) -> None:
    """Reviews: the text tells half of the verdict, the numbers the other half."""
    random = np.random.default_rng(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "price", "rating", "colour", "verdict"])
        for number in random.integers(1000, size=rows):
            verdict = random.integers(2)
            told = verdict if random.random() < 0.8 else 1 - verdict
            word = random.choice(WORDS["good" if told else "bad"])
            rated = verdict if random.random() < 0.8 else 1 - verdict
            writer.writerow(
                [
                    f"room {number} was {word} and the {random.choice(['bed', 'view', 'food'])} as expected",
                    f"{random.normal(50, 10):.2f}",
                    f"{random.normal(4 if rated else 2, 0.5):.1f}",
                    random.choice(["red", "blue", "green"]),
                    "keep" if verdict else "return",
                ]
            )


BASE = """
data: {train: train.csv, test: test.csv}
target: verdict
train: {epochs: 6, batch_size: 32}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with train.csv and test.csv."""
    write_table(tmp_path / "train.csv", 240)
    write_table(tmp_path / "test.csv", 60, seed=1)
    return tmp_path


def write_recipe(folder: Path, extra: str = "", base: str = BASE, name: str = "reviews") -> Path:
    """Writes a recipe and returns its path."""
    path = folder / f"{name}.yaml"
    path.write_text(base + extra, encoding="utf-8")
    return path


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}


def automm(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "automm", *map(str, arguments)],
        cwd=cwd, env={**ENVIRONMENT, **environment}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def summary(folder: Path) -> dict[str, Any]:
    """The run's summary, read strictly."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    found: dict[str, Any] = json.loads((folder / "summary.json").read_text("utf-8"), parse_constant=refuse)
    return found


def events(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """The run's events (of a kind)."""
    lines = (folder / "events.jsonl").read_text("utf-8").splitlines()
    return [event for event in map(json.loads, lines) if kind in (None, event["event"])]
