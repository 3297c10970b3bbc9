"""Start-up times of the command line, and the size of an installation, of the Python that runs this file.

    python docs/benchmarks/startup.py [rows]

Prints the median wall-clock and CPU seconds of `automm --help`, of `automm check` on a table of text, numbers and a
category, and of importing automm; whether torch was loaded; and the size of the site-packages folder without pip and
setuptools, with its largest parts.
"""

from __future__ import annotations

import random
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

REPEATS = 5
TOOLS = ("pip", "setuptools", "_distutils_hack", "distutils-precedence", "pkg_resources")
WORDS = ["red", "green", "blue", "chair", "table", "lamp", "old", "new", "wood", "steel", "soft", "hard"]


def write(path: Path, rows: int) -> None:
    """A table: a text of ten words, four numbers, a category, three classes."""
    chance = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        file.write("text,a,b,c,d,colour,label\n")
        for at in range(rows):
            numbers = ",".join(f"{chance.gauss(0, 1):.4f}" for _ in range(4))
            file.write(f"{' '.join(chance.choices(WORDS, k=10))},{numbers},{chance.choice(WORDS)},{at % 3}\n")


def measure(*arguments: str, folder: Path) -> tuple[float, float]:
    """Median (wall-clock, CPU) seconds of this Python with some arguments, after one run to warm the disk."""
    times = []
    for _ in range(REPEATS + 1):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append((wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    wall, cpu = zip(*times[1:], strict=True)
    return statistics.median(wall), statistics.median(cpu)


def loads_torch(*arguments: str, folder: Path) -> bool:
    """Whether a command imports torch."""
    words = ["-X", "importtime", *arguments]
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, check=True)
    return any(line.rpartition("|")[2].strip() == "torch" for line in done.stderr.splitlines())


def sizes() -> dict[str, int]:
    """Entry of the site-packages folder → bytes, without what installs packages."""
    site = Path(sysconfig.get_path("purelib"))
    found = {}
    for entry in site.iterdir():
        if not entry.name.startswith(TOOLS):
            files = [entry] if entry.is_file() else [file for file in entry.rglob("*") if file.is_file()]
            found[entry.name] = sum(file.stat().st_size for file in files if not file.is_symlink())
    return found


def main() -> None:
    """Measures and prints."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "table.csv", rows)
        (folder / "recipe.yaml").write_text("data: table.csv\ntarget: label\n", encoding="utf-8")
        commands = {
            "automm --help": ("-m", "automm", "--help"),
            f"automm check, {rows:,} rows": ("-m", "automm", "check", "recipe.yaml"),
            "import automm": ("-c", "import automm"),
            "python alone": ("-c", "pass"),
        }
        for label, words in commands.items():
            wall, cpu = measure(*words, folder=folder)
            torch = "torch" if loads_torch(*words, folder=folder) else "no torch"
            print(f"{label:28} {wall:6.2f} s, {cpu:5.2f} s of CPU, {torch}")
    found = sizes()
    print(f"{'site-packages':28} {sum(found.values()) / 1e6:6.1f} MB")
    for entry, size in sorted(found.items(), key=lambda item: -item[1])[:8]:
        print(f"  {entry:26} {size / 1e6:6.1f} MB")


if __name__ == "__main__":
    main()
