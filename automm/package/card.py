"""What people read in a package: the model card, the requirements, the environment."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from html import escape
from importlib import metadata
from typing import Any

from automm.runtime.manifest import InputPart, Manifest

WATCHED = ("automm", "torch", "lightning", "transformers", "tokenizers", "onnx", "onnxscript", "onnxruntime", "numpy")
RUNTIME = ("onnxruntime", "numpy", "pydantic", "pillow", "tokenizers", "pyarrow")


def environment() -> dict[str, str]:
    """Python, platform and the versions of the packages that the numbers depend on."""
    found = {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()}
    for name in (*WATCHED, *RUNTIME):
        if (version := _version(name)) is not None:
            found[name] = version
    return found


def requirements(manifest: Manifest) -> str:
    """What to install where the package runs: automm, the distributions of its operations, and tested versions."""
    owners = {part.processor.owner for part in manifest.inputs} | {manifest.decoder.owner}
    pinned = {owner.distribution: owner.version for owner in owners if owner.distribution != "local"}
    pinned["automm"] = manifest.automm
    lines = [f"{name}=={version}" for name, version in sorted(pinned.items())]
    lines += [f"{name}=={version}" for name in RUNTIME if name not in pinned and (version := _version(name))]
    return "\n".join(lines) + "\n"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def model_card(manifest: Manifest, results: Mapping[str, str], compression: Mapping[str, Any] | None = None) -> str:
    """The package's README.

    Args:
        manifest: The manifest, its list of files not needed.
        results: Result column → type.
        compression: What was tried to make the model smaller and faster, as in the run's summary.
    """
    target = manifest.target
    what = f"**{_cell(', '.join(target.columns))}** ({manifest.task.name})"
    names = f"\n\nPossible values: {_cell(_listed(target.names))}." if target.names else ""
    count = f"{len(manifest.inputs)} input{'s' * (len(manifest.inputs) != 1)}"
    columns = list(dict.fromkeys(column for part in manifest.inputs for column in part.columns))
    row = ", ".join(f"{column!r}: ..." for column in columns[:4]) + (", ..." if len(columns) > 4 else "")
    return f"""# {_cell(manifest.name)}

Predicts {what} from {count}. Made with automm {manifest.automm} on {manifest.created}.{names}

## Inputs

| input | modality | columns | missing in training | refused |
|---|---|---|---|---|
{chr(10).join(_input_row(part) for part in manifest.inputs)}

Any cell may be missing; a model that never saw an input missing is less reliable without it. A cell that cannot be read
(no such file, not a number, over a limit) refuses its row, and the result says so.

## Results

| column | type |
|---|---|
{chr(10).join(f"| {_cell(name)} | {kind} |" for name, kind in results.items())}

## Quality

{_metrics(manifest)}
{_compression(compression or {})}
Measured on rows that training did not see. On data of another origin expect less.

## Use

```sh
pip install -r requirements.txt
automm predict . table.csv -o predictions.csv
```

```python
import automm

predictor = automm.load(".")
predictor.predict([{{{row}}}], folder=".").rows
```

The package runs on the CPU with ONNX Runtime; PyTorch is not needed. Its files and their digests are listed in
`automm.json`; `automm package verify .` checks them.
"""


def _input_row(part: InputPart) -> str:
    limits = ", ".join(f"{name} > {bound:,.10g}" for name, bound in part.limits.items()) or "–"
    missing = "yes" if part.optional else "no"
    return f"| {_cell(part.name)} | {part.modality} | {_cell(_listed(part.columns))} | {missing} | {limits} |"


def _listed(names: tuple[str, ...], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "|`[]"})


def _cell(text: str) -> str:
    """Text as it stands, in a table or not: no markup, no HTML."""
    return escape(" ".join(text.split()), quote=False).translate(_MARKS)


def _metrics(manifest: Manifest) -> str:
    valid, test = manifest.metrics.valid, manifest.metrics.test
    if not valid and not test:
        return "No metrics were recorded."
    rows = ["| metric | validation | test |", "|---|---|---|"]
    for name in dict.fromkeys((*valid, *test)):
        cells = [f"{side[name]:.4g}" if name in side else "–" for side in (valid, test)]
        rows.append(f"| {name} | {cells[0]} | {cells[1]} |")
    return "\n".join(rows)


def _compression(table: Mapping[str, Any]) -> str:
    """The variants that were measured, and which of them the package holds."""
    if not table.get("variants"):
        return ""
    metric, adopted = table["metric"], table["adopted"]
    rows = [
        f"| variant | {metric} | lost | ms | times as fast | MB | frontier | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in table["variants"]:
        said = "**in this package**" if one["name"] == (adopted or "full") else one["reason"] or one["state"]
        cells = [one["name"], "–", "–", "–", "–", "–", "yes" if one["frontier"] else "", said]
        if one["latency_ms"]:
            low, high = one["interval"] or ("–", "–")
            span = f" ({low:.2%} to {high:.2%})" if one["interval"] else ""
            lost = "" if one["name"] == "full" or one["loss"] is None else f"{one['loss']:.2%}{span}"
            speed = one["latency_ms"]["one_thread"]["p50"]
            value = "–" if one["value"] is None else f"{one['value']:.4g}"
            cells[1:6] = [value, lost, f"{speed:.3g}", f"{one['speedup']:.2g}", f"{one['size_mb']:.3g}"]
        rows.append("| " + " | ".join(_cell(str(cell)) for cell in cells) + " |")
    return (
        f"""
## Compression

Measured on {table["rows"]:,} validation rows against the model as it was trained. Lost is relative, with its 95 %
interval; milliseconds are the median of one row through the graph on one thread. On the frontier is what no other
variant beats: none is as good or better in loss, speed and size.

"""
        + "\n".join(rows)
        + "\n"
    )
