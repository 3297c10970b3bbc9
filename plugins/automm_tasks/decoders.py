"""Answers → result columns. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from automm.api import Decoder
from automm_tasks import decisions


class Classes(Decoder):
    """A class, by default the most probable one, and the probability of every class."""

    op = "task.classes"

    class Config(Decoder.Config):
        """What the decoder needs to know."""

        names: tuple[str, ...]
        """Class names, in the order of the probabilities."""
        weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None
        """The class with the largest weight times probability is predicted; None: the most probable one."""
        cuts: tuple[float, ...] | None = None
        """For ordered classes: the expected class number is cut here, ascending, in place of weighing."""

        @model_validator(mode="after")
        def _fitting(self) -> Self:
            size = len(self.names)
            if self.weights is not None and len(self.weights) != size:
                raise ValueError(f"{size} classes, but {len(self.weights)} weights")
            if self.cuts is not None and (len(self.cuts) != size - 1 or list(self.cuts) != sorted(self.cuts)):
                raise ValueError(f"{size} classes need {size - 1} ascending cuts, not {list(self.cuts)}")
            return self

    def columns(self) -> dict[str, str]:
        """`prediction`, then `probability_<class>` for every class."""
        return {"prediction": "string", **{f"probability_{name}": "number" for name in self.config.names}}

    def decode(self, answers: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        """Reads `probabilities` [batch, classes]."""
        probabilities = answers["probabilities"]
        predicted = decisions.classes(probabilities, self.config.weights, self.config.cuts)
        best = np.array(self.config.names, object)[predicted]
        return {"prediction": best.tolist(), **_probabilities(self.config.names, probabilities)}


class Labels(Decoder):
    """The labels whose probability reaches their threshold, and the probability of every label."""

    op = "task.labels"

    class Config(Decoder.Config):
        """What the decoder needs to know."""

        names: tuple[str, ...]
        """Label names, in the order of the probabilities."""
        thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...]
        """Smallest probability at which a label is predicted, one per label."""

        @model_validator(mode="after")
        def _one_each(self) -> Self:
            if len(self.names) != len(self.thresholds):
                raise ValueError(f"{len(self.names)} labels, but {len(self.thresholds)} thresholds")
            return self

    def columns(self) -> dict[str, str]:
        """`prediction` (a list of names), then `probability_<label>` for every label."""
        return {"prediction": "list", **{f"probability_{name}": "number" for name in self.config.names}}

    def decode(self, answers: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        """Reads `probabilities` [batch, labels]."""
        probabilities = answers["probabilities"]
        rows, labels = np.nonzero(decisions.labels(probabilities, self.config.thresholds))
        names = np.array(self.config.names, object)[labels].tolist()
        ends = np.searchsorted(rows, np.arange(len(probabilities)), side="right").tolist()
        lists = [names[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        return {"prediction": lists, **_probabilities(self.config.names, probabilities)}


class Number(Decoder):
    """A number in the target's units."""

    op = "task.number"

    def columns(self) -> dict[str, str]:
        """`prediction`."""
        return {"prediction": "number"}

    def decode(self, answers: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        """Reads `number` [batch]."""
        return {"prediction": answers["number"].tolist()}


def _probabilities(names: tuple[str, ...], probabilities: np.ndarray) -> dict[str, list[float]]:
    return {f"probability_{name}": column for name, column in zip(names, probabilities.T.tolist(), strict=True)}
