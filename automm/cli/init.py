"""`automm init`: a first recipe for a table, with what was inferred, and why, as comments."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from automm.core.profile import InputInfo
from automm.data.infer import REST, Inference, infer_inputs, infer_task
from automm.data.profile import profile_table
from automm.data.sources import open_table
from automm.errors import UsageError
from automm.plan.prepare import require_column
from automm.plugin.loader import load_plugins
from automm.plugin.registry import Registry
from automm.recipe.parse import load_recipe_text
from automm.recipe.yaml import parse_document
from automm.report.folder import storage_errors

MOST_INPUTS = 8
"""Inputs up to which each gets a line; more are left to inference."""

_PLAIN = re.compile(r"[./]*[^\W\d]([\w ./-]*[\w/])?")


@click.command()
@click.argument("table")
@click.option("--target", "targets", multiple=True, required=True, metavar="COLUMN", help="Column to predict.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), default="recipe.yaml", show_default=True
)
@click.option("--force", is_flag=True, help="Replace an existing recipe.")
@click.option("--block", multiple=True, metavar="NAME", help="Leave a plugin out.")
def command(table: str, targets: tuple[str, ...], output: Path, force: bool, block: tuple[str, ...]) -> None:
    """Write a recipe for TABLE, with the inferred inputs and why they were taken for what they are.

    Several `--target` make a multilabel recipe of 0/1 columns.
    """
    if output.exists() and not force:
        raise UsageError(f"{output} exists; choose another name with -o, or replace it with --force")
    text = draft_recipe(table, targets, output, load_plugins(block=block).registry)
    with storage_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    click.echo(text, nl=False)
    click.echo(f"\nwrote {output}; next: automm check {output}", err=True)


def draft_recipe(source: str, targets: Sequence[str], output: Path, registry: Registry) -> str:
    """Writes a recipe for a table, checked to be a valid one.

    Args:
        source: The table: a path from the working folder, or hf://name.
        targets: Columns to predict.
        output: Where the recipe will stand; the table's path is written relative to it.
        registry: The components.

    Returns:
        The text of the recipe.

    Raises:
        DataError: If the table cannot be read, or has no such column.
    """
    with tempfile.TemporaryDirectory() as cache:
        table = open_table([source], Path(), Path(cache))
        for target in targets:
            require_column(table, target, "--target")
        profiles = profile_table(table)
        size = f"{table.rows:,} rows, {len(table.columns)} columns"
    task, why = infer_task([profiles[target] for target in targets], registry)
    found = infer_inputs(profiles, registry, None, (), targets)
    path = source if "://" in source else os.path.relpath(source, output.parent)
    metric, *others = registry.get("task", task).metric_names()
    column = quoted(targets[0]) if len(targets) == 1 else f"[{', '.join(map(quoted, targets))}]"
    lines = [
        _line(f"data: {quoted(path)}", size),
        f"target: {column}",
        _line(f"task: {quoted(task)}", why),
        *_inputs(found, registry),
        *_ignored(found.left_out),
        _line(f"metric: {quoted(metric)}", f"or {', '.join(others)}" if others else ""),
        _line("search: {trials: 30, time: 30m}", "without this line: one model with good defaults"),
        "seed: 0",
    ]
    text = "\n".join(lines) + "\n"
    load_recipe_text(text, output, registry)
    return text


def _inputs(found: Inference, registry: Registry) -> Iterator[str]:
    gathering = {name for name in registry.names("modality") if registry.get("modality", name).many_columns}
    single = [info for info in found.inputs if info.modality not in gathering and len(info.columns) == 1]
    gathered = [info for info in found.inputs if info not in single]
    yield "inputs:"
    if len(single) > MOST_INPUTS:
        single, gathered = [], [*found.inputs]
    for info in single:
        yield _line(f"  {quoted(info.name)}: {quoted(info.modality)}", found.reasons[info.name])
    if len(gathered) == 1 and gathered[0].modality in gathering:
        yield _line(f'  "{REST}": {quoted(gathered[0].modality)}', _columns(gathered[0]))
    elif gathered:
        words = "; ".join(f"{info.modality} {_columns(info)}" for info in gathered[:MOST_INPUTS])
        more = f"; and {len(gathered) - MOST_INPUTS} more" if len(gathered) > MOST_INPUTS else ""
        yield _line(f'  "{REST}":', f"inferred: {words}{more}")


def _columns(info: InputInfo) -> str:
    shown = [f"{column} ({info.types[column]})" if column in info.types else column for column in info.columns]
    if len(shown) > MOST_INPUTS:
        shown = [*shown[: MOST_INPUTS - 2], "…", shown[-1]]
    return f"{len(info.columns)} columns: {', '.join(shown)}" if len(info.columns) > 1 else shown[0]


def _ignored(left_out: Mapping[str, str]) -> Iterator[str]:
    if len(left_out) > MOST_INPUTS // 2:
        yield f"ignore: [{', '.join(map(quoted, left_out))}]"
    elif left_out:
        yield "ignore:"
        for column, reason in left_out.items():
            yield _line(f"  - {quoted(column)}", reason)


def _line(code: str, comment: str) -> str:
    return f"{code}  # {' '.join(comment.split())}" if comment else code


def quoted(text: str) -> str:
    """A text as YAML reads it back, in quotes where it needs them."""
    if _PLAIN.fullmatch(text) and parse_document(f"[{text}]").data == [text]:
        return text
    return json.dumps(text, ensure_ascii=False)
