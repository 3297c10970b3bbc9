"""`automm cache`: what is kept of earlier runs, and how to remove it."""

from __future__ import annotations

import json
import time

import click

from automm.cache.place import META, cache_folder, limit_bytes, remove, segments, size_of
from automm.errors import UsageError
from automm.recipe.keys_run import duration


@click.group()
def command() -> None:
    """What earlier runs computed from cells: decoded media, and what frozen checkpoints make of them."""


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(as_json: bool) -> None:
    """Show where the cache is, how large it is, and what is in it."""
    folder = cache_folder()
    kinds: dict[str, dict[str, float]] = {}
    for segment in segments(folder):
        try:
            meta = json.loads((segment.folder / META).read_text("utf-8"))
        except (OSError, ValueError):  # removed meanwhile, or damaged: the next run that meets it removes it
            continue
        own = kinds.setdefault(str(meta.get("about", "?")), {"entries": 0, "bytes": 0, "used": 0.0})
        own["entries"] += int(meta.get("count", 0))
        own["bytes"] += segment.nbytes
        own["used"] = max(own["used"], segment.used)
    limit = limit_bytes(folder) if folder.exists() else None
    if as_json:
        told = {"folder": str(folder), "bytes": size_of(folder), "limit_bytes": limit, "kinds": kinds}
        click.echo(json.dumps(told, indent=2))
        return
    total = sum(own["bytes"] for own in kinds.values())
    click.echo(f"{folder}: {total / 1e6:,.1f} MB" + (f" of at most {limit / 1e9:,.1f} GB" if limit else ""))
    for name, own in sorted(kinds.items()):
        days = (time.time() - own["used"]) / 86_400
        last = "today" if days < 1 else f"{days:.0f} days ago"
        click.echo(f"  {name:<24} {own['entries']:>10,.0f} entries {own['bytes'] / 1e6:>10,.1f} MB, last used {last}")


@command.command()
@click.option("--unused-for", metavar="TIME", help="Only what nothing has used for so long (12h, 30d).")
def clear(unused_for: str | None) -> None:
    """Remove what is cached. A run that is going on is not harmed; it may compute things again."""
    seconds = 0.0
    if unused_for is not None:
        days = unused_for.removesuffix("d")
        found = float(days) * 86_400 if days != unused_for and days.isdigit() else duration(unused_for)
        if found is None:
            raise UsageError(f"--unused-for: {unused_for!r} is no time; write 90m, 12h or 30d")
        seconds = found
    folder, removed = cache_folder(), 0
    for segment in list(segments(folder)):
        if segment.used <= time.time() - seconds and remove(segment.folder):
            removed += segment.nbytes
    if not seconds:
        for name in ("files.sqlite", "files.sqlite-wal", "files.sqlite-shm"):
            (folder / name).unlink(missing_ok=True)
    click.echo(f"removed {removed / 1e6:,.1f} MB from {folder}")
