"""Finding processors and decoders by operation id. Only the modules of the named operations are imported."""

from __future__ import annotations

import importlib.util
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
def _points() -> dict[str, Any]:
    return {point.name: point for point in entry_points(group=GROUP)}


def distribution(op: str) -> tuple[str, str]:
    """Name and version of the distribution that offers an operation ("local" for one known to this process only)."""
    point = _points().get(op)
    if point is None or point.dist is None:
        return ("local", "0")
    return (point.dist.name, point.dist.version)


def find(op: str, version: int, owner: str = "") -> type[Any]:
    """The class of an operation.

    Args:
        op: Operation id.
        version: The version that a package was made with.
        owner: The distribution that offered it then, for the message.

    Raises:
        PackageError: If it is absent, or its version is older than the package's.
    """
    cls: Any = _LOCAL.get(op)
    if cls is None and op in _points():
        try:
            cls = _points()[op].load()
        except ImportError as problem:
            raise PackageError(f"operation {op!r} needs a package that is not installed: {problem}") from problem
    if cls is None:
        hint = f"; install {owner}" if owner and owner != "local" else "; it came from a local plugin file"
        raise PackageError(f"the package needs the operation {op!r}, which is not installed here{hint}")
    if cls.version != version:
        raise PackageError(
            f"the package needs version {version} of {op!r}, installed is version {cls.version}"
            f"; install a matching version of {owner or distribution(op)[0]}"
        )
    return cls  # type: ignore[no-any-return]
