"""What the runtime adds to prediction: `python docs/benchmarks/serving.py [PACKAGE TABLE] [--quick]`.

Compares `Predictor.predict` with the package's processors and ONNX Runtime called directly, with one thread: the median
time of one row, and rows per second of many rows, where the bare loop takes the best of several batch sizes and the
runtime its default. With a thread per core, the package's session beside a bare one with ONNX Runtime's own settings,
alone and with other work between the calls, as in a server. Also the time from the start of a fresh process to its
first prediction, its resident memory, and the size of what `pip install automm` and `automm[serve]` put into
site-packages.

Without PACKAGE it takes the text package that compression.py makes (MiniLM in 8 bits) and its table. The figures go to
`runs/benchmarks/serving.md` and `.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from figures import Figures
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from automm.data.sources import open_table
from automm.runtime.media import input_cells
from automm.runtime.predictor import Predictor, load

REPEATS = 400
SECONDS = 30.0
"""After this time no further call is measured."""
BATCHES = (32, 64, 128, 256, 512, 1000)
ROUNDS = 8
COLD_STARTS = 5
BETWEEN = 0.001
"""Seconds of other work between two calls."""
QUICK = 0.15
"""Share of rows, repeats and seconds with `--quick`."""
START = """
import automm, json, resource, sys
package, row, folder = json.loads(sys.argv[1])
automm.load(package).predict(row, folder=folder)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""

Columns = dict[str, list[Any]]


def times(
    calls: dict[str, Callable[[], object]], repeats: int, share: float = 1.0, clock: Callable[[], float] | None = None
) -> dict[str, list[float]]:
    """Seconds of each call; taken in turn, so that a busy machine slows all alike. The first tenth is warm-up."""
    clock = clock or time.perf_counter
    found: dict[str, list[float]] = {name: [] for name in calls}
    begun = time.perf_counter()
    for _ in range(max(int(repeats * share), 3)):
        for name, call in calls.items():
            start = clock()
            call()
            found[name].append(clock() - start)
        if time.perf_counter() - begun > SECONDS * share:
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


def batch_one(predictor: Predictor, columns: Columns, folder: Path, share: float) -> tuple[float, float]:
    """Median milliseconds of one row: `predict`, and the bare calls."""
    rows = [{name: cells[at] for name, cells in columns.items()} for at in range(16)]
    bare = [Bare(predictor, {name: [cell] for name, cell in row.items()}, folder) for row in rows]
    turn = iter(range(10**9))
    calls = {
        "predict": lambda: predictor.predict(rows[next(turn) // 2 % 16], folder=folder),
        "bare": lambda: bare[next(turn) // 2 % 16](0, 1),
    }
    found = times(calls, REPEATS, share)
    return 1000 * statistics.median(found["predict"]), 1000 * statistics.median(found["bare"])


def throughput(predictor: Predictor, columns: Columns, folder: Path, share: float) -> tuple[float, float, int]:
    """Rows per second: `predict`, the best bare loop, and its batch size."""
    count = len(next(iter(columns.values())))
    bare = Bare(predictor, columns, folder)

    def loop(size: int) -> Callable[[], object]:
        return lambda: [bare(start, start + size) for start in range(0, count, size)]

    calls: dict[str, Callable[[], object]] = {str(size): loop(size) for size in BATCHES if size <= count}
    calls["predict"] = lambda: predictor.predict(columns, folder=folder)
    found = {name: min(seconds) for name, seconds in times(calls, ROUNDS, share).items()}
    whole = count / found.pop("predict")
    best = min(found, key=lambda name: found[name])
    return whole, count / found[best], int(best)


def cold(package: str, row: dict[str, Any], folder: Path, starts: int) -> tuple[float, float]:
    """Median seconds from the start of a Python process to its first prediction, and its peak resident MiB."""
    order = json.dumps([package, row, str(folder)])
    seconds, resident = [], []
    for _ in range(starts):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", START, order], check=True, capture_output=True, text=True)
        seconds.append(time.perf_counter() - start)
        resident.append(float(done.stdout))
    return statistics.median(seconds), statistics.median(resident)


def waiting(figures: Figures, predictor: Predictor, columns: Columns, folder: Path, share: float) -> None:
    """The package's session, whose threads sleep while they wait, beside one with ONNX Runtime's own settings."""
    package = predictor.package
    data = package.files.read(package.manifest.graphs["main"].file)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    bare = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    ours = load(package.path).package.graphs["main"]
    for count in (1, 32):
        arrays, _ = package.arrays({name: cells[:count] for name, cells in columns.items()}, count, folder)
        given = {name: arrays[name] for name in ours.inputs}

        def idle(session: Callable[[], object]) -> object:
            return session()

        def busy(session: Callable[[], object]) -> object:
            found, end = session(), time.perf_counter() + BETWEEN
            while time.perf_counter() < end:
                pass
            return found

        for what, way in (("alone", idle), (f"with {1000 * BETWEEN:g} ms of other work between", busy)):
            calls = {
                "ours": lambda way=way, given=given: way(lambda: ours(given)),
                "bare": lambda way=way, given=given: way(lambda: bare.run(None, given)),
            }
            wall = {name: 1000 * statistics.median(found) for name, found in times(calls, 100, share).items()}
            used = times(calls, 100, share, time.process_time)
            used = {name: 1000 * statistics.median(found) for name, found in used.items()}
            figures.add(
                f"graph on {len(os.sched_getaffinity(0))} threads, {count} rows, {what}, beside a bare session",
                f"{wall['ours']:.2f} beside {wall['bare']:.2f} ms ({wall['ours'] / wall['bare']:.2f}); processor time "
                f"{used['ours']:.2f} beside {used['bare']:.2f} ms ({used['ours'] / used['bare']:.2f})",
                wall=wall, processor=used,
            )  # fmt: skip


def installed(extras: set[str]) -> float:
    """MB of the files of automm and of everything it needs with some extras, as installed here."""
    sizes: dict[str, float] = {}
    ahead = [("automm", frozenset(extras))]
    seen = set()
    while ahead:
        name, wanted = ahead.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        found = metadata.distribution(name)
        if name == "automm":
            folders = [Path(sys.modules["automm"].__file__).parent]
            folders += [path for path in (folders[0].parent / "plugins").glob("automm_*") if path.is_dir()]
            files = [path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts]
        else:
            files = [Path(found.locate_file(file)) for file in found.files or ()]
        sizes[name] = sum(file.stat().st_size for file in files if file.is_file()) / 1e6
        for text in found.requires or ():
            need = Requirement(text)
            if any(need.marker is None or need.marker.evaluate({"extra": extra}) for extra in (*wanted, "")):
                ahead.append((canonicalize_name(need.name), frozenset(need.extras)))
    return sum(sizes.values())


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", nargs="?", type=Path)
    parser.add_argument("table", nargs="?", type=Path)
    parser.add_argument("--quick", action="store_true", help="few rows and repeats: shows that it runs")
    parser.add_argument("--rows", type=int, default=1000, help="rows of the throughput")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    share = QUICK if options.quick else 1.0
    rows = max(int(options.rows * share), 64)
    if options.package is None:
        from compression import made, text_package

        options.package, options.table = text_package(options.out), made("text", 400)
    elif options.table is None:
        parser.error("name the table, too")
    figures = Figures(options.out / "serving")
    predictor = load(options.package, threads=1)
    path = options.table.resolve()
    with tempfile.TemporaryDirectory() as cache:
        source = open_table([path.name], path.parent, Path(cache))
        columns = source.take(list(predictor.columns), np.arange(rows) % source.rows)
    refused = predictor.predict(columns, folder=source.folder).refused
    columns = {name: [cell for at, cell in enumerate(cells) if at not in refused] for name, cells in columns.items()}
    whole, alone = batch_one(predictor, columns, source.folder, share)
    figures.add("one row, predict beside bare processors and ONNX Runtime (p50, one thread)",
                f"{whole:.3f} beside {alone:.3f} ms ({whole / alone:.2f} ×)", "≤ 1.3 ×", whole <= 1.3 * alone,
                predict_ms=whole, bare_ms=alone)  # fmt: skip
    fast, best, size = throughput(predictor, columns, source.folder, share)
    count = len(next(iter(columns.values())))
    figures.add(f"{count:,} rows, predict beside the best bare loop (batches of {size}, one thread)",
                f"{fast:,.0f} beside {best:,.0f} rows a second ({fast / best:.2f} ×)", "≥ 0.85 ×",
                fast >= 0.85 * best, predict=fast, bare=best)  # fmt: skip
    waiting(figures, predictor, columns, source.folder, share)
    starts = 1 if options.quick else COLD_STARTS
    row = {name: cells[0] for name, cells in columns.items()}
    seconds, resident = cold(str(options.package), row, source.folder, starts)
    figures.add("fresh process to its first prediction", f"{seconds:.2f} s, {resident:.0f} MiB resident",
                "≤ 1.5 s", seconds <= 1.5, seconds=seconds, mib=resident)  # fmt: skip
    for extras, what in ((set(), "automm"), ({"serve"}, "automm[serve]")):
        size_mb = installed(extras)
        figures.add(f"site-packages of {what}", f"{size_mb:.0f} MB", "≤ 400 MB", size_mb <= 400, mb=size_mb)


if __name__ == "__main__":
    main()
