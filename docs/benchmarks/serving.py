"""What the runtime adds to a prediction of one row: `python docs/benchmarks/serving.py PACKAGE TABLE.jsonl`.

Prints the median time of `Predictor.predict` on one row, of the processors and ONNX Runtime alone on the same row, and
their ratio.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from automm.data.sources import open_table
from automm.runtime.media import input_cells
from automm.runtime.predictor import load

REPEATS = 500


def median(call: Callable[[], object]) -> float:
    """Median seconds of a call, after a warm-up."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times[REPEATS // 10 :])


def main(package: str, table: str, cache: str = ".benchmark-cache") -> None:
    """Measures and prints."""
    predictor = load(package, threads=1)
    path = Path(table).resolve()
    source = open_table([path.name], path.parent, Path(cache))
    rows = source.take(list(predictor.columns), np.arange(1))
    row = {name: cells[0] for name, cells in rows.items()}
    inputs = [(item.processor, item.columns, part.slug) for item, part in _pairs(predictor)]
    prepared = [
        (processor, slug, input_cells(processor, columns, {c: [row[c]] for c in columns}, source.folder))
        for processor, columns, slug in inputs
    ]
    graph = predictor.package.graphs["main"]

    def bare() -> object:
        arrays = {}
        for processor, slug, cells in prepared:
            for name, array in processor(cells).items():
                arrays[f"{slug}.{name}"] = array
            arrays[f"{slug}.present"] = np.ones(1, bool)
        return graph(arrays)

    whole = median(lambda: predictor.predict(row, folder=source.folder))
    alone = median(bare)
    print(f"predict {whole * 1e3:.3f} ms, processors + ONNX Runtime {alone * 1e3:.3f} ms, ratio {whole / alone:.2f}")


def _pairs(predictor: object) -> list[tuple[object, object]]:
    return list(zip(predictor.package.inputs, predictor.package.manifest.inputs, strict=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
