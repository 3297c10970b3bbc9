"""What the runtime adds to prediction: `python docs/benchmarks/serving.py PACKAGE TABLE [--rows 1000]`.

Compares `Predictor.predict` with the package's processors and ONNX Runtime called directly, with one thread: the median
time of one row, and rows per second of many rows, where the bare loop takes the best of several batch sizes and the
runtime its default. Also the time from the start of a fresh process to its first prediction, and its resident memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from automm.data.sources import open_table
from automm.runtime.media import input_cells
from automm.runtime.predictor import Predictor, load

REPEATS = 400
SECONDS = 20.0
"""After this time no further call is measured."""
BATCHES = (32, 64, 128, 256, 512, 1000)
ROUNDS = 8
COLD_STARTS = 5
START = """
import automm, json, resource, sys
package, row, folder = json.loads(sys.argv[1])
automm.load(package).predict(row, folder=folder)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""

Columns = dict[str, list[Any]]


def times(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each call; taken in turn, so that a busy machine slows all alike. The first tenth is warm-up."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    begun = time.perf_counter()
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            found[name].append(time.perf_counter() - start)
        if time.perf_counter() - begun > SECONDS:
            break
    return {name: seconds[len(seconds) // 10 :] for name, seconds in found.items()}


class Bare:
    """The package's processors and its graph, called directly on cells that are known to be good."""

    def __init__(self, predictor: Predictor, columns: Columns, folder: Path) -> None:
        package = predictor.package
        self.graph, self.decoder = package.graphs["main"], package.decoder
        self.inputs = []
        for item, part in zip(package.inputs, package.manifest.inputs, strict=True):
            cells = {column: columns[column] for column in item.columns}
            ready = input_cells(item.processor, item.columns, cells, folder)
            missing = np.array([[cell is not None for cell in cells[column]] for column in item.columns]).any(0)
            self.inputs.append((item.processor, part.slug, ready, missing))

    def __call__(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """The answers of some rows."""
        arrays = {}
        for processor, slug, cells, present in self.inputs:
            rows = (
                {name: column[start:stop] for name, column in cells.items()}
                if isinstance(cells, dict)
                else cells[start:stop]
            )
            for name, array in processor(rows).items():
                arrays[f"{slug}.{name}"] = array
            arrays[f"{slug}.present"] = present[start:stop]
        answers: dict[str, np.ndarray] = self.graph(arrays)
        return answers


def batch_one(predictor: Predictor, columns: Columns, folder: Path) -> tuple[float, float]:
    """Median milliseconds of one row: `predict`, and the bare calls."""
    rows = [{name: cells[at] for name, cells in columns.items()} for at in range(16)]
    bare = [Bare(predictor, {name: [cell] for name, cell in row.items()}, folder) for row in rows]
    turn = iter(range(10**9))
    calls = {
        "predict": lambda: predictor.predict(rows[next(turn) // 2 % 16], folder=folder),
        "bare": lambda: bare[next(turn) // 2 % 16](0, 1),
    }
    found = times(calls, REPEATS)
    return 1000 * statistics.median(found["predict"]), 1000 * statistics.median(found["bare"])


def throughput(predictor: Predictor, columns: Columns, folder: Path) -> tuple[float, float, int]:
    """Rows per second: `predict`, the best bare loop, and its batch size."""
    count = len(next(iter(columns.values())))
    bare = Bare(predictor, columns, folder)

    def loop(size: int) -> Callable[[], object]:
        return lambda: [bare(start, start + size) for start in range(0, count, size)]

    calls: dict[str, Callable[[], object]] = {str(size): loop(size) for size in BATCHES if size <= count}
    calls["predict"] = lambda: predictor.predict(columns, folder=folder)
    found = {name: min(seconds) for name, seconds in times(calls, ROUNDS).items()}
    whole = count / found.pop("predict")
    best = min(found, key=lambda name: found[name])
    return whole, count / found[best], int(best)


def cold(package: str, row: dict[str, Any], folder: Path) -> tuple[float, float]:
    """Median seconds from the start of a Python process to its first prediction, and its peak resident MiB."""
    order = json.dumps([package, row, str(folder)])
    seconds, resident = [], []
    for _ in range(COLD_STARTS):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", START, order], check=True, capture_output=True, text=True)
        seconds.append(time.perf_counter() - start)
        resident.append(float(done.stdout))
    return statistics.median(seconds), statistics.median(resident)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package")
    parser.add_argument("table")
    parser.add_argument("--rows", type=int, default=1000, help="rows of the throughput")
    options = parser.parse_args()
    predictor = load(options.package, threads=1)
    path = Path(options.table).resolve()
    with tempfile.TemporaryDirectory() as cache:
        source = open_table([path.name], path.parent, Path(cache))
        columns = source.take(list(predictor.columns), np.arange(options.rows) % source.rows)
    refused = predictor.predict(columns, folder=source.folder).refused
    columns = {name: [cell for at, cell in enumerate(cells) if at not in refused] for name, cells in columns.items()}
    whole, alone = batch_one(predictor, columns, source.folder)
    print(f"one row: predict {whole:.3f} ms, processors + ONNX Runtime {alone:.3f} ms, ratio {whole / alone:.2f}")
    fast, best, size = throughput(predictor, columns, source.folder)
    count = len(next(iter(columns.values())))
    print(
        f"{count:,} rows: predict {fast:,.0f} rows/s, best bare loop {best:,.0f} rows/s (batches of {size}), "
        f"ratio {fast / best:.2f}"
    )
    seconds, resident = cold(options.package, {name: cells[0] for name, cells in columns.items()}, source.folder)
    print(f"fresh process to first prediction {seconds:.2f} s, resident {resident:.0f} MiB (median of {COLD_STARTS})")


if __name__ == "__main__":
    main()
