"""Accuracy when inputs are missing at test time, with and without modality dropout in training.

    python docs/benchmarks/missing.py DATA_FOLDER [--fusions concat gated late] [--dropouts 0 0.1 0.3] [--seeds 3]
        [--epochs N] [--rows N] [--out runs/missing]

On `av_digits`: picture and sound of a digit, neither enough alone. Every model is trained on complete rows and chosen
on complete validation rows. Then 25, 50 and 100 % of the test rows lose their picture, or their sound: the cells of the
test table are emptied, and the table is read like any other. Which rows lose the cell is the same for all models. Below
stand what the other modality reaches that was trained alone, and the commonest class. Encoders and resuming are as in
`fusions.py`.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
from trials import Problem, Results, default, markdown, open_bench, score, spread, train

from automm.data.sources import open_table
from automm.data.table import Table
from automm.plan.prepare import Part
from automm.search.space import single
from automm.train.bench import Bench

SET = "av_digits"
SHARES = (25, 50, 100)
COMPLETE = "test"
"""The part of complete test rows."""


def damaged(column: str, share: int) -> str:
    """What the part is called whose rows lack a share of the cells of a column."""
    return f"{column} {share} %"


def remove(part: Part, column: str, share: int, folder: Path) -> Part:
    """The rows of a part as a table of their own in which a share (in %) of a column's cells is empty."""
    cells = part.table.take(part.table.columns, part.rows)
    count = len(part.rows)
    for at in np.random.default_rng(0).permutation(count)[: round(count * share / 100)]:
        cells[column][at] = None
    file = folder / f"{column}_{share}.csv"
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(cells)
        writer.writerows(zip(*cells.values(), strict=True))
    stored = open_table([file.name], folder, folder / "tables")
    # The media stay where they are.
    return Part(Table(stored.path, file.name, part.table.folder), np.arange(count), part.target)


def prepare(problem: Problem) -> Bench:
    """The workbench with the damaged test tables as parts."""
    bench = open_bench(problem)
    columns = [item.name for item in bench.plan.inputs]
    more = {
        damaged(column, share): remove(bench.parts[COMPLETE], column, share, problem.folder)
        for column in columns
        for share in SHARES
    }
    bench.parts = {**bench.parts, **more}
    return bench


def fused(bench: Bench, fusion: str, dropout: float) -> dict[str, Any]:
    """The configuration of a fusion's defaults with this modality dropout."""
    resolved = default(bench, fusion)
    choice = resolved["fusion"]
    return {**resolved, "fusion": {**choice, "config": {**choice["config"], "modality_dropout": dropout}}}


def run(bench: Bench, resolved: dict[str, Any], parts: list[str], seed: int) -> dict[str, Any]:
    """Trains, and measures on the parts."""
    model, kept = train(bench, resolved, seed)
    test = {part: score(bench, model, resolved, part) for part in parts} if model is not None else {}
    return {"seed": seed, "test": test, **kept}


def commonest(bench: Bench) -> float:
    """Accuracy of always saying the commonest class of the training rows."""
    classes, counts = np.unique(bench.parts["train"].target, return_counts=True)
    return float((bench.parts[COMPLETE].target == classes[counts.argmax()]).mean())


def tables(found: Results, bench: Bench, fusions: list[str], dropouts: list[float], seeds: int) -> str:
    """Per removed column models × share as Markdown, with the baselines below."""
    columns = [item.name for item in bench.plan.inputs]

    def shown(what: str, dropout: float | None, part: str) -> str:
        trials = [trial for trial in found.found(what=what, dropout=dropout) if trial["seed"] < seeds]
        return spread([trial["test"][part] for trial in trials])

    blocks = []
    for column in columns:
        parts = [COMPLETE, *(damaged(column, share) for share in SHARES)]
        head = [f"{column} removed from", "modality dropout", *(f"{share} %" for share in (0, *SHARES))]
        lines = [
            [fusion, f"{dropout:g}", *(shown(fusion, dropout, part) for part in parts)]
            for fusion in fusions
            for dropout in dropouts
        ]
        # A model of the other column alone does not notice.
        others = [other for other in columns if other != column]
        lines += [[f"{other} alone", "", *[shown(other, None, COMPLETE)] * len(parts)] for other in others]
        lines.append(["commonest class", "", *[f"{commonest(bench):.3f}"] * len(parts)])
        blocks.append(markdown(head, lines))
    return "\n\n".join(blocks)


def main() -> None:
    """Runs what is not finished yet, and prints and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--fusions", nargs="+", default=["concat", "gated", "late"])
    parser.add_argument("--dropouts", nargs="+", type=float, default=[0.0, 0.1, 0.3])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="by default what automm takes for the number of rows")
    parser.add_argument("--rows", type=int, help="most rows of each of train, valid and test")
    parser.add_argument("--out", type=Path, default=Path("runs/missing"))
    options = parser.parse_args()
    bench = prepare(Problem(options.data, SET, options.out, options.rows, options.epochs))
    found = Results(options.out / "missing.json", {"rows": options.rows, "epochs_asked": options.epochs})
    slugs = {item.name: item.slug for item in bench.plan.inputs}
    trials: list[tuple[str, float | None, dict[str, Any]]] = [
        (name, None, single(default(bench), [slug])) for name, slug in slugs.items()
    ]
    trials += [(fusion, share, fused(bench, fusion, share)) for fusion in options.fusions for share in options.dropouts]
    for seed in range(options.seeds):
        for what, dropout, resolved in trials:
            if found.found(what=what, dropout=dropout, seed=seed):
                continue
            parts = [part for part in bench.parts if part not in ("train", "valid")]
            parts = [COMPLETE] if dropout is None else parts
            trial = run(bench, resolved, parts, seed)
            found.add({"what": what, "dropout": dropout, **trial})
            said = ", ".join(f"{part} {value:.3f}" for part, value in trial["test"].items()) or trial["error"]
            share = "alone" if dropout is None else f"modality dropout {dropout:g}"
            print(f"{what}, {share}, seed {seed}: {said}; {trial['seconds']:.1f} s", flush=True)
    shown = tables(found, bench, options.fusions, options.dropouts, options.seeds)
    (options.out / "missing.md").write_text(shown + "\n", "utf-8")
    print(shown)


if __name__ == "__main__":
    main()
