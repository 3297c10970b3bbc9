"""Do new rows have the columns that a package reads, with what it read in them? Torch-free."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from automm.data.profile import profile_table
from automm.data.table import Table
from automm.errors import DataError
from automm.plan.prepare import require_column
from automm.plugin.registry import Registry

if TYPE_CHECKING:
    from automm.core.profile import Claim, ColumnProfile
    from automm.runtime.manifest import Manifest

SHOWN = 10
_COLUMN = re.compile(r"^(?:column|input) '(?P<name>(?:[^'\\]|\\.)*)': (?P<reason>.*)", re.S)


def check_columns(table: Table, manifest: Manifest, others: Collection[str], *, allow_missing: bool) -> list[str]:
    """Compares a table's columns with those of a package.

    Args:
        table: The new rows.
        manifest: The package.
        others: Further columns that are known (of the split).
        allow_missing: Take absent input columns for missing cells.

    Returns:
        What differs without harm, a line each: columns beside the known ones, and absent ones.

    Raises:
        DataError: If the target, or without `allow_missing` an input column, is absent.
    """
    known = list(dict.fromkeys(column for part in manifest.inputs for column in part.columns))
    for column in manifest.target.columns:
        require_column(table, column, "target")
    absent = [column for column in known if column not in table.columns]
    if absent and not allow_missing:
        require_column(table, absent[0], f"{len(absent)} input column{'s are' * (len(absent) > 1) or ' is'} missing")
    notes = [f"column {column!r} is missing: its cells count as missing" for column in absent]
    # Captured requests carry their time, model and answers in columns that begin with "_".
    strange = [c for c in table.columns if c not in {*known, *manifest.target.columns, *others} and c[:1] != "_"]
    if strange:
        more = f" and {len(strange) - SHOWN} more" if len(strange) > SHOWN else ""
        named = ", ".join(map(repr, strange[:SHOWN]))
        notes.append(f"columns that the package does not read are left aside: {named}{more}")
    return notes


def retyped_columns(table: Table, manifest: Manifest, registry: Registry, moved: Collection[str]) -> list[str]:
    """A line for every column whose cells now look like something else than what they were in training.

    Args:
        table: The new rows.
        manifest: The package.
        registry: Where the modalities are.
        moved: Columns that have drifted; others are what they were.
    """
    profiles = profile_table(table) if moved else {}
    return [
        line
        for part in manifest.inputs
        if len(part.columns) == 1 or part.types
        for column in part.columns
        if column in moved and column in profiles
        for line in _retyped(profiles[column], part.modality, part.types.get(column), registry)
    ]


def _retyped(column: ColumnProfile, modality: str, kind: str | None, registry: Registry) -> list[str]:
    """A line if the cells clearly look like something else than what they were in training."""
    if not column.filled:
        return [f"column {column.name!r}: all cells are missing"]
    claims: dict[str, Claim] = {}
    for entry in registry.all("modality"):
        claim = entry.cls.claim(column)  # type: ignore[attr-defined]
        if claim is not None:
            claims[entry.name] = claim
    if not claims or modality not in registry.names("modality"):
        return []
    best = max(claims, key=lambda name: claims[name].confidence)
    own = claims.get(modality)
    now = claims[best].type or best
    was = kind or modality
    sure = claims[best].confidence >= 0.9
    if sure and best != modality and (own is None or own.confidence < 0.5):
        return [f"column {column.name!r} was read as {was}, now it looks like {now}: {claims[best].reason}"]
    if sure and best == modality and kind is not None and now != kind:
        return [f"column {column.name!r} was read as {kind}, now it looks like {now}: {claims[best].reason}"]
    return []


def check_refused(table: Table, refused: Mapping[int, str], most: float) -> None:
    """Stops if too many rows cannot be read.

    Args:
        table: The new rows.
        refused: Row number → reason, which begins with the column.
        most: Largest tolerated share.

    Raises:
        DataError: With a line per column: how many cells, and the first reason.
    """
    if len(refused) <= most * table.rows:
        return
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for row, reasons in refused.items():
        for reason in reasons.split("; "):
            found = _COLUMN.match(reason)
            name = found["name"] if found else "?"
            counts[name] += 1
            first.setdefault(name, f"row {row + 1}: {found['reason'] if found else reason}")
    lines = [f"  column {name!r}: {n:,} cells cannot be read ({first[name]})" for name, n in counts.most_common(SHOWN)]
    raise DataError(
        f"{table.name}: {len(refused):,} of {table.rows:,} rows cannot be read as in training, "
        f"data.max_bad_rows allowed {most:.1%}; has a column changed its meaning?\n" + "\n".join(lines)
    )
