"""Any number of labels per row."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from automm.api import (
    Claim,
    ColumnProfile,
    DataError,
    Decoder,
    Figure,
    Metric,
    TargetInfo,
    as_text,
    is_null,
    parse_boolean,
)
from automm_tasks import decisions, metrics
from automm_tasks.base import HeadTask, filled, missing, refuse, shown
from automm_tasks.classification import class_order
from automm_tasks.decoders import Labels
from automm_tasks.scores import by_class, label_score

if TYPE_CHECKING:
    from torch import Tensor

SEPARATORS = ("|", ";", ",")


class Multilabel(HeadTask):
    """Any number of labels: several columns of 0/1, or one column that lists label names."""

    target_kind = "labels"

    class Config(HeadTask.Config):
        """Settings of multilabel classification."""

        separator: Annotated[str, Field(min_length=1)] | None = None
        """What stands between the labels of a cell; None: `|`, `;` or `,`, whichever the training cells use. Not used
        for columns of 0/1, and not for cells that are lists."""
        empty: Literal["missing", "no_labels"] = "missing"
        """What an empty cell means: the row's target is missing, or the row has no labels."""
        threshold: Annotated[float, Field(ge=0, le=1)] | None = None
        """Smallest probability at which a label is predicted; None: tuned (see `decision`), else 0.5."""
        thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
        """Label name → its own threshold."""
        decision: Literal["auto", "none", "micro_f1", "macro_f1", "accuracy"] = "auto"
        """The metric for which the thresholds that no other field sets are tuned on the validation rows; `auto`: the
        recipe's metric, if it depends on them; `none`: they stay at 0.5."""

    @classmethod
    def claim(cls, columns: Sequence[ColumnProfile]) -> Claim | None:
        """Claims several 0/1 columns, columns of lists, and text that is surely a list of labels."""
        if len(columns) > 1:
            if all(column.boolean_share == 1 and column.distinct <= 2 for column in columns):
                return Claim(0.95, f"the target is {len(columns)} columns of 0/1")
            return None
        if not columns or not columns[0].filled:
            return None
        column = columns[0]
        if column.storage == "list":
            return Claim(0.9, "the target holds lists") if column.list_share < 0.5 else None
        if column.number_share > 0.5:
            return None
        cells = [value for value, _ in column.top] or [str(cell) for cell in column.sample]
        for separator in SEPARATORS:
            if reads_as_labels(cells, separator):
                return Claim(0.93, f"the target holds labels that are separated by {separator!r}")
        return None

    @classmethod
    def metric_names(cls) -> dict[str, bool]:
        """Metric name → larger is better.

        The default is the macro average precision: it needs no threshold and does not stay at 0 for rare labels.
        """
        return {name: metric.maximize for name, metric in metrics.label_metrics((0.5,)).items()}

    @classmethod
    def examples(cls, count: int, seed: int) -> dict[str, list[Any]]:
        """Made-up target cells, for the conformance kit."""
        names = ("jazz", "pop", "rock", "jazz|rock", "pop|rock")
        return {"genres": [names[(row + seed) % 5] for row in range(count)]}

    def fit(self, cells: Mapping[str, Sequence[Any]]) -> None:
        """Learns names and counts of the labels.

        Raises:
            DataError: If the target is empty, is not 0/1, or no label is on in some rows and off in others.
        """
        if len(cells) > 1:
            names, counts, rows, separator = *self._fit_columns(cells), None
        else:
            column, values = next(iter(cells.items()))
            separator = self._separator(column, values)
            lists = [found for found in (self._split(cell, separator) for cell in values) if found is not None]
            tally = Counter(name for found in lists for name in found)
            names, rows = class_order(tally), len(lists)
            counts = [tally[name] for name in names]
        if all(count in (0, rows) for count in counts):
            raise DataError(f"target {', '.join(cells)}: no label is on in some training rows and off in others")
        if unknown := sorted(set(self.config.thresholds) - set(names)):
            raise DataError(f"task.thresholds: {unknown[0]!r} is not a label (there are: {', '.join(names[:10])})")
        self.state = {
            "columns": list(cells),
            "separator": separator,
            "names": names,
            "counts": counts,
            "rows": rows,
        }

    def _fit_columns(self, cells: Mapping[str, Sequence[Any]]) -> tuple[list[str], list[int], int]:
        counts, rows = [], 0
        for column, values in cells.items():
            present = filled(column, values)
            bits = [parse_boolean(cell) for cell in present]
            if None in bits:
                wrong = shown(present[bits.index(None)])
                raise DataError(f"target column {column!r}: {wrong} is not 0 or 1; several columns must hold 0/1 each")
            counts.append(sum(map(bool, bits)))
            rows = max(rows, len(bits))
        return list(cells), counts, rows

    def _separator(self, column: str, values: Sequence[Any]) -> str | None:
        if self.config.separator is not None:
            return self.config.separator
        texts = [cell for cell in filled(column, values) if isinstance(cell, str) and not cell.startswith("[")]
        if not texts:
            return None
        used = {separator: sum(separator in text for text in texts) for separator in SEPARATORS}
        best = max(SEPARATORS, key=lambda separator: used[separator])
        if not used[best]:
            raise DataError(
                f"target column {column!r}: no cell holds several labels; name the separator "
                f"(target: {{column: {column}, separator: …}}), or use task: classification"
            )
        return best

    def _split(self, cell: Any, separator: str | None) -> list[str] | None:
        """The labels of a cell; None if the cell counts as missing."""
        if isinstance(cell, list | tuple | np.ndarray):
            return _names(cell)
        if is_null(cell):
            return None if self.config.empty == "missing" else []
        if isinstance(cell, str) and cell.startswith("["):
            try:
                return _names(json.loads(cell))
            except ValueError:
                pass
        return _names(str(cell).split(separator) if separator else [cell])

    def encode(self, cells: Mapping[str, Sequence[Any]]) -> np.ndarray:
        """0/1, float32 [rows, labels].

        Raises:
            BadCells: For empty cells, cells that are not 0/1, and labels that the training rows do not hold.
        """
        reasons: dict[int, str] = {}
        names = self.state["names"]
        codes = np.zeros((len(next(iter(cells.values()))), len(names)), np.float32)
        if len(self.state["columns"]) > 1:
            for at, column in enumerate(self.state["columns"]):
                for row, cell in enumerate(cells[column]):
                    if is_null(cell):
                        reasons.setdefault(row, missing(column))
                    elif (bit := parse_boolean(cell)) is None:
                        reasons.setdefault(row, f"target {column!r}: {shown(cell)} is not 0 or 1")
                    else:
                        codes[row, at] = bit
        else:
            column = self.state["columns"][0]
            index = {name: at for at, name in enumerate(names)}
            for row, cell in enumerate(cells[column]):
                found = self._split(cell, self.state["separator"])
                if found is None:
                    reasons[row] = missing(column)
                elif unknown := [name for name in found if name not in index]:
                    what = f"the label {shown(unknown[0])} is not among the training rows' labels"
                    reasons[row] = f"target {column!r}: {what}"
                else:
                    codes[row, [index[name] for name in found]] = 1
        refuse(dict(sorted(reasons.items())))
        return codes

    def figures(self, cells: Mapping[str, Sequence[Any]]) -> dict[str, Figure]:
        """The labels of every row; columns of 0/1 by themselves."""
        if len(cells) > 1:
            return super().figures(cells)
        column, values = next(iter(cells.items()))
        found = [None if cell is None else self._split(cell, self.state["separator"]) for cell in values]
        return {column: Figure("category", found)}

    def target(self) -> TargetInfo:
        """Kind "labels" with names and positives per label."""
        names, counts = tuple(self.state["names"]), tuple(self.state["counts"])
        return TargetInfo("labels", len(names), names, counts, self.state["rows"])

    def start(self) -> list[float]:
        """Log odds of the labels, smoothed by half a row."""
        rows = self.state["rows"]
        return [math.log((count + 0.5) / (rows - count + 0.5)) for count in self.state["counts"]]

    def answer(self, output: Tensor) -> dict[str, Tensor]:
        """Logits [batch, labels] → `probabilities` [batch, labels]."""
        return {"probabilities": output.float().sigmoid()}

    def _thresholds(self) -> tuple[float, ...]:
        if "decision" in self.state:
            found = self.state["decision"]["thresholds"]
            return tuple(found[name] for name in self.state["names"])
        usual = 0.5 if self.config.threshold is None else self.config.threshold
        return tuple(self.config.thresholds.get(name, usual) for name in self.state["names"])

    def decide(self, answers: Mapping[str, np.ndarray], target: np.ndarray, metric: str, seed: int) -> dict[str, Any]:
        """One threshold per label, where that raises the metric; those that the recipe sets stay."""
        config, usual = self.config, self._thresholds()
        metric = metric if config.decision == "auto" else config.decision
        free = [config.threshold is None and name not in config.thresholds for name in self.state["names"]]

        def score(probabilities: np.ndarray, on: np.ndarray, reading: Mapping[str, Any]) -> float:
            return label_score(metric, decisions.labels(probabilities, reading.get("thresholds", usual)), on > 0.5)

        tuners = decisions.label_tuners(metric, usual, free)
        found = decisions.decide(answers["probabilities"], target, tuners, score, seed)
        if found:
            found["thresholds"] = dict(zip(self.state["names"], found["thresholds"], strict=True))
        return {"metric": metric, **found} if found else {}

    def by_class(self, answers: Mapping[str, np.ndarray], target: np.ndarray) -> dict[str, dict[str, float]]:
        """Rows, precision, recall and F1 of every label."""
        predicted = decisions.labels(answers["probabilities"], self._thresholds())
        return by_class(tuple(self.state["names"]), predicted, target > 0.5)

    def metrics(self) -> dict[str, Metric]:
        """The metrics by name, average precision first."""
        return metrics.label_metrics(self._thresholds())

    def decoder(self) -> Decoder:
        """Reads probabilities as label names."""
        return Labels(Labels.Config(names=tuple(self.state["names"]), thresholds=self._thresholds()))


def _names(parts: Any) -> list[str]:
    """Label names, each once, in order."""
    return list(dict.fromkeys(as_text(part) for part in parts if not is_null(part)))


def reads_as_labels(cells: Sequence[str], separator: str) -> bool:
    """Whether distinct cells are surely lists of labels, and not text or names that happen to hold the separator.

    Lists recombine few short labels in changing places; in "Paris, France" every part keeps its place.
    """
    lists = [[part.strip() for part in cell.split(separator)] for cell in cells]
    several = [parts for parts in lists if len(parts) > 1]
    if len(cells) < 4 or len(several) < max(3, 0.3 * len(cells)):
        return False
    uses = Counter(part for parts in lists for part in parts)
    if len(uses) > 0.7 * len(cells) or max(len(part.split()) for part in uses) > 4:
        return False
    places: dict[str, set[int]] = {}
    for parts in lists:
        for at, part in enumerate(parts):
            places.setdefault(part, set()).add(at)
    repeated = [part for part, count in uses.items() if count > 1]
    return sum(len(places[part]) > 1 for part in repeated) >= 0.4 * max(len(repeated), 1)
