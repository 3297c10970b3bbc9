"""Watching a table for drift: the report that `automm monitor` and `automm update` write. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from automm.errors import DataError
from automm.runtime.drift import DRIFTED, FEWEST, Finding, Monitor
from automm.runtime.predictor import Predictor, missing_columns

if TYPE_CHECKING:
    from automm.core.kinds import Task
    from automm.data.table import Table

CHUNK = 256
GROUPS = {
    "rows": "rows", "input": "input", "model": "as the model reads it", "prediction": "prediction", "target": "target",
}  # fmt: skip
"""Group of findings → what people read."""


def watch(
    predictor: Predictor,
    table: Table,
    task: Task | None,
    *,
    threshold: float = DRIFTED,
    rows: np.ndarray | None = None,
    allow_missing: bool = False,
) -> tuple[dict[str, Any], dict[int, str]]:
    """Compares a table with what a package was trained on.

    Args:
        predictor: The loaded package.
        table: The rows.
        task: The package's task, to look at the target where the table has it.
        threshold: Stability index from which a shift is called drift.
        rows: Row numbers; None: all.
        allow_missing: Take absent columns for missing cells.

    Returns:
        The report, plain JSON, and row number → reason of the rows that could not be read.

    Raises:
        DataError: If input columns are absent.
        PackageError: If the package has no reference.
    """
    package = predictor.package
    absent = [name for name in predictor.columns if name not in table.columns]
    if absent and not allow_missing:
        raise DataError(f"{table.name}: {missing_columns(absent, table.columns)}")
    target = package.manifest.target.columns
    labelled = task is not None and all(column in table.columns for column in target)
    wanted = [*predictor.columns, *(target if labelled else ())]
    monitor = Monitor(package, task if labelled else None)
    refused: dict[int, str] = {}
    for numbers, cells in table.chunks([name for name in dict.fromkeys(wanted) if name in table.columns], rows, CHUNK):
        complete = predictor.complete(cells, len(numbers), allow_missing=True)
        found = monitor.add(complete, len(numbers), table.folder)
        refused |= {int(numbers[at]): reason for at, reason in found.items()}
    findings = monitor.findings(threshold)
    return {
        "package": package.manifest.name,
        "digest": package.digest,
        "table": table.name,
        "rows": monitor.rows,
        "refused": monitor.refused,
        "reference_rows": monitor.reference.rows,
        "threshold": threshold,
        "drift": any(finding.status == "drift" for finding in findings),
        "findings": [{**finding._asdict(), "bins": [list(part) for part in finding.bins]} for finding in findings],
    }, refused


def task_of(predictor: Predictor, plugins: Sequence[Path]) -> Task:
    """The task of a package, restored from its manifest.

    Raises:
        PluginError: If it is not installed.
    """
    from automm.plugin.loader import load_plugins

    part = predictor.package.manifest.task
    cls: type[Task] = load_plugins(files=plugins).registry.get("task", part.name)
    return cls(cls.Config.model_validate(part.config), part.state)


def drifted(report: dict[str, Any]) -> list[str]:
    """The fields that have drifted, each once, the largest shift first."""
    named = [_name(found) for found in report["findings"] if found["status"] == "drift"]
    return list(dict.fromkeys(named))


def _name(found: dict[str, Any]) -> str:
    group = found["group"]
    return f"{found['field']} ({GROUPS[group]})" if group in ("model", "prediction", "target") else found["field"]


def lines(report: dict[str, Any], *, everything: bool = False) -> list[str]:
    """The report for people: what moved, the largest shift first; of an input's projections only the worst."""
    count, shown, seen = report["rows"], [], set()
    for found in report["findings"]:
        key = (found["group"], found["field"])
        if (found["group"] == "model" and key in seen) or not (everything or found["status"] in ("drift", "moderate")):
            continue
        seen.add(key)
        figure = "" if found["figure"] == "value" or found["group"] in ("model", "rows") else f", {found['figure']}"
        words = f": {found['words']}" if found["words"] else ""
        tests = f"PSI {found['psi']:.3f}" + ("" if found["ks"] is None else f", KS {found['ks']:.3f}")
        shown.append(f"{found['status']:9} {_name(found)}{figure}{words} ({tests}, χ² {found['chi2']:.1f})")
    names = drifted(report)
    if count < FEWEST:
        said = f"{count} rows are too few to tell; {FEWEST} are needed"
    elif names:
        said = f"drift in {len(names)}: {', '.join(names[:6])}{', …' if len(names) > 6 else ''}"
    else:
        said = "no drift"
    refused = f", {report['refused']:,} of them could not be read" if report["refused"] else ""
    return [*shown, f"{count:,} rows compared with {report['reference_rows']:,} training rows{refused}: {said}"]


__all__ = ["Finding", "drifted", "lines", "task_of", "watch"]
