"""Which columns are tabular, and of which type."""

from __future__ import annotations

import random
from typing import ClassVar

from automm.api import Claim, ColumnProfile, Examples, InputInfo, Modality, parse_number
from automm_tabular import lists

FEW = 0.2
"""Up to this share of distinct values a column of strings repeats itself enough to be a category."""

_PLAIN = set("0123456789+-.eE")

SENTENCE_WORDS = 5
"""From this mean number of words on, strings read as sentences, not as names of categories."""


class Tabular(Modality):
    """Numbers, categories, dates, truth values and lists of items; all such columns together are one input."""

    many_columns = True
    types: ClassVar[tuple[str, ...]] = ("number", "category", "date", "boolean", "list")

    @classmethod
    def claim(cls, column: ColumnProfile) -> Claim | None:
        """How surely the column is tabular; see `Modality.claim`."""
        if (
            not column.filled
            or column.storage in ("binary", "other")
            or max(column.list_share, column.exists_share) > 0.5
        ):
            return None
        if column.storage == "list":
            return _stored_list(column)
        if column.storage == "boolean" or (column.boolean_share >= 0.98 and column.number_share < 0.02):
            return Claim(0.95, "true/false values", "boolean")
        if column.storage == "date" or column.date_share >= 0.95:
            return Claim(0.95, f"{column.date_share:.0%} of the cells are dates", "date")
        if column.number_share >= 0.95:
            return _number(column)
        if column.storage != "string":
            return Claim(0.5, "single values", "category")
        if told_by := lists.told_by([cell for cell, _ in column.top]):
            return Claim(0.97, told_by, "list")
        return _category(column)

    @classmethod
    def examples(cls, count: int, seed: int) -> Examples:
        """Rows with a column of every type; number and category tell the groups apart."""
        draw = random.Random(seed)
        groups = tuple(row % 2 for row in range(count))
        cells = {
            "price": [str(round(draw.gauss(10 + 4 * group, 1), 2)) for group in groups],
            "colour": [draw.choice(("red", "blue", "green")[group : group + 2]) for group in groups],
            "sold": [f"2024-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}" for _ in groups],
            "new": [draw.choice(("yes", "no")) for _ in groups],
            "extras": ["|".join(draw.sample(("bag", "box", "card"), draw.randint(1, 3))) for _ in groups],
        }
        types = dict(zip(cells, ("number", "category", "date", "boolean", "list"), strict=True))
        return Examples(InputInfo(cls.name, cls.name, tuple(cells), types), cells, groups)


def _number(column: ColumnProfile) -> Claim:
    text = [cell.strip() for cell in column.sample if isinstance(cell, str)]
    if any(len(cell) > 1 and cell[0] == "0" and cell.isdigit() for cell in text):
        return Claim(0.9, f"{column.distinct:,} codes with leading zeros", "category")
    if column.integer_share == 1 and column.distinct == column.filled > 20 and _consecutive(column):
        return Claim(0.6, "consecutive whole numbers, every one once: probably row numbers", "number")
    reason = f"{column.number_share:.0%} of the cells are numbers"
    if decorated := next((cell for cell in text if set(cell) - _PLAIN and parse_number(cell) is not None), None):
        reason += f", some written like {decorated[:40]!r}"
    return Claim(0.95, reason, "number")


def _stored_list(column: ColumnProfile) -> Claim | None:
    """Lists in the storage: of names, not of numbers (series) or of further lists."""
    cells = [cell for cell in column.sample if len(cell)]
    if not cells or not all(isinstance(item, str) or item is None for cell in cells for item in cell):
        return None
    return Claim(0.9, "lists of names", "list")


def _consecutive(column: ColumnProfile) -> bool:
    low, high = column.minimum, column.maximum
    return low is not None and high is not None and high - low < 1.5 * column.filled


def _category(column: ColumnProfile) -> Claim:
    share = column.distinct / column.filled
    facts = f"{column.distinct:,} distinct values in {column.filled:,} cells"
    if column.mean_words >= SENTENCE_WORDS and column.distinct > 20:
        return Claim(0.15, f"{facts}, but {column.mean_words:.0f} words on average: rather text", "category")
    if share <= FEW or column.distinct <= 2:
        return Claim(0.9, facts, "category")
    if share <= 0.5:
        return Claim(0.6, facts, "category")
    return Claim(0.3, f"{facts}: hardly any repeats", "category")
