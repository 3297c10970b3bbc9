"""Writes a made table of deliveries, half of its tracks as text and half as GPX files.

python make_data.py [FOLDER]
"""

import csv
import sys
from pathlib import Path

import numpy as np
from automm_tracks.modality import made_cell

ROWS = {"train": 240, "test": 80}


def main(folder: Path) -> None:
    """Writes train.csv, test.csv and the GPX files."""
    generator = np.random.default_rng(0)
    (folder / "gpx").mkdir(parents=True, exist_ok=True)
    for name, count in ROWS.items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["track", "weight", "vehicle"])
            for row in range(count):
                van = int(generator.integers(2))
                cell = made_cell(generator, corners=van, gpx=row % 2 == 0)
                if isinstance(cell, bytes):
                    path = folder / "gpx" / f"{name}{row}.gpx"
                    path.write_bytes(cell)
                    cell = str(path.relative_to(folder))
                table.writerow([cell, round(generator.gamma(2.0, 1.5), 2), ("bicycle", "van")[van]])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data")
