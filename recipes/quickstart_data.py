"""Makes the quickstart's table from the handwritten digits that scikit-learn ships (UCI, Alpaydin & Kaynak 1998).

Each row is a torn form with a handwritten digit: a photo of the upper part of the digit, a clerk's remark about the
number, and four measurements of the ink on the lower part. None of the three alone tells the digit; together they do.

    python recipes/quickstart_data.py            # writes recipes/data/quickstart/{train,test,later}.csv and photos/

`later.csv` is what came in months afterwards: another instrument measures more ink, and clerks write in new words.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

KEPT_ROWS = 4
SIDE = 32
SIZES = ("small", "medium", "large")
REMARKS = (
    "Clerk: {parity} number, {size}.",
    "It was {parity} and rather {size}",
    "{size} and {parity}, the rest is torn off",
    "sender says the figure is {size}; must be {parity}",
    "illegible below the tear, {parity}, {size} value",
)


LATER_REMARKS = ("by telephone: {parity}, {size}", "{parity}; {size} (from the new form)")
LATER_ROWS = 300
MORE_INK = 12.0


def remark(digit: int, random: np.random.Generator, remarks: tuple[str, ...] = REMARKS) -> str:
    """What the clerk wrote: parity and rough size, in changing words; one remark in five leaves one of them out."""
    parity, size = ("odd" if digit % 2 else "even"), SIZES[min(digit // 4, 2)]
    if random.random() < 0.2:
        parity, size = (parity, "size unknown") if random.random() < 0.5 else ("parity unknown", size)
    return remarks[random.integers(len(remarks))].format(parity=parity, size=size)


def main(folder: Path) -> None:
    """Writes the tables and photos."""
    random = np.random.default_rng(7)
    digits = load_digits()
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        torn = pixels.copy()
        torn[KEPT_ROWS:] = 0
        photo = f"photos/{number:04d}.png"
        grey = Image.fromarray((255 - torn * 15.9).astype(np.uint8))
        grey.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / photo)
        ink = pixels[KEPT_ROWS:].reshape(-1, 4, 2).sum((0, 2)) + random.normal(0, 4, 4)  # four pairs of pixel columns
        rows.append([photo, remark(int(digit), random), *ink.round(1), int(digit)])
    random.shuffle(rows)
    header = ["photo", "remark", "ink_left", "ink_mid_left", "ink_mid_right", "ink_right", "digit"]
    later = []
    for photo, _, *ink, digit in rows[:LATER_ROWS]:
        inks = [round(value + MORE_INK + random.normal(0, 4), 1) for value in ink]
        later.append([photo, remark(digit, random, LATER_REMARKS), *inks, digit])
    for name, part in (("train", rows[:1400]), ("test", rows[1400:]), ("later", later)):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(part)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data" / "quickstart")
