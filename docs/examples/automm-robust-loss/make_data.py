"""Writes a made table in which three of ten training labels are wrong.

python make_data.py [FOLDER]
"""

import csv
import sys
from pathlib import Path

import numpy as np

ROWS = {"train": 1200, "test": 200}
WRONG = {"train": 0.3, "test": 0.0}


def main(folder: Path) -> None:
    """Writes train.csv and test.csv."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in ROWS.items():
        waited, value, mood = generator.normal(size=(3, count))
        urgent = (waited + 0.5 * value > 0) ^ (generator.random(count) < WRONG[name])
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["waited", "value", "mood", "urgent"])
            table.writerows(
                zip(waited.round(3), value.round(3), mood.round(3), np.where(urgent, "yes", "no"), strict=True)
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data")
