"""Finding processors and decoders by operation id. Only the modules of the named operations are imported."""

from __future__ import annotations

import importlib.util
import re
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from automm.core.component import Component
from automm.core.decoder import Decoder
from automm.core.processor import Processor
from automm.errors import PackageError, PluginError

GROUP = "automm_ops"
OWN = "automm"
LOCAL = "local"
_LOCAL: dict[str, type[Component]] = {}


def add(cls: type[Component]) -> type[Component]:
    """Makes an operation known in this process only (for local plugin files and tests)."""
    _LOCAL[cls.op] = cls  # type: ignore[attr-defined]
    return cls


def add_file(path: Path) -> list[str]:
    """Makes the operations of a local plugin file known in this process. The file is run: only name files you trust.

    Returns:
        Their ids.

    Raises:
        PluginError: If the file is absent or raises.
    """
    specification = importlib.util.spec_from_file_location(f"automm_local_{path.stem}", path)
    if specification is None or specification.loader is None or not path.is_file():
        raise PluginError(f"{path}: file not found, or not a Python file")
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module
    try:
        specification.loader.exec_module(module)
    except Exception as problem:
        raise PluginError(f"{path}: {type(problem).__name__}: {problem}") from problem
    found = [
        add(item).op  # type: ignore[attr-defined]
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, Processor | Decoder) and item.op and not item.abstract
    ]
    return [str(op) for op in found]


@cache
def _points() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, []).append(point)
    return found


def distribution(op: str) -> tuple[str, str]:
    """Name and version of the distribution that offers an operation ("local" for one known to this process only)."""
    points = [] if op in _LOCAL else [point for point in _points().get(op, ()) if point.dist is not None]
    return (points[0].dist.name, points[0].dist.version) if points else (LOCAL, "0")


def find(op: str, version: int, owner: str = LOCAL, made_with: str = "0") -> type[Any]:
    """The class of an operation. Only the distribution that a package names may offer it.

    An older version of an operation is looked for under the name `<op>@<version>`.

    Args:
        op: Operation id.
        version: Its version when the package was made.
        owner: The distribution that offered it then.
        made_with: That distribution's version. Of a distribution other than automm the major version must agree.

    Raises:
        PackageError: If the operation is absent, offered by another distribution, or of another version.
    """
    cls = _LOCAL.get(op)
    if cls is None:
        cls = _load(op, version, owner, made_with)
    if cls.version != version:  # type: ignore[attr-defined]
        raise PackageError(
            f"the package needs version {version} of {op!r}, installed is version {cls.version}"  # type: ignore[attr-defined]
            f"; install a matching version of {owner}"
        )
    return cls


def _load(op: str, version: int, owner: str, made_with: str) -> type[Component]:
    offered = _points().get(f"{op}@{version}") or _points().get(op, [])
    points = [point for point in offered if point.dist is not None and _plain(point.dist.name) == _plain(owner)]
    if not points:
        hint = (
            f"; install {owner} {made_with}" if owner != LOCAL else "; it came from a local plugin file (--plugin FILE)"
        )
        others = ", ".join(sorted(point.dist.name for point in offered if point.dist is not None))
        where = f"is offered here by {others} and not by {owner}" if others else "is not installed here"
        raise PackageError(f"the package needs the operation {op!r}, which {where}{hint}")
    installed = points[0].dist.version
    if _plain(owner) != OWN and _major(installed) != _major(made_with):
        raise PackageError(
            f"the package was made with {owner} {made_with} (for the operation {op!r}), installed is {installed}; "
            f"install {owner} {_major(made_with)}.*"
        )
    try:
        return points[0].load()  # type: ignore[no-any-return]
    except ImportError as problem:
        raise PackageError(f"operation {op!r} needs a package that is not installed: {problem}") from problem


def _plain(name: str) -> str:
    """A distribution's name in the form in which two spellings of it are equal."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _major(version: str) -> str:
    return version.lstrip("v").partition(".")[0]
