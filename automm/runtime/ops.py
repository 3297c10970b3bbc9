"""Finding processors and decoders by operation id. Only the modules of the named operations are imported."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from automm.core.component import Component
from automm.errors import PackageError

GROUP = "automm_ops"
_LOCAL: dict[str, type[Component]] = {}


def add(cls: type[Component]) -> type[Component]:
    """Makes an operation known in this process only (for local plugin files and tests)."""
    _LOCAL[cls.op] = cls  # type: ignore[attr-defined]
    return cls


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
