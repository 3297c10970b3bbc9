"""Every fusion on every set: which fusion pays where.

    python docs/benchmarks/fusions.py DATA_FOLDER [--sets av_digits fashion easy_vqa] [--fusions concat …] [--seeds 3]
        [--epochs N] [--rows N] [--jobs 1] [--out runs/fusions]

All trials of a set share encoders (training-free descriptors and a trained layer, see `trials.py`), training settings
and the split; the fusions (by default all that fit the task) keep their own settings. Each modality alone is trained
the same way. The table shows the metric on the test rows, mean ± standard deviation over the seeds, and the seconds of
a trial, descriptors not counted; the best fusion and the best single modality are bold. What is finished is kept in
`OUT/fusions.json`, and the same call goes on from there.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from trials import SETS, Problem, Results, default, markdown, open_bench, score, share_cores, spread, train

from automm.search.space import single

ALONE = "alone"
"""What stands behind the name of a modality that is trained on alone."""


class Job(NamedTuple):
    """One trial.

    Attributes:
        problem: The set.
        what: Name of a fusion, or a modality and "alone".
        seed: Seed of weights and order.
    """

    problem: Problem
    what: str
    seed: int


def run(job: Job) -> dict[str, Any]:
    """Trains and tests."""
    bench = open_bench(job.problem)
    modality = job.what.removesuffix(f" {ALONE}")
    alone = bench.plan.modalities()[modality] if modality != job.what else None
    resolved = default(bench) if alone else default(bench, job.what)
    resolved = single(resolved, alone) if alone else resolved
    model, kept = train(bench, resolved, job.seed)
    test = score(bench, model, resolved) if model is not None else None
    return {"set": job.problem.name, "what": job.what, "seed": job.seed, "test": test, **kept}


def results(jobs: list[Job], processes: int) -> Iterator[dict[str, Any]]:
    """Runs the trials, some at a time."""
    if processes == 1:
        yield from map(run, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=share_cores, initargs=(processes,)) as pool:
        for done in as_completed([pool.submit(run, job) for job in jobs]):
            yield done.result()


def plan(problem: Problem, fusions: list[str] | None, seeds: int) -> list[Job]:
    """The trials of a set, after its descriptors are computed; None: all fusions."""
    bench, start = open_bench(problem), time.perf_counter()
    fusions = fusions or [choice.name for choice in bench.plan.candidates.fusion]
    for name in fusions:
        default(bench, name)  # an unknown one is refused before anything is computed
    for part in bench.parts:
        bench.view(part, default(bench))
    rows = ", ".join(f"{count:,} {part}" for part, count in bench.plan.rows.items())
    print(f"{problem.name}: {rows} rows; descriptors {time.perf_counter() - start:.0f} s", flush=True)
    for name, reason in bench.plan.left_out.items():
        if name.startswith("fusion "):
            print(f"{problem.name}: {name} is left out: {reason}", file=sys.stderr)
    names = [*(f"{modality} {ALONE}" for modality in bench.plan.modalities()), *fusions]
    return [Job(problem, what, seed) for seed in range(seeds) for what in names]


def table(found: Results, sets: list[str], seeds: int) -> str:
    """Fusions × sets as Markdown, the modalities alone below; the best of both in bold."""
    trials = [trial for trial in found.found() if trial["set"] in sets and trial["seed"] < seeds]
    cells: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for trial in trials:
        cells.setdefault((trial["what"], trial["set"]), []).append(trial)
    means = {key: statistics.mean(trial["test"] for trial in group) for key, group in cells.items()}
    alone = {what: what.endswith(f" {ALONE}") for what, _ in cells}
    best = {
        max((key for key in cells if key[1] == name and alone[key[0]] == kind), key=means.__getitem__, default=None)
        for name in sets
        for kind in (True, False)
    }

    def cell(key: tuple[str, str]) -> str:
        if key not in cells:
            return "–"
        shown = spread([trial["test"] for trial in cells[key]])
        shown = f"**{shown}**" if key in best else shown
        return f"{shown}, {statistics.mean(trial['seconds'] for trial in cells[key]):.0f} s"

    order = sorted(alone, key=lambda what: (alone[what], what))
    return markdown(["fusion", *sets], ([what, *(cell((what, name)) for name in sets)] for what in order))


def main() -> None:
    """Runs what is not finished yet, and prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="*", choices=list(SETS), default=list(SETS))
    parser.add_argument("--fusions", nargs="+", help="by default all that fit the task")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="by default what automm takes for the number of rows")
    parser.add_argument("--rows", type=int, help="most rows of each of train, valid and test")
    parser.add_argument("--jobs", type=int, default=1, help="trials at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/fusions"))
    options = parser.parse_args()
    found = Results(options.out / "fusions.json", {"rows": options.rows, "epochs_asked": options.epochs})
    for name in options.sets:
        problem = Problem(options.data, name, options.out, options.rows, options.epochs)
        if not (options.data / name / "train.csv").exists():
            print(f"{name}: not in {options.data}, skipped", file=sys.stderr)
            continue
        jobs = plan(problem, options.fusions, options.seeds)
        left = [job for job in jobs if not found.found(set=name, what=job.what, seed=job.seed)]
        for trial in results(left, options.jobs):
            found.add(trial)
            test = f"{trial['test']:.3f}" if trial["test"] is not None else trial.get("error", "not defined")
            said = f"test {test}, {trial['epochs']} epochs, {trial['seconds']:.1f} s"
            print(f"{name}: {trial['what']}, seed {trial['seed']}: {said}", flush=True)
    shown = table(found, options.sets, options.seeds)
    (options.out / "fusions.md").write_text(shown + "\n", "utf-8")
    print(shown)


if __name__ == "__main__":
    main()
