"""One class per row."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from automm.api import Claim, ColumnProfile, DataError, Decoder, Metric, TargetInfo, as_text, is_null, parse_number
from automm_tasks import decisions, metrics
from automm_tasks.base import HeadTask, filled, missing, only_column, refuse, shown
from automm_tasks.decoders import Classes
from automm_tasks.scores import by_class

if TYPE_CHECKING:
    from torch import Tensor

FEW = 20
"""Whole numbers with at most this many distinct values are taken for classes."""


class Classification(HeadTask):
    """Exactly one of two or more classes.

    Classes are ordered as numbers if all of them are numbers, else alphabetically, unless `order` names them. Of two
    classes the second is the positive one of `roc_auc` and `average_precision`, unless `positive` names the other.
    """

    target_kind = "class"
    stratified = True

    class Config(HeadTask.Config):
        """Settings of classification."""

        positive: str | None = None
        """Of two classes: the one that counts as positive; by default the second in order."""
        order: tuple[str, ...] = ()
        """All classes from low to high, where their order means something ([poor, fair, good]): then `quadratic_kappa`
        and ordinal losses go by it. Not needed for numbers."""
        decision: Literal[
            "auto", "none", "accuracy", "balanced_accuracy", "macro_f1", "micro_f1", "quadratic_kappa", "mcc"
        ] = "auto"
        """The metric for which the winner's way from probabilities to a class is tuned on the validation rows; `auto`:
        the recipe's metric, if it depends on that; `none`: always the most probable class."""

    @classmethod
    def claim(cls, columns: Sequence[ColumnProfile]) -> Claim | None:
        """Claims truth values, a few whole numbers, and strings that repeat."""
        if len(columns) != 1 or not columns[0].filled:
            return None
        column = columns[0]
        distinct = column.distinct
        if column.boolean_share == 1 and distinct <= 2:
            return Claim(0.95, "the target holds truth values")
        if column.number_share == 1:
            if distinct == 2:
                return Claim(0.8, "the target holds two distinct numbers")
            if column.integer_share == 1 and distinct <= FEW and column.filled >= 2 * distinct:
                return Claim(0.8, f"the target holds whole numbers with {distinct} distinct values")
            return None
        if column.storage == "list" or column.list_share > 0.5:
            return None
        share = distinct / column.filled
        if share > 0.5:
            return None
        sure = 0.9 if distinct <= 50 or share <= 0.02 else 0.7
        return Claim(sure, f"the target holds text with {distinct} distinct values in {column.filled} rows")

    @classmethod
    def metric_names(cls) -> dict[str, bool]:
        """Metric name → larger is better; accuracy is the default."""
        return {name: metric.maximize for name, metric in metrics.class_metrics({}).items()}

    @classmethod
    def examples(cls, count: int, seed: int) -> dict[str, list[Any]]:
        """Made-up target cells, for the conformance kit."""
        names = ("spring", "summer", "autumn", "summer")
        return {"season": [names[(row + seed) % 4] for row in range(count)]}

    def fit(self, cells: Mapping[str, Sequence[Any]]) -> None:
        """Learns names, order and counts of the classes.

        Raises:
            DataError: If the target is empty or holds one class, or if `order` or `positive` do not fit its classes.
        """
        column, values = only_column(cells, "classification")
        counts = Counter(as_text(cell) for cell in filled(column, values))
        names = self._ordered(column, class_order(counts))
        if len(names) < 2:
            raise DataError(f"target column {column!r} holds one class in all training rows: {shown(names[0])}")
        positive = self.config.positive
        if positive is not None:
            if self.config.order:
                raise DataError("task.positive: the last of task.order is the positive class; leave one of them out")
            if len(names) != 2 or positive not in names:
                choices = ", ".join(names[:10])
                raise DataError(
                    f"task.positive: {positive!r} must be one of two classes; column {column!r} holds {choices}"
                )
            names.sort(key=lambda name: name == positive)
        self.state = {"column": column, "names": names, "counts": [counts[name] for name in names]}

    def _ordered(self, column: str, names: list[str]) -> list[str]:
        order = [as_text(name) for name in self.config.order]
        if not order:
            return names
        if len(set(order)) < len(order):
            raise DataError("task.order: it names a class twice")
        if absent := [name for name in names if name not in order]:
            raise DataError(f"task.order: the class {shown(absent[0])} of column {column!r} is not in it")
        return [name for name in order if name in names]

    def encode(self, cells: Mapping[str, Sequence[Any]]) -> np.ndarray:
        """Class indices, int64 [rows].

        Raises:
            BadCells: For empty cells and for classes that the training rows do not hold.
        """
        column, values = only_column(cells, "classification")
        index = {name: at for at, name in enumerate(self.state["names"])}
        if {name.casefold() for name in index} == {"true", "false"}:
            # A CSV says "True" where Parquet says true.
            index.update({spelled: at for name, at in list(index.items()) for spelled in _spellings(name)})
        codes = np.zeros(len(values), np.int64)
        reasons = {}
        for row, cell in enumerate(values):
            if is_null(cell):
                reasons[row] = missing(column)
            elif (code := index.get(as_text(cell))) is None:
                reasons[row] = f"target {column!r}: the class {shown(cell)} is not among the training rows' classes"
            else:
                codes[row] = code
        refuse(reasons)
        return codes

    def target(self) -> TargetInfo:
        """Kind "class" with names and counts."""
        names, counts = tuple(self.state["names"]), tuple(self.state["counts"])
        ordered = bool(self.config.order) or all(parse_number(name) is not None for name in names)
        return TargetInfo("class", len(names), names, counts, sum(counts), {"ordered": ordered})

    def start(self) -> list[float]:
        """Log frequencies."""
        target = self.target()
        return [math.log(count / target.rows) for count in target.counts]

    def answer(self, output: Tensor) -> dict[str, Tensor]:
        """Logits [batch, classes] → `probabilities` [batch, classes]."""
        return {"probabilities": output.float().softmax(1)}

    def metrics(self) -> dict[str, Metric]:
        """The metrics by name, accuracy first."""
        return metrics.class_metrics(self._reading())

    def _reading(self) -> dict[str, Any]:
        """How probabilities become classes; empty: the most probable one."""
        decision = self.state.get("decision", {})
        reading = {"cuts": decision["cuts"]} if "cuts" in decision else {}
        if "weights" in decision:
            reading["weights"] = [decision["weights"][name] for name in self.state["names"]]
        return reading

    def decide(self, answers: Mapping[str, np.ndarray], target: np.ndarray, metric: str, seed: int) -> dict[str, Any]:
        """Weights of the classes, or cuts of the expected class number, where they raise the metric; see the docs."""
        probabilities = answers["probabilities"]
        metric = metric if self.config.decision == "auto" else self.config.decision
        tuners = decisions.class_tuners(metric, probabilities.shape[1])
        if not tuners:
            return {}
        found = decisions.decide(probabilities, target, tuners, decisions.class_score(metric), seed)
        if "weights" in found:
            found["weights"] = dict(zip(self.state["names"], found["weights"], strict=True))
        return {"metric": metric, **found} if found else {}

    def by_class(self, answers: Mapping[str, np.ndarray], target: np.ndarray) -> dict[str, dict[str, float]]:
        """Rows, precision, recall and F1 of every class."""
        names, reading = tuple(self.state["names"]), self._reading()
        predicted = decisions.classes(answers["probabilities"], reading.get("weights"), reading.get("cuts"))
        at = np.arange(len(names))
        return by_class(names, predicted[:, None] == at, target[:, None] == at)

    def decoder(self) -> Decoder:
        """Reads probabilities as class names."""
        return Classes(Classes.Config(names=tuple(self.state["names"]), **self._reading()))


def class_order(names: Mapping[str, int]) -> list[str]:
    """Class names in numeric order if all are numbers, else alphabetically."""
    numbers = {name: parse_number(name) for name in names}
    if any(number is None for number in numbers.values()):
        return sorted(names)
    return sorted(names, key=lambda name: (numbers[name], name))


def _spellings(name: str) -> tuple[str, ...]:
    return name.lower(), name.upper(), name.capitalize()
