"""`automm plugins`."""

from __future__ import annotations

import json

import click

from automm.plugin.loader import load_plugins


@click.group()
def command() -> None:
    """Look at the installed plugins and their components."""


@command.command("list")
@click.option("--kind", help="Only components of this kind.")
@click.option("--block", multiple=True, metavar="NAME", help="Leave a plugin out.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--strict", is_flag=True, help="A broken plugin is an error.")
def list_(kind: str | None, block: tuple[str, ...], as_json: bool, strict: bool) -> None:
    """List components with their owner, version and state; then the plugins that are not loaded."""
    plugins = load_plugins(block=block, strict=strict)
    rows = [
        (e.kind, e.name, e.owner.plugin, e.owner.distribution, e.owner.version, "loaded", _first_line(e.cls.__doc__))
        for e in plugins.registry.all()
        if kind in (None, e.kind)
    ]
    rows += [
        ("plugin", s.owner.plugin, s.owner.plugin, s.owner.distribution, s.owner.version, s.state, s.reason)
        for s in plugins.statuses
        if s.state != "loaded"
    ]
    names = ("kind", "name", "plugin", "distribution", "version", "state", "about")
    if as_json:
        click.echo(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2, ensure_ascii=False))
        return
    widths = [max(len(row[i]) for row in (names, *rows)) for i in range(6)]
    for row in (names, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row[:6], widths, strict=True)]
        click.echo("  ".join([*cells, row[6]]).rstrip())


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]
