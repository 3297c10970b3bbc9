"""Champion against challenger on the same rows, with paired bootstrap intervals."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from automm.core.kinds import Task
from automm.data.table import Table
from automm.runtime.predictor import Predictor

DRAWS = 1000
SECONDS = 30.0
"""After this time no further sample is drawn."""
LEAST_DRAWS = 100
LEVEL = 0.95
CHUNK = 256

Answers = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Outcome:
    """What two packages reach on the same rows.

    Attributes:
        rows: Rows that both answered.
        champion: Its metric; None where it is not defined.
        challenger: The same.
        gain: By how much the challenger is better; negative: worse.
        low: Lower end of the 95 % interval of the gain.
        high: Upper end.
    """

    rows: int
    champion: float | None
    challenger: float | None
    gain: float | None
    low: float | None
    high: float | None

    def json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    @property
    def better(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low is not None and self.low > 0

    def worse(self, margin: float) -> bool:
        """Whether the challenger is worse: surely (the whole interval below zero), or by more than the margin.

        Args:
            margin: Tolerated loss, as a share of the champion's metric.
        """
        if self.gain is None or self.high is None or self.champion is None:
            return True
        return self.high < 0 or self.gain < -margin * abs(self.champion)

    def words(self) -> str:
        """For people."""
        if self.champion is None or self.challenger is None or self.gain is None:
            return f"not defined on these {self.rows} rows"
        interval = "" if self.low is None else f" [{self.low:+.4f}, {self.high:+.4f}]"
        return f"{self.champion:.4f} → {self.challenger:.4f}, gain {self.gain:+.4f}{interval} on {self.rows:,} rows"


def answers_on(predictor: Predictor, table: Table, rows: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A package's answers.

    Args:
        predictor: The loaded package.
        table: The table.
        rows: Row numbers.

    Returns:
        Answer name → [kept rows, …], and the positions in `rows` that were answered.
    """
    pieces: list[dict[str, np.ndarray]] = []
    kept: list[int] = []
    done = 0
    columns = [name for name in predictor.columns if name in table.columns]
    for numbers, cells in table.chunks(columns, rows, CHUNK):
        complete = predictor.complete(cells, len(numbers), allow_missing=True)
        found, refused = predictor.package.answers(complete, len(numbers), table.folder)
        if found:
            pieces.append(found)
        kept += [done + at for at in range(len(numbers)) if at not in refused]
        done += len(numbers)
    names = pieces[0] if pieces else ()
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in names}, np.array(kept, np.int64)


def spread(answers: Answers, before: Sequence[str], after: Sequence[str]) -> dict[str, np.ndarray]:
    """Answers per class in the order of a target that knows more classes; 0 for those that the model does not know."""
    if list(before) == list(after):
        return dict(answers)
    places = [list(after).index(name) for name in before]
    found = {}
    for name, array in answers.items():
        if array.ndim > 1 and array.shape[-1] == len(before):
            wide = np.zeros((*array.shape[:-1], len(after)), array.dtype)
            wide[..., places] = array
            array = wide
        found[name] = array
    return found


def duel(
    metric: str, tasks: tuple[Task, Task], answers: tuple[Answers, Answers], target: np.ndarray, seed: int
) -> Outcome:
    """Compares two models; the rows of a sample are the same for both.

    Args:
        metric: The metric.
        tasks: How the champion's and the challenger's answers are read; both with the challenger's classes.
        answers: Their answers on the same rows.
        target: Coded targets of these rows.
        seed: Of the samples.
    """
    rows = len(target)
    if not rows:
        return Outcome(0, None, None, None, None, None)
    measures = [task.metrics()[metric] for task in tasks]
    tensors = [{name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in one.items()} for one in answers]
    coded = torch.from_numpy(target)
    sign = 1.0 if measures[0].maximize else -1.0

    def values(at: torch.Tensor) -> list[float]:
        return [
            float(measure.compute({name: tensor[at] for name, tensor in own.items()}, coded[at]))
            for measure, own in zip(measures, tensors, strict=True)
        ]

    champion, challenger = values(torch.arange(rows))
    if not np.isfinite([champion, challenger]).all():
        shown = [value if np.isfinite(value) else None for value in (champion, challenger)]
        return Outcome(rows, shown[0], shown[1], None, None, None)
    random, gains = np.random.default_rng(seed), []
    stop = time.monotonic() + SECONDS
    for _ in range(DRAWS):
        one, other = values(torch.from_numpy(random.integers(rows, size=rows)))
        if np.isfinite([one, other]).all():
            gains.append(sign * (other - one))
        if time.monotonic() > stop and len(gains) >= LEAST_DRAWS:
            break
    low = high = None
    if len(gains) >= LEAST_DRAWS:
        low, high = (float(edge) for edge in np.quantile(gains, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    return Outcome(rows, champion, challenger, sign * (challenger - champion), low, high)
