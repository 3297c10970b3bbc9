"""`automm schema`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.")
@click.option("--block", multiple=True, metavar="NAME", help="Leave a plugin out.")
@click.option("--plugin", "files", multiple=True, type=click.Path(path_type=Path), help="Load a local plugin file.")
def command(output: Path | None, block: tuple[str, ...], files: tuple[Path, ...]) -> None:
    """Write the JSON schema of recipes, from which editors complete keys, components and fields.

    Begin a recipe with `# yaml-language-server: $schema=recipe.schema.json` to use it.
    """
    from automm.plugin.loader import load_plugins
    from automm.recipe.schema import recipe_schema
    from automm.report.folder import write_json

    plugins = load_plugins(block=block, files=files)
    for problem in plugins.problems():
        click.echo(f"warning: {problem}; the schema leaves its components out", err=True)
    schema = recipe_schema(plugins.registry)
    if output is not None:
        write_json(output, schema)
    else:
        click.echo(json.dumps(schema, indent=2, ensure_ascii=False))
