"""`automm evaluate`: the metrics of a package on labelled rows."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from automm.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from automm.core.kinds import Task
    from automm.data.table import Table
    from automm.runtime.predictor import Predictor


@click.command("evaluate")
@click.argument("package", type=click.Path(path_type=Path))
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--allow-missing", is_flag=True, help="Take absent input columns for missing cells.")
@click.option("--batch-size", type=click.IntRange(1), default=256, show_default=True, help="Rows predicted at a time.")
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Local plugin file that the package needs. The file is run.",
)
@click.option("--block", multiple=True, metavar="NAME", help="Leave a plugin out.")
def command(
    package: Path,
    table: Path,
    as_json: bool,
    allow_missing: bool,
    batch_size: int,
    plugins: tuple[Path, ...],
    block: tuple[str, ...],
) -> None:
    """Measures PACKAGE on the labelled rows of TABLE.

    Rows whose cells or target cannot be used are left out and counted.
    """
    try:
        import torch  # noqa: F401
    except ImportError:
        raise MissingExtraError('evaluating needs PyTorch: pip install "automm[train]"') from None
    from automm.data.sources import open_table
    from automm.plugin.loader import load_plugins
    from automm.runtime import ops
    from automm.runtime.predictor import load, missing_columns

    if not table.exists():
        raise DataError(f"{table}: no such file")
    for file in plugins:
        ops.add_file(file)
    predictor = load(package)
    manifest = predictor.package.manifest
    cls = load_plugins(block=block, files=plugins).registry.get("task", manifest.task.name)
    task = cls(cls.Config.stored(manifest.task.config), manifest.task.state)
    with tempfile.TemporaryDirectory(prefix="automm-evaluate-") as cache:
        source = open_table([table.name], table.resolve().parent, Path(cache))
        if absent := [name for name in manifest.target.columns if name not in source.columns]:
            raise DataError(f"{table}: the target column {absent[0]!r} is not in the table")
        absent = [name for name in predictor.columns if name not in source.columns]
        if absent and not allow_missing:
            raise DataError(f"{table}: {missing_columns(absent, source.columns)}")
        metrics, used, refused = measure(predictor, task, source, manifest.target.columns, batch_size)
    report = {
        "rows": used,
        "refused": len(refused),
        "refused_rows": {str(row + 1): reason for row, reason in list(refused.items())[:20]},
        "metrics": {name: value if math.isfinite(value) else None for name, value in metrics.items()},
    }
    if as_json:
        click.echo(json.dumps(report, indent=2, allow_nan=False))
        return
    for name, value in metrics.items():
        click.echo(f"{name:24} {value:.6g}")
    click.echo(f"{used:,} rows measured, {len(refused):,} refused", err=True)
    for row, reason in list(refused.items())[:5]:
        click.echo(f"  row {row + 1}: {reason}", err=True)


def measure(
    predictor: Predictor, task: Task, table: Table, target_columns: Sequence[str], batch_size: int = 256
) -> tuple[dict[str, float], int, dict[int, str]]:
    """The task's metrics of a package on a table.

    Args:
        predictor: The loaded package.
        task: The task, restored from the manifest.
        table: The labelled rows.
        target_columns: Where the target is read from.
        batch_size: Rows predicted at a time.

    Returns:
        Metric → value; the number of rows measured; row number from 0 → reason for the rows left out.

    Raises:
        DataError: If no row can be measured.
    """
    import torch

    answers: list[dict[str, np.ndarray]] = []
    targets: list[np.ndarray] = []
    left_out: dict[int, str] = {}
    columns = list(dict.fromkeys((*predictor.columns, *target_columns)))
    for numbers, cells in table.chunks([name for name in columns if name in table.columns], size=batch_size):
        kept, target, reasons = encoded(task, {name: cells[name] for name in target_columns})
        left_out.update({int(numbers[at]): reason for at, reason in reasons.items()})
        if not kept:
            continue
        rows = {name: [values[at] for at in kept] for name, values in cells.items()}
        found, refused = predictor.package.answers(
            predictor.complete(rows, len(kept), allow_missing=True), len(kept), table.folder
        )
        left_out.update({int(numbers[kept[at]]): reason for at, reason in refused.items()})
        if found:
            answers.append(found)
            targets.append(target[[at for at in range(len(kept)) if at not in refused]])
    if not targets:
        reason = next(iter(left_out.values()), "the table is empty")
        raise DataError(f"no row can be measured; the first reason: {reason}")
    joined = {name: torch.from_numpy(np.concatenate([piece[name] for piece in answers])) for name in answers[0]}
    target_tensor = torch.from_numpy(np.concatenate(targets))
    metrics = {name: float(metric.compute(joined, target_tensor)) for name, metric in task.metrics().items()}
    return metrics, len(target_tensor), dict(sorted(left_out.items()))


def encoded(task: Task, cells: Mapping[str, Sequence[Any]]) -> tuple[list[int], np.ndarray, dict[int, str]]:
    """The coded target of the rows that have one, their positions, and why the others have none."""
    from automm.core.processor import BadCells

    kept = list(range(len(next(iter(cells.values())))))
    reasons: dict[int, str] = {}
    while kept:
        try:
            return kept, task.encode({name: [values[at] for at in kept] for name, values in cells.items()}), reasons
        except BadCells as problem:
            bad = {kept[at]: f"target: {reason}" for at, reason in problem.reasons.items()}
            if not bad:
                raise
            reasons.update(bad)
            kept = [at for at in kept if at not in bad]
    return [], np.empty(0), reasons
