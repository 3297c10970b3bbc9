"""Whole runs as processes of their own, timed by their event log: what `search.py` is made of."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

SETS = {
    "imdb_drama": (
        "target: Genre_is_Drama\nmetric: roc_auc\nignore: [Rank]", ("Title", "Description", "Director", "Actors"),
    ),
    "book_price": ("target: Price\nmetric: r2", ("Title", "Author", "Edition", "Synopsis")),
    "ai4i2020": (
        "target: Machine failure\nmetric: average_precision\nignore: [UDI, Product ID, TWF, HDF, PWF, OSF, RNF]", (),
    ),
}  # fmt: skip
"""Set → what its recipe says beside the data, and its text columns."""


@dataclass(frozen=True)
class Place:
    """Where a benchmark reads and writes.

    Attributes:
        data: Folder of the sets.
        out: What is kept between calls.
        rows: Most training rows of a set; None: all.
    """

    data: Path
    out: Path
    rows: int | None

    def there(self, name: str) -> bool:
        """Whether a set is there; says so if not."""
        found = (self.data / name / "train.csv").exists()
        if not found:
            print(f"{name}: not in {self.data}, skipped", file=sys.stderr)
        return found

    def tables(self, name: str) -> dict[str, str]:
        """The set's tables, with fewer rows drawn at random if so asked for."""
        found = {}
        for part in ("train", "test"):
            source = (self.data / name / f"{part}.csv").resolve()
            if self.rows is not None:
                found[part] = str(_some(source, self.out / f"{name}-{part}-{self.rows}.csv", self.rows))
            else:
                found[part] = str(source)
        return found

    def recipe(self, name: str, **keys: str) -> str:
        """A recipe for a set; `keys` are further lines, key → YAML."""
        lines = [f"data: {json.dumps(self.tables(name), ensure_ascii=False)}", SETS[name][0]]
        return "\n".join([*lines, *(f"{key}: {text}" for key, text in keys.items())]) + "\n"


def _some(source: Path, target: Path, rows: int) -> Path:
    if not target.exists():
        with source.open(encoding="utf-8", newline="") as file:
            head, *lines = csv.reader(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([head, *random.Random(0).sample(lines, min(rows, len(lines)))])
    return target


@dataclass(frozen=True)
class Measured:
    """What a run's event log tells; seconds.

    Attributes:
        wall: The whole process, imports, export and verification included.
        first: From the start to the end of the first trial: reading, encoding, training.
        search: From the data's being ready to the end of the last trial.
        trials: Each trial that was trained.
        told: Trials in all, those that repeated another included.
        peak: Most megabytes of the process and its children together.
    """

    wall: float
    first: float
    search: float
    trials: list[float]
    told: int
    peak: float

    @property
    def overhead(self) -> float:
        """Seconds of the search outside of trials, per trial."""
        return (self.search - sum(self.trials)) / self.told


def fit(
    folder: Path, recipe: str, cache: Path, *, processes: int = 1, threads: int | None = None, whole: bool = True
) -> Measured:
    """Runs `automm fit`, or finds what an earlier call measured.

    Args:
        folder: Of this run; what an unfinished one left there is removed.
        recipe: The recipe's text.
        cache: The feature cache.
        processes: Processes of the run.
        threads: Threads of each; None: all cores.
        whole: Export and verify; else the run is stopped when the last trial is over.

    Raises:
        SystemExit: If the run fails.
    """
    kept = folder / "measured.json"
    if kept.exists():
        return Measured(**json.loads(kept.read_text("utf-8")))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(recipe, "utf-8")
    environment = {**os.environ, "AUTOMM_CACHE": str(cache)}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    command = [sys.executable, "-m", "automm", "fit", "recipe.yaml", "--out", "run"]
    command += ["--nproc", str(processes)] if processes > 1 else []
    began = time.monotonic()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        peaks: list[float] = []
        watch = threading.Thread(target=_watch, args=(process, peaks))
        watch.start()
        while process.poll() is None and (whole or not _won(folder / "run" / "events.jsonl")):
            time.sleep(0.2)
        won = process.poll() is None
        if won:
            for pid in [*_family(process.pid)]:
                os.kill(pid, signal.SIGKILL)
        code = process.wait()
        watch.join()
    if code != 0 and not won:
        raise SystemExit(f"{' '.join(command)} in {folder} ended with {code}:\n{(folder / 'log').read_text()[-2000:]}")
    found = _measured(folder / "run", time.monotonic() - began, max(peaks, default=0.0))
    kept.write_text(json.dumps(asdict(found)), "utf-8")
    return found


def _won(log: Path) -> bool:
    """Whether a run's search is over."""
    return log.exists() and '"event": "winner"' in log.read_text("utf-8")


def _measured(run: Path, wall: float, peak: float) -> Measured:
    events = [json.loads(line) for line in (run / "events.jsonl").read_text("utf-8").splitlines()]
    at = {event["event"]: event["elapsed"] for event in reversed(events)}  # the first of each kind
    trials = [event for event in events if event["event"] == "trial"]
    return Measured(
        wall=wall,
        first=at["trial"],
        search=trials[-1]["elapsed"] - at["data"],
        trials=[trial["seconds"] for trial in trials if trial["state"] != "repeated"],
        told=len(trials),
        peak=peak,
    )


def _watch(process: subprocess.Popen[bytes], peaks: list[float]) -> None:
    """Notes now and then what a process and its children hold; pages that they share count for each."""
    page = os.sysconf("SC_PAGE_SIZE") / 1e6
    while process.poll() is None:
        total = 0.0
        for pid in _family(process.pid):
            try:
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
            except (OSError, IndexError):
                continue
        peaks.append(total)
        time.sleep(0.1)


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        tasks = list(Path(f"/proc/{pid}/task").glob("*/children"))
        children = [int(child) for task in tasks for child in task.read_text().split()]
    except OSError:
        return
    for child in children:
        yield from _family(child)


def entries(cache: Path) -> Mapping[str, int]:
    """Segment → entries in a cache."""
    return {str(meta.parent): json.loads(meta.read_text("utf-8"))["count"] for meta in cache.glob("v*/*/*/meta.json")}
