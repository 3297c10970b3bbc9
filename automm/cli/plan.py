"""`automm plan`."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the plan as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@click.option("--no-probe", is_flag=True, help="Do not measure the time a trial takes (needs no torch then).")
@click.option("--block", multiple=True, metavar="NAME", help="Leave a plugin out.")
@click.option("--plugin", "files", multiple=True, type=click.Path(path_type=Path), help="Load a local plugin file.")
@click.option("--strict", is_flag=True, help="A broken plugin is an error.")
def command(
    recipe: Path,
    output: Path | None,
    as_json: bool,
    no_probe: bool,
    block: tuple[str, ...],
    files: tuple[Path, ...],
    strict: bool,
) -> None:
    """Show what `fit RECIPE` will try, what is left out and why, and how long it will take."""
    show_plan(recipe, block, files, strict, probe=not no_probe, output=output, as_json=as_json)


def show_plan(
    path: Path,
    block: tuple[str, ...],
    files: tuple[Path, ...],
    strict: bool,
    *,
    probe: bool,
    output: Path | None = None,
    as_json: bool = False,
) -> None:
    """Builds, measures, prints and writes a plan."""
    from automm.data.ledger import Ledger
    from automm.plan import build_plan, prepare
    from automm.recipe.parse import load_with_plugins
    from automm.report.folder import write_json

    recipe, plugins = load_with_plugins(path, block=block, files=files, strict=strict)
    # What plugins and libraries print must not end up in the JSON.
    with contextlib.redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ledger = Ledger()
        start = time.monotonic()
        prepared = prepare(recipe, plugins.registry, folder, ledger)
        plan = build_plan(recipe, plugins.registry, prepared)
        content: dict[str, Any] = {"digest": plan.digest, **plan.model_dump(mode="json")}
        lines = plan.lines()
        if probe:
            from automm.train.probe import probe_plan

            estimate = probe_plan(plan, plugins.registry, prepared, folder, ledger, time.monotonic() - start)
            content["estimate"] = estimate.json()
            lines += estimate.lines()
    if output is not None:
        write_json(output, content)
    click.echo(json.dumps(content, indent=2, ensure_ascii=False) if as_json else "\n".join(lines))
