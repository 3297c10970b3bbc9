"""Facts about columns, inputs and the target, as components see them."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True)
class ColumnProfile:
    """Facts about one column, measured on the training table. Shares are of the non-null cells, 0 to 1.

    Attributes:
        name: Column name.
        storage: How the table stores it: "string", "number", "boolean", "date", "list", "binary" or "other".
        rows: Number of rows looked at.
        nulls: How many of them are null (or one of the usual spellings of null).
        distinct: Distinct non-null values (exact up to 100,000 rows, else a lower bound from a sample).
        number_share: Cells that read as a finite number.
        integer_share: Cells that read as a whole number.
        date_share: Cells that read as a date or time.
        boolean_share: Cells that read as true/false, yes/no, 0/1.
        list_share: Cells that hold a JSON list of numbers (or a list in the storage).
        mean_chars: Mean length in characters.
        max_chars: Length of the longest cell.
        mean_words: Mean number of words; CJK characters count as a word each.
        extensions: Lower-case file extension (".png") to its share.
        exists_share: Cells that name a file below the table's folder (sampled); 0 where nothing looks like a path.
        top: The most frequent values with their counts, most frequent first (at most 50).
        minimum: Smallest number, None unless numeric.
        maximum: Largest number, None unless numeric.
        sample: A few raw non-null cells.
    """

    name: str
    storage: str
    rows: int
    nulls: int = 0
    distinct: int = 0
    number_share: float = 0.0
    integer_share: float = 0.0
    date_share: float = 0.0
    boolean_share: float = 0.0
    list_share: float = 0.0
    mean_chars: float = 0.0
    max_chars: int = 0
    mean_words: float = 0.0
    extensions: dict[str, float] = field(default_factory=dict)
    exists_share: float = 0.0
    top: tuple[tuple[str, int], ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    sample: tuple[Any, ...] = ()

    @property
    def filled(self) -> int:
        """Number of non-null cells."""
        return self.rows - self.nulls


class Claim(NamedTuple):
    """A modality's (or task's) claim on a column.

    Attributes:
        confidence: 0 to 1; the highest claim wins.
        reason: Why, in a few words for the analyst ("94 % of the cells are existing .jpg files").
        type: The finer type inside the modality ("number", "category", "date", …), if it has any.
    """

    confidence: float
    reason: str
    type: str | None = None


def claim_files(column: ColumnProfile, extensions: Container[str], what: str) -> Claim | None:
    """A modality's claim on a column of paths; None if fewer than half of the cells end like its files.

    Args:
        column: The column.
        extensions: Lower-case extensions of the modality's files (".png").
        what: What the files are, for the reason ("picture").
    """
    share = sum(part for extension, part in column.extensions.items() if extension in extensions)
    if share < 0.5:
        return None
    reason = f"{share:.0%} of the cells end like {what} files, {column.exists_share:.0%} name an existing file"
    return Claim(0.95 * share if column.exists_share >= 0.5 else 0.6 * share, reason)


@dataclass(frozen=True)
class InputInfo:
    """One input of the model.

    Attributes:
        name: Input name (a column name, or the modality's name when it gathers many columns).
        modality: Name of its modality.
        columns: The columns it reads, in order.
        types: Column to finer type ("number", "category", …), where the modality has types.
    """

    name: str
    modality: str
    columns: tuple[str, ...]
    types: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TargetInfo:
    """What heads and losses need to know about the target.

    Attributes:
        kind: "class" (int64 [batch]), "labels" (float 0/1 [batch, size]), "number" (float [batch], standardised), or a
            kind that a third-party task brings with it.
        size: Width of the head's output: number of classes, of labels, or 1.
        names: Class or label names; empty for numbers.
        counts: Training rows per class, or positives per label; empty for numbers.
        rows: Training rows.
        extra: Anything else that a task tells its own losses.
    """

    kind: str
    size: int
    names: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    rows: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def imbalance(self) -> float:
        """Largest class count over smallest (labels: worst negative-to-positive ratio); 1 for numbers."""
        if not self.counts:
            return 1.0
        if self.kind == "labels":
            return max(max((self.rows - c) / max(c, 1), c / max(self.rows - c, 1)) for c in self.counts)
        return max(self.counts) / max(min(self.counts), 1)


@dataclass(frozen=True)
class Context:
    """What `unsuited` may look at when the plan is built.

    Attributes:
        task: Name of the task.
        target: The target, or None before its column is read.
        inputs: The inputs of the model.
        rows: Training rows.
        needs: What the task needs of the fusion: "vector", "tokens" or "aligned".
        metric: The metric that decides.
    """

    task: str
    inputs: tuple[InputInfo, ...]
    rows: int
    target: TargetInfo | None = None
    needs: str = "vector"
    metric: str = ""
