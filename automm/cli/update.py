"""`automm update`: train a package further on new rows, and keep the better one."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import click

from automm.errors import ExitCode


@click.command("update")
@click.argument("package", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option(
    "--test", type=click.Path(path_type=Path), help="Old rows that judge; default: those kept in the package."
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the update; default: runs/<package name>-update."
)
@click.option(
    "--margin", type=click.FloatRange(0), default=0.02, show_default=True,
    help="Loss on old rows that is put up with, as a share of the metric.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output.")
@click.option("--quiet", is_flag=True, help="Show nothing while it works.")
@click.option("--allow-missing", is_flag=True, help="Take columns that the new rows do not have for missing cells.")
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Local plugin file that the package needs. The file is run.",
)
def command(
    package: Path,
    new: Path,
    test: Path | None,
    out: Path | None,
    margin: float,
    as_json: bool,
    quiet: bool,
    allow_missing: bool,
    plugins: tuple[Path, ...],
) -> int:
    """Trains PACKAGE further on the labelled rows of NEW, and keeps the better of the two.

    NEW is a table, or the folder into which a server captures requests, with the target added. PACKAGE is only read:
    the better package is OUT/package, what was compared stands in OUT/summary.json and OUT/drift.html.
    """
    from automm.update.run import UpdateOptions, lines, update

    options = UpdateOptions(test, out, allow_missing, margin, plugins, quiet)
    # What plugins and libraries print must not end up in the JSON.
    with contextlib.redirect_stdout(sys.stderr):
        summary = update(package, new, options)
    if as_json:
        click.echo(json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False))
    elif not quiet:
        click.echo("\n".join(lines(summary)))
    return ExitCode.OK
