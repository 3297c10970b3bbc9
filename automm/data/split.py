"""Splitting rows into train, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from automm.core.cells import as_text, parse_date, parse_number
from automm.data.table import Table
from automm.errors import DataError
from automm.recipe.model import SplitSpec

PARTS = ("train", "valid", "test")


def split_rows(
    table: Table, spec: SplitSpec, target: Sequence[Any] | np.ndarray | None, seed: int, stratified: bool
) -> dict[str, np.ndarray]:
    """Assigns every row to one part.

    Args:
        table: The table.
        spec: Method, column and shares.
        target: One cell per row, or a 0/1 array [rows, labels]; used if `stratified`.
        seed: The same seed gives the same split.
        stratified: Whether the parts keep the target's proportions (random and group splits).

    Returns:
        "train", "valid" and "test" → sorted row numbers; a part with share 0 is empty.

    Raises:
        DataError: If the rows, groups or times do not suffice.
    """
    shares = np.array([1 - spec.valid - spec.test, spec.valid, spec.test])
    if shares[0] <= 0:
        raise DataError(f"split: valid ({spec.valid}) and test ({spec.test}) leave no rows to train on")
    if table.rows < np.count_nonzero(shares):
        raise DataError(f"{table.name}: {table.rows} rows cannot be split in {np.count_nonzero(shares)} parts")
    random = np.random.default_rng(seed)
    classes = strata(target) if stratified and target is not None else np.zeros(table.rows, np.int64)
    if spec.method == "time":
        part = _by_time(table, str(spec.column), shares)
    elif spec.method == "group":
        part = _by_group(table, str(spec.column), classes, shares, random)
    else:
        part = _at_random(classes, shares, random)
    return {name: np.flatnonzero(part == at) for at, name in enumerate(PARTS)}


def strata(target: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Class number per row. A row with several labels counts for its rarest one."""
    if isinstance(target, np.ndarray) and target.ndim == 2:
        labels = target > 0
        rarity = np.where(labels, labels.sum(0), np.inf)
        classes: np.ndarray = np.where(labels.any(1), rarity.argmin(1), labels.shape[1])
        return classes
    return _codes(target)


def group_codes(table: Table, column: str) -> np.ndarray:
    """Number of the group of every row; a row without a group is a group of its own."""
    return _codes([f"\0{at}" if cell is None else cell for at, cell in enumerate(table.cells(column))])


def _codes(cells: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Equal cells → equal numbers; None has a number of its own."""
    numbers: dict[str | None, int] = {}
    return np.array([numbers.setdefault(None if c is None else as_text(c), len(numbers)) for c in cells], np.int64)


def _at_random(classes: np.ndarray, shares: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Every class is split by the shares. Classes are dealt one after the other from a running total, so rounding never
    adds up: the parts have the wanted sizes even with many small classes.
    """
    rows = len(classes)
    order = random.permutation(rows)
    # Small classes first: their rounding is then evened out by the large ones.
    sizes = np.bincount(classes)
    order = order[np.lexsort((classes[order], sizes[classes[order]]))]
    part = np.zeros(rows, np.int64)
    given = np.zeros(len(shares))
    done = 0
    for members in np.split(order, np.flatnonzero(np.diff(classes[order])) + 1):
        done += len(members)
        wanted = np.round(done * shares - given + 1e-9).astype(int)
        wanted[0] = 0
        wanted = np.clip(
            wanted, np.floor(len(members) * shares).astype(int), np.ceil(len(members) * shares).astype(int)
        )
        wanted[0] = 0
        while wanted.sum() > len(members) - 1:  # a class stays with the training rows first
            wanted[wanted.argmax()] -= 1
        given += wanted
        part[members] = np.repeat(np.arange(len(shares)), [len(members) - wanted.sum(), *wanted[1:]])
    for at in np.flatnonzero(shares > 0):
        if at and not (part == at).any():
            part[random.choice(np.flatnonzero(part == 0))] = at
    return part


def _by_group(
    table: Table, column: str, classes: np.ndarray, shares: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Whole groups, largest first, each to the part that lacks its classes most."""
    codes = group_codes(table, column)
    groups = int(codes.max()) + 1
    parts = np.flatnonzero(shares > 0)
    if groups < len(parts):
        raise DataError(
            f"{table.name}: column {column!r} has {groups} groups; a split in {len(parts)} parts needs more"
        )
    order = np.argsort(codes, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    shuffled = [members[at] for at in random.permutation(groups)]
    shuffled.sort(key=len, reverse=True)
    totals = np.bincount(classes).astype(float)
    lacking = shares[:, None] * totals  # [parts, classes]
    part = np.zeros(len(codes), np.int64)
    filled: set[int] = set()
    for at, rows in enumerate(shuffled):
        present, counts = np.unique(classes[rows], return_counts=True)
        need = lacking[:, present] / (totals[present] * np.maximum(shares[:, None], 1e-9))
        score = (need * counts).sum(1)
        empty = [p for p in parts if p not in filled]
        choices = empty if len(empty) >= groups - at else parts
        best = int(choices[np.argmax(score[choices])])
        lacking[best, present] -= counts
        part[rows] = best
        filled.add(best)
    return part


def _by_time(table: Table, column: str, shares: np.ndarray) -> np.ndarray:
    """The latest rows are held out; rows of the same time stay together."""
    times = np.array([_time(cell) for cell in table.cells(column)])
    known = np.isfinite(times)
    moments = np.unique(times[known])
    parts = np.flatnonzero(shares > 0)
    if len(moments) < len(parts):
        raise DataError(
            f"{table.name}: column {column!r} has {len(moments)} different times"
            f" ({np.count_nonzero(~known)} cells are no date or number); a split in {len(parts)} parts needs more"
        )
    # Rows without a time are taken as old: they train.
    before = np.searchsorted(np.sort(times[known]), moments, side="left") + np.count_nonzero(~known)
    part = np.zeros(len(times), np.int64)
    last = 0
    for rank, at in enumerate(parts[1:], 1):
        wanted = shares[:at].sum() * len(times)
        low, high = last + 1, len(moments) - (len(parts) - rank)
        last = low + int(np.abs(before[low : high + 1] - wanted).argmin())
        part[known & (times >= moments[last])] = at
    return part


def _time(cell: Any) -> float:
    date = parse_date(cell)
    if date is not None:
        return date.timestamp()
    number = None if cell is None else parse_number(cell)
    return float("nan") if number is None else number
