"""`automm monitor`: has the data moved away from what a package was trained on?"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click
import numpy as np

from automm.errors import DataError, ExitCode, PluginError


@click.command("monitor")
@click.argument("package", type=click.Path(path_type=Path))
@click.argument("log", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="Also write the report as an HTML file."
)
@click.option(
    "--threshold", type=click.FloatRange(0, min_open=True), default=0.2, show_default=True,
    help="Population stability index from which a shift is called drift.",
)  # fmt: skip
@click.option("--rows", type=click.IntRange(1), help="Look at so many rows, drawn at random; by default at all.")
@click.option("--all", "everything", is_flag=True, help="Show what is stable, too.")
@click.option("--allow-missing", is_flag=True, help="Take columns that the log does not have for missing cells.")
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Local plugin file that the package needs. The file is run.",
)
def command(
    package: Path,
    log: Path,
    as_json: bool,
    out: Path | None,
    threshold: float,
    rows: int | None,
    everything: bool,
    allow_missing: bool,
    plugins: tuple[Path, ...],
) -> int:
    """Compares the rows of LOG with those that PACKAGE was trained on.

    LOG is a table, or the folder into which a server captures requests. The exit code is 0 without drift and 12 with
    drift. Needs no torch.
    """
    from automm.data.sources import open_table
    from automm.runtime import ops
    from automm.runtime.predictor import load
    from automm.update.page import write_page
    from automm.update.watch import lines, task_of, watch

    if not log.exists():
        raise DataError(f"{log}: no such file or folder")
    for file in plugins:
        ops.add_file(file)
    predictor = load(package)
    try:
        task = task_of(predictor, plugins)
    except PluginError as problem:
        click.echo(f"warning: the target is not looked at: {problem}", err=True)
        task = None
    place = log.resolve()
    with tempfile.TemporaryDirectory(prefix="automm-monitor-") as cache:
        table = open_table([place.name], place.parent, Path(cache))
        chosen = None
        if rows is not None and rows < table.rows:
            chosen = np.sort(np.random.default_rng(0).choice(table.rows, rows, replace=False))
        report, _ = watch(predictor, table, task, threshold=threshold, rows=chosen, allow_missing=allow_missing)
    if out is not None:
        write_page(out, report)
    if as_json:
        click.echo(json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        click.echo("\n".join(lines(report, everything=everything)))
    return ExitCode.DRIFT if report["drift"] else ExitCode.OK
