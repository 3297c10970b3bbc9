"""Fits real data sets with a default recipe each and writes the test metric beside the floor.

    python docs/benchmarks/real_data.py DATA_FOLDER [--sets imdb_drama fashion …] [--minutes 8] [--out runs/real_data]

The recipe names data, target, metric and the columns to leave out, nothing else. The floor is an untuned scikit-learn
pipeline on the same split.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

SETS = {
    "imdb_drama": ("target: Genre_is_Drama\nmetric: roc_auc\nignore: [Rank]", "roc_auc", 0.858),
    "fashion": ("target: season\nignore: [id]", "accuracy", 0.853),
    "ai4i2020": (
        "target: Machine failure\nmetric: average_precision\nignore: [UDI, Product ID, TWF, HDF, PWF, OSF, RNF]",
        "average_precision",
        0.798,
    ),
    "uci_har": ("target: activity", "accuracy", 0.880),
    "hymenoptera": ("target: label", "accuracy", 0.627),
}
"""Set → what its recipe says, the metric, and the floor."""


def fit(data: Path, name: str, minutes: float, out: Path) -> dict[str, object]:
    """Runs one set and returns its line of the table."""
    says, metric, floor = SETS[name]
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / f"{name}.yaml"
    tables = f"data: {{train: {data / name / 'train.csv'}, test: {data / name / 'test.csv'}}}"
    recipe.write_text(f"{tables}\n{says}\nsearch: {{time: {minutes * 60:.0f}s}}\n", encoding="utf-8")
    command = [sys.executable, "-m", "automm", "fit", str(recipe), "--out", str(folder / "run")]
    code = subprocess.run(command, check=False).returncode
    summary = json.loads((folder / "run" / "summary.json").read_text("utf-8"))
    return {
        "set": name,
        "metric": metric,
        "test": summary["test"].get(metric),
        "floor": floor,
        "valid": summary["valid"].get(metric),
        "winner": summary.get("best", {}).get("name"),
        "baselines": summary.get("baselines", {}),
        "trials": summary["trials"],
        "seconds": summary["wall_seconds"],
        "exit_code": code,
    }


def table(lines: list[dict[str, object]]) -> str:
    """The lines as Markdown."""
    out = ["| set | metric | test | floor | valid | trials | seconds |", "|---|---|---|---|---|---|---|"]
    for line in lines:
        test = line["test"]
        shown = "–" if not isinstance(test, float) else f"{test:.3f}"
        trials = line["trials"]
        count = sum(trials.values()) if isinstance(trials, dict) else 0
        valid = line["valid"] if isinstance(line["valid"], float) else float("nan")
        cells = [line["set"], line["metric"], shown, line["floor"], f"{valid:.3f}", count, f"{line['seconds']:.0f}"]
        out.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(out)


def main() -> None:
    """Fits the sets one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="*", choices=list(SETS), default=list(SETS))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=Path("runs/real_data"))
    options = parser.parse_args()
    lines = []
    for name in options.sets:
        if not (options.data / name / "train.csv").exists():
            print(f"{name}: not in {options.data}, skipped", file=sys.stderr)
            continue
        lines.append(fit(options.data.resolve(), name, options.minutes, options.out.resolve()))
        (options.out / "results.json").write_text(json.dumps(lines, indent=2), encoding="utf-8")
    print(table(lines))


if __name__ == "__main__":
    main()
