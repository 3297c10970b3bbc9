"""JSON from a file or a request that nobody vouches for: everything the standard library lets pass is refused."""

from __future__ import annotations

import json
import math
from typing import Any

from automm.errors import PackageError


def loads(data: bytes, what: str, *, most: int, depth: int = 32) -> Any:
    """Parses UTF-8 JSON.

    Args:
        data: The bytes.
        what: What they are, for the message ("automm.json").
        most: Largest size in bytes.
        depth: Deepest nesting of lists and objects.

    Raises:
        PackageError: If it is too large or too deep, is not JSON, repeats a key, or holds a number that is not finite.
    """
    if len(data) > most:
        raise PackageError(f"{what}: {len(data):,} bytes is over the limit of {most:,}")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_float=_finite,
        )
    except RecursionError:
        raise PackageError(f"{what}: nested deeper than {depth} levels") from None
    except ValueError as problem:
        raise PackageError(f"{what}: not strict JSON: {problem}") from None
    if _deeper(value, depth):
        raise PackageError(f"{what}: nested deeper than {depth} levels")
    return value


def dumps(value: Any, *, indent: int | None = 2) -> bytes:
    """The JSON of a value, UTF-8, keys in the order given, ending with a line feed.

    Raises:
        ValueError: If a number is not finite.
        TypeError: If a value is not JSON.
    """
    return (json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {repeated!r} appears twice")
    return found


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is out of range")
    return value


def _deeper(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [child for item in level if isinstance(item, dict | list) for child in _children(item)]
        if not level:
            return False
    return any(isinstance(item, dict | list) for item in level)


def _children(item: dict[str, Any] | list[Any]) -> list[Any]:
    return list(item.values()) if isinstance(item, dict) else item
