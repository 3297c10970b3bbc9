"""What all built-in tasks share: one head, and a target of one or more columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from automm.api import BadCells, DataError, Task, Tune, is_null

if TYPE_CHECKING:
    from torch import nn


class HeadTask(Task, abstract=True):
    """A task whose output is a vector per row, made from the mean of the joint features."""

    class Config(Task.Config):
        """Settings of the head."""

        hidden: Annotated[int, Field(ge=0), Tune(choices=[0, 64, 256])] = 0
        """Width of the head's hidden layer; 0: the head is linear."""
        dropout: Annotated[float, Field(ge=0, lt=1), Tune(0.0, 0.5)] = 0.1
        """Share of features dropped in training."""

    def head(self, width: int) -> nn.Module:
        """Joint features → [batch, size]; starts at the training rows' frequencies."""
        from automm_tasks._modules import Head

        return Head(width, self.config.hidden, self.config.dropout, self.start())

    def start(self) -> list[float]:
        """The output that a head should start from, one number per output."""
        raise NotImplementedError


def only_column(cells: Mapping[str, Sequence[Any]], task: str) -> tuple[str, Sequence[Any]]:
    """The one target column.

    Raises:
        DataError: If there are several.
    """
    if len(cells) != 1:
        raise DataError(f"target: {task} takes one column, got {len(cells)} ({', '.join(cells)})")
    return next(iter(cells.items()))


def filled(column: str, cells: Sequence[Any]) -> list[Any]:
    """The cells that are not null.

    Raises:
        DataError: If there are none.
    """
    found = [cell for cell in cells if not is_null(cell)]
    if not found:
        raise DataError(f"target column {column!r}: all {len(cells)} training cells are empty")
    return found


def refuse(reasons: Mapping[int, str]) -> None:
    """Raises BadCells if there is a reason to."""
    if reasons:
        raise BadCells(reasons)


def missing(column: str) -> str:
    """Why a row without a target cannot be used."""
    return f"target {column!r} is empty (none, nan, n/a and the like count as empty)"


def shown(cell: Any) -> str:
    """A cell in a message, cut to a readable length."""
    text = str(cell)
    return repr(text if len(text) <= 40 else text[:39] + "…")
