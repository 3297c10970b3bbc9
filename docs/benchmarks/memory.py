"""Peak memory of opening, profiling and going through a table of text and numbers: it must not grow with the rows.

    python docs/benchmarks/memory.py [rows ...]

Every size runs in a process of its own; "base" is the process with everything imported and no table.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = [
    "red",
    "green",
    "blue",
    "chair",
    "table",
    "lamp",
    "old",
    "new",
    "wood",
    "steel",
    "soft",
    "hard",
    "small",
    "large",
]


def write(path: Path, rows: int) -> None:
    """A CSV with a text of ten words, six numbers, two categories and a date."""
    import numpy as np

    random = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        file.write("text,a,b,c,d,e,f,colour,shape,day,label\n")
        for start in range(0, rows, 10_000):
            count = min(10_000, rows - start)
            words = random.integers(len(WORDS), size=(count, 12))
            numbers = random.normal(size=(count, 6)).round(4)
            for at in range(count):
                text = " ".join(WORDS[w] for w in words[at, :10])
                cells = ",".join(map(str, numbers[at]))
                day = f"2024-{at % 12 + 1:02d}-{at % 28 + 1:02d}"
                file.write(
                    f"{text} {start + at},{cells},{WORDS[words[at, 10]]},{WORDS[words[at, 11]]},{day},{at % 3}\n"
                )


def peak() -> float:
    """Largest resident size of this process so far, in MB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(folder: Path) -> None:
    """Opens, profiles and goes through the table; prints the peak after each."""
    import pyarrow.compute  # noqa: F401  (part of the base, not of the table)

    from automm.data.profile import profile_table
    from automm.data.sources import open_table

    said, start = [f"base {peak():.0f} MB"], time.perf_counter()

    def note(what: str) -> None:
        nonlocal start
        said.append(f"{what} {peak():.0f} MB, {time.perf_counter() - start:.1f} s")
        start = time.perf_counter()

    table = open_table(["table.csv"], folder, folder / "cache")
    note("opened")
    profile_table(table)
    note("profiled")
    cells = sum(len(columns["text"]) for _, columns in table.chunks(table.columns))
    note("iterated")
    import numpy as np

    order = np.random.default_rng(0).permutation(table.rows)[:100_000]
    shuffled = sum(len(columns["text"]) for _, columns in table.chunks(table.columns, order, 64))
    note(f"{shuffled:,} rows at random")
    sys.stdout.write(f"{cells:>9,} rows: {'; '.join(said)}\n")


def main() -> None:
    """One process per size."""
    if sys.argv[1:2] == ["--folder"]:
        measure(Path(sys.argv[2]))
        return
    for rows in [int(size) for size in sys.argv[1:]] or [100_000, 1_000_000]:
        with tempfile.TemporaryDirectory() as name:
            write(Path(name) / "table.csv", rows)
            subprocess.run([sys.executable, __file__, "--folder", name], check=True)


if __name__ == "__main__":
    main()
