"""`automm check`."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import click

from automm.errors import AutommError, ExitCode


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print problems and plan as JSON.")
@click.option("--strict", is_flag=True, help="A broken plugin is an error.")
@click.option("--block", multiple=True, metavar="NAME", help="Leave a plugin out.")
@click.option("--plugin", "files", multiple=True, type=click.Path(path_type=Path), help="Load a local plugin file.")
def command(recipe: Path, as_json: bool, strict: bool, block: tuple[str, ...], files: tuple[Path, ...]) -> None:
    """Check RECIPE and its data, and show what `fit` would do. Needs no torch."""
    if not as_json:
        click.echo("\n".join(check(recipe, block, files, strict)))
        return
    result: dict[str, Any] = {"recipe": str(recipe), "ok": True, "problems": [], "notes": [], "plan": []}
    code = ExitCode.OK
    try:
        result["plan"] = check(recipe, block, files, strict)
    except AutommError as problem:
        code = problem.exit_code
        result |= {"ok": False, **explain(problem)}
    click.echo(json.dumps(result, indent=2, ensure_ascii=False))
    raise click.exceptions.Exit(code)


def check(recipe: Path, block: tuple[str, ...], files: tuple[Path, ...], strict: bool) -> list[str]:
    """Checks a recipe, then its data.

    Returns:
        The lines of the plan.

    Raises:
        AutommError: With what is wrong.
    """
    from automm.recipe.parse import load_with_plugins

    loaded, plugins = load_with_plugins(recipe, block=block, files=files, strict=strict)
    from automm.plan import check_data

    # What plugins print must not end up in the JSON.
    with contextlib.redirect_stdout(sys.stderr):
        return check_data(loaded, plugins)


def explain(problem: AutommError) -> dict[str, Any]:
    """The problems and notes of an error, as JSON; problems that stand in no line of the recipe have only a message."""
    from automm.recipe.problems import InvalidRecipeError

    if isinstance(problem, InvalidRecipeError):
        return {"problems": [found.json() for found in problem.problems], "notes": list(problem.notes)}
    return {"problems": [{"message": str(problem)}]}
