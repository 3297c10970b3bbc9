"""Cells that hold several items: "a|b|c", a JSON list, or a list in the storage."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from automm.api import as_text, is_null
from automm_tabular.statistics import Frequencies

SEPARATORS = ("|", ";", ",")
"""What may stand between the items of a cell."""

_LISTS = (list, tuple, np.ndarray)


def items(cell: Any, separator: str) -> list[str]:
    """The items of a cell that is present, each once and in order.

    Args:
        cell: A list, a JSON list, a Python list as text, or text.
        separator: What stands between the items of a text.
    """
    if isinstance(cell, _LISTS):
        return _names(cell)
    text = str(cell).strip()
    if text.startswith("[") and text.endswith("]"):
        try:
            return _names(json.loads(text))
        except (ValueError, RecursionError):  # ['a', 'b'], as Python writes it
            return _names(part.strip().strip("'\"") for part in text[1:-1].split(","))
    return _names(text.split(separator))


def _names(parts: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(as_text(part) for part in parts if not is_null(part)))


class Tally:
    """Counts the items of one column of lists, and finds what separates them.

    Args:
        most: Most distinct items that are remembered.
    """

    def __init__(self, most: int = 200_000) -> None:
        self._used = dict.fromkeys(SEPARATORS, 0)
        self._items = {separator: Frequencies(most) for separator in SEPARATORS}

    def add(self, cells: Sequence[Any]) -> None:
        """Counts the items of a piece of the column under every separator: which one is right shows at the end."""
        texts = Counter(cell for cell in cells if isinstance(cell, str))
        present = [(cell, count) for cell, count in texts.items() if not is_null(cell)]
        stored = [(cell, 1) for cell in cells if not isinstance(cell, str) and not is_null(cell)]
        for separator, frequencies in self._items.items():
            self._used[separator] += sum(count for cell, count in present if separator in cell)
            found: Counter[str] = Counter()
            for cell, count in present + stored:
                found.update(dict.fromkeys(items(cell, separator), count))
            frequencies.add(found)

    @property
    def separator(self) -> str:
        """The one that most cells hold."""
        return max(SEPARATORS, key=lambda separator: self._used[separator])

    def top(self, most: int, least: int) -> list[str]:
        """The at most `most` items in at least `least` cells, most frequent first; ties by spelling."""
        return self._items[self.separator].top(most, least)


def told_by(cells: Sequence[str]) -> str | None:
    """What shows that distinct cells are lists and neither text nor names: a few words, or None if they are not.

    Lists recombine few short items in changing places: in "Paris, France" every part keeps its place, in a sentence
    hardly any part comes twice.
    """
    if len(cells) < 4:
        return None
    bracketed = [cell.strip().startswith("[") and cell.strip().endswith("]") for cell in cells]
    if sum(bracketed) >= 0.9 * len(cells):
        return "lists in brackets" if _recombine([items(cell, ",") for cell in cells]) else None
    for separator in SEPARATORS:
        found = [items(cell, separator) for cell in cells]
        if sum(len(parts) > 1 for parts in found) >= 0.5 * len(cells) and _recombine(found):
            return f"items separated by {separator!r}"
    return None


def _recombine(lists: Sequence[Sequence[str]]) -> bool:
    """Whether lists are made of few short items that change places."""
    uses = Counter(part for parts in lists for part in parts)
    if not uses or len(uses) > len(lists) or max(len(part.split()) for part in uses) > 4:
        return False
    places: dict[str, set[int]] = {}
    for parts in lists:
        for at, part in enumerate(parts):
            places.setdefault(part, set()).add(at)
    repeated = [part for part, count in uses.items() if count > 1]
    return bool(repeated) and sum(len(places[part]) > 1 for part in repeated) >= 0.4 * len(repeated)
