"""What the runtime adds to a prediction of one row: `python docs/benchmarks/serving.py PACKAGE TABLE`.

Prints the time from the start of a fresh process to its first prediction, the median time of `Predictor.predict` on one
row, of the processors and ONNX Runtime alone on the same row, and their ratio.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from automm.data.sources import open_table
from automm.runtime.media import input_cells
from automm.runtime.predictor import load

REPEATS = 500
COLD_STARTS = 5


def medians(*calls: Callable[[], object]) -> list[float]:
    """Median seconds of each call after a warm-up; taken in turn, so that a busy machine slows all of them alike."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(REPEATS):
        for call, found in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            found.append(time.perf_counter() - start)
    return [statistics.median(found[REPEATS // 10 :]) for found in times]


def cold(package: str, row: dict[str, Any], folder: Path) -> float:
    """Median seconds from the start of a Python process to its first prediction."""
    order = json.dumps([package, row, str(folder)])
    script = "import automm, json, sys; p, r, f = json.loads(sys.argv[1]); automm.load(p).predict(r, folder=f)"
    times = []
    for _ in range(COLD_STARTS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", script, order], check=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main(package: str, table: str, cache: str = ".benchmark-cache") -> None:
    """Measures and prints."""
    predictor = load(package, threads=1)
    path = Path(table).resolve()
    source = open_table([path.name], path.parent, Path(cache))
    rows = source.take(list(predictor.columns), np.arange(1))
    row = {name: cells[0] for name, cells in rows.items()}
    prepared = []
    for item, part in zip(predictor.package.inputs, predictor.package.manifest.inputs, strict=True):
        cells = {column: [row[column]] for column in item.columns}
        prepared.append((item.processor, part.slug, input_cells(item.processor, item.columns, cells, source.folder)))
    graph = predictor.package.graphs["main"]

    def bare() -> object:
        arrays = {}
        for processor, slug, cells in prepared:
            for name, array in processor(cells).items():
                arrays[f"{slug}.{name}"] = array
            arrays[f"{slug}.present"] = np.ones(1, bool)
        return graph(arrays)

    whole, alone = medians(lambda: predictor.predict(row, folder=source.folder), bare)
    first = cold(package, row, source.folder)
    print(f"fresh process: import, load the package, predict one row {first:.2f} s (median of {COLD_STARTS})")
    print(f"predict {whole * 1e3:.3f} ms, processors + ONNX Runtime {alone * 1e3:.3f} ms, ratio {whole / alone:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
