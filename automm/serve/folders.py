"""Which packages stand in which folders. Light: the parent of the workers imports it before they are forked."""

from __future__ import annotations

import os
import re
from pathlib import Path

from automm.errors import UsageError
from automm.runtime.files import read_plain
from automm.runtime.manifest import FILE, LARGEST, parse

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
ONLY = "1"
"""The version of a source that is itself a package."""

Stamp = tuple[tuple[str, int, int, int], ...]


def look(source: Path) -> dict[str, tuple[Path, Stamp]]:
    """Version name → package folder and what it looks like; reads no file."""
    if (source / FILE).is_file():
        return {ONLY: (source, _stamp(source))}
    try:
        names = [entry.name for entry in os.scandir(source) if NAME.fullmatch(entry.name)]
    except OSError:
        return {}
    return {name: (source / name, _stamp(source / name)) for name in names if (source / name / FILE).is_file()}


def _stamp(package: Path) -> Stamp:
    """Changes whenever a file does; so a package that was still being copied is tried again."""
    found = []
    for folder, _, names in os.walk(package.resolve()):
        for name in names:
            try:
                facts = os.stat(os.path.join(folder, name))
            except OSError:
                continue
            found.append((os.path.join(folder, name), facts.st_size, facts.st_mtime_ns, facts.st_ino))
    return tuple(sorted(found))


def order(name: str) -> list[tuple[int, str]]:
    """Sorts versions: 10 is above 9, and 1.10 above 1.9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def sources(arguments: list[str]) -> dict[str, Path]:
    """`[NAME=]PATH` arguments → model name → folder. The name is by default the package's own.

    Raises:
        UsageError: If a folder is absent, a name is bad, or two are equal.
        PackageError: If the folder is a package whose manifest cannot be read.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        name, mark, rest = argument.partition("=")
        named = bool(mark) and NAME.fullmatch(name) is not None and not Path(argument).exists()
        path = Path(rest if named else argument)
        if not path.is_dir():
            raise UsageError(f"{path}: no such folder; name a package, or a folder of packages (its versions)")
        if not named:
            name = _own_name(path)
        if name in found:
            raise UsageError(f"two models are called {name!r}; name them: {name}-a={found[name]} {name}-b={path}")
        found[name] = path.absolute()
    return found


def _own_name(path: Path) -> str:
    root = path.resolve()
    text = parse(read_plain(root, FILE, LARGEST)).name if (root / FILE).is_file() else root.name
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:100]
    return plain or "model"
