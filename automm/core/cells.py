"""Reading single cells: the one place that decides what is missing, a number, a truth value or a date.

Tables from text files hold strings, JSON requests hold numbers, Parquet holds both; training and serving read all of
them through these functions, so a cell means the same everywhere.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime
from typing import Any

NULLS = frozenset({"", "na", "n/a", "nan", "null", "none", "#n/a", "<na>", "nil", "-nan", "nat", "?"})
LONGEST_NULL = 8
"""No longer text is taken for missing, whatever blanks stand around it."""
TRUE = frozenset({"true", "yes", "y", "t", "1", "1.0", "on"})
FALSE = frozenset({"false", "no", "n", "f", "0", "0.0", "off"})

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_DECORATION = re.compile(r"^(?:[$€£¥₹]|USD|EUR|GBP)\s*|\s*(?:[$€£¥₹%]|USD|EUR|GBP)$")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
_FORMATS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y/%m/%d", "%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%d-%m-%Y")


def is_null(cell: Any) -> bool:
    """Whether a cell is missing: None, NaN, or one of the usual spellings."""
    if cell is None:
        return True
    if isinstance(cell, str):
        return len(cell) <= LONGEST_NULL and cell.strip().lower() in NULLS
    return isinstance(cell, float) and math.isnan(cell)


def parse_number(cell: Any) -> float | None:
    """A cell as a finite number; None if it is not one.

    Accepts numbers, booleans, "1e-4", " 12 ", "1,234.5" and a currency or percent sign around ("1,234 €", "5 %" → 5).
    """
    if isinstance(cell, bool | int | float):
        value = float(cell)
        return value if math.isfinite(value) else None
    if not isinstance(cell, str):
        try:
            value = float(cell)  # decimal.Decimal, numpy scalars
        except (TypeError, ValueError):
            return None
        return value if math.isfinite(value) else None
    text = cell.strip()
    if not _NUMBER.fullmatch(text):
        text = _DECORATION.sub("", text, count=2)
        if _THOUSANDS.fullmatch(text):
            text = text.replace(",", "")
        elif not _NUMBER.fullmatch(text):
            return None
    value = float(text)
    return value if math.isfinite(value) else None


def parse_boolean(cell: Any) -> bool | None:
    """A cell as a truth value ("yes"/"no", "true"/"false", 1/0); None if it is not one."""
    if isinstance(cell, bool):
        return cell
    text = str(cell).strip().lower()
    return True if text in TRUE else False if text in FALSE else None


def parse_date(cell: Any) -> datetime | None:
    """A cell as a time in UTC (naive times are taken as UTC); None if it is not one.

    Accepts date objects, ISO 8601, and common day-month-year spellings; bare numbers are not dates.
    """
    if isinstance(cell, datetime):
        found: datetime | None = cell
    elif isinstance(cell, date):
        found = datetime(cell.year, cell.month, cell.day)
    elif isinstance(cell, str) and 8 <= len(cell.strip()) <= 40 and not _NUMBER.fullmatch(cell.strip()):
        found = _parse_text_date(cell.strip())
    else:
        found = None
    if found is None:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _parse_text_date(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    for form in _FORMATS:
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    return None


def as_text(cell: Any) -> str:
    """A cell as the text that names a category or class: 3.0 and "3.0" read "3", True reads "true"."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, int):
        return str(cell)
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else repr(cell)
    text = str(cell).strip()
    return text[:-2] if re.fullmatch(r"[+-]?\d{1,15}\.0", text) else text


def slugs(names: list[str]) -> dict[str, str]:
    """Input names → unique names that are valid in graphs, modules and file names, in the same order."""
    found: dict[str, str] = {}
    for name in names:
        base = re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_") or "input"
        base = f"x_{base}" if base[0].isdigit() else base
        slug, n = base, 2
        while slug in found.values():
            slug, n = f"{base}_{n}", n + 1
        found[name] = slug
    return found
