"""Decoders: the graph's answers → what the user reads. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from automm.core.component import Component

RunGraph = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


class Decoder(Component, abstract=True):
    """Turns answers into columns of a result table.

    Attributes:
        op: What packages call it, for ever ("task.classes").
        version: Raised whenever the same answers would read differently.
    """

    kind = "decoder"
    op: ClassVar[str] = ""
    version: ClassVar[int] = 1

    def __init__(self, config: Any) -> None:
        self.config = config

    def drive(self, graphs: Mapping[str, RunGraph], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the graphs on a batch; by default "main" once. A generating task loops over a second graph here.

        Args:
            graphs: Graph name → a function from arrays to answers.
            arrays: The input arrays, [batch, …] each.

        Returns:
            Answer name → [batch, …].
        """
        return graphs["main"](arrays)

    def columns(self) -> dict[str, str]:
        """The result columns and their types ("string", "number", "boolean", "list"), in order."""
        raise NotImplementedError

    def decode(self, answers: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        """Answers → result column → one JSON value per row."""
        raise NotImplementedError
