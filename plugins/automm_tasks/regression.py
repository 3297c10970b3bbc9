"""A number per row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from automm.api import Claim, ColumnProfile, DataError, Decoder, Metric, TargetInfo, is_null, parse_number, torch
from automm_tasks import metrics
from automm_tasks.base import HeadTask, filled, missing, only_column, refuse, shown
from automm_tasks.decoders import Number

if TYPE_CHECKING:
    from torch import Tensor

SKEW = 2.0
"""`transform: auto` takes logarithms where the skewness is above this and the logarithm halves it."""


class Regression(HeadTask):
    """A number; the model sees it standardised, optionally after log(1 + y)."""

    target_kind = "number"

    class Config(HeadTask.Config):
        """Settings of regression."""

        transform: Literal["auto", "none", "log1p"] = "auto"
        """What the model learns: the number, or log(1 + number) for targets without negatives; `auto` chooses the
        logarithm where the training rows are heavily skewed to the right."""

    @classmethod
    def claim(cls, columns: Sequence[ColumnProfile]) -> Claim | None:
        """Claims columns of numbers with more than two distinct values."""
        if len(columns) != 1 or not columns[0].filled:
            return None
        column = columns[0]
        if column.number_share < 0.9 or column.distinct <= 2:
            return None
        what = "whole numbers" if column.integer_share == 1 else "numbers"
        sure = 0.9 if column.distinct > 20 or column.integer_share < 1 else 0.5
        return Claim(sure, f"the target holds {what} with {column.distinct} distinct values")

    @classmethod
    def metric_names(cls) -> dict[str, bool]:
        """Metric name → larger is better; r2 is the default."""
        return {name: metric.maximize for name, metric in metrics.NUMBER.items()}

    @classmethod
    def examples(cls, count: int, seed: int) -> dict[str, list[Any]]:
        """Made-up target cells, for the conformance kit."""
        return {"price": [round(10 + 3 * math.sin(row + seed), 2) for row in range(count)]}

    def fit(self, cells: Mapping[str, Sequence[Any]]) -> None:
        """Learns transform, mean and spread.

        Raises:
            DataError: If the target is empty, holds no numbers or only one, or is negative under `log1p`.
        """
        column, values = only_column(cells, "regression")
        present = filled(column, values)
        numbers = [number for number in map(parse_number, present) if number is not None]
        if not numbers:
            example = shown(present[0])
            raise DataError(
                f"target column {column!r} holds no numbers, for example {example}; use task: classification"
            )
        y = np.array(numbers)
        if y.min() == y.max():
            raise DataError(f"target column {column!r} holds one number in all training rows: {y[0]:g}")
        if self.config.transform == "log1p" and y.min() < 0:
            raise DataError(f"task.transform: log1p needs numbers from 0 up; column {column!r} holds {y.min():g}")
        log = self.config.transform == "log1p" or (self.config.transform == "auto" and _wants_log(y))
        z = np.log1p(y) if log else y
        self.state = {
            "column": column,
            "rows": len(y),
            "log": log,
            "mean": float(z.mean()),
            "spread": float(z.std()),
            "largest": float(z.max()),
        }

    def encode(self, cells: Mapping[str, Sequence[Any]]) -> np.ndarray:
        """Numbers in their own units, float32 [rows].

        Raises:
            BadCells: For empty cells, cells that are no number, and negative numbers where the model learns logarithms.
        """
        column, values = only_column(cells, "regression")
        numbers = np.zeros(len(values), np.float32)
        reasons = {}
        for row, cell in enumerate(values):
            if is_null(cell):
                reasons[row] = missing(column)
            elif (number := parse_number(cell)) is None:
                reasons[row] = f"target {column!r}: {shown(cell)} is not a number"
            elif number < 0 and self.state["log"]:
                reasons[row] = f"target {column!r}: {shown(cell)} is negative; set task.transform: none to allow it"
            else:
                numbers[row] = number
        refuse(reasons)
        return numbers

    def target(self) -> TargetInfo:
        """Kind "number"."""
        return TargetInfo("number", 1, rows=self.state["rows"])

    def start(self) -> list[float]:
        """The mean of a standardised target."""
        return [0.0]

    def model_target(self, target: Tensor) -> Tensor:
        """Numbers → standardised (log) numbers."""
        z = torch.log1p(target) if self.state["log"] else target
        return (z - self.state["mean"]) / self.state["spread"]

    def answer(self, output: Tensor) -> dict[str, Tensor]:
        """Output [batch, 1] → `number` [batch], in the target's units.

        After a logarithm the answer lies between 0 and e times the largest training value, so that one far-off output
        does not explode.
        """
        z = output[:, 0].float() * self.state["spread"] + self.state["mean"]
        return {"number": torch.expm1(z.clamp(0.0, self.state["largest"] + 1.0)) if self.state["log"] else z}

    def metrics(self) -> dict[str, Metric]:
        """The metrics by name, r2 first."""
        return dict(metrics.NUMBER)

    def decoder(self) -> Decoder:
        """Reads the number."""
        return Number(Number.Config())


def _wants_log(y: np.ndarray) -> bool:
    if y.min() < 0:
        return False
    skew = _skewness(y)
    return skew > SKEW and abs(_skewness(np.log1p(y))) < skew / 2


def _skewness(y: np.ndarray) -> float:
    z = y - y.mean()
    spread = math.sqrt(float((z**2).mean()))
    return float(((z / spread) ** 3).mean()) if spread > 0 else 0.0
