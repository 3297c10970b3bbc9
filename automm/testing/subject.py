"""The component under test, with what the checks need to try it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

import numpy as np

from automm.core.component import Component
from automm.core.config import Config
from automm.core.kinds import Examples
from automm.core.processor import Processor
from automm.errors import PackageError
from automm.plugin.loader import load_plugins
from automm.plugin.registry import Registry
from automm.runtime import ops

ROWS = 24


@functools.cache
def installed() -> Registry:
    """The components of all installed plugins."""
    return load_plugins().registry


class Subject:
    """A component class, its configuration and its examples.

    Args:
        cls: The component class.
        fields: Configuration fields, or a function that gives them.
        examples: For encoders: count and seed → examples; None: those of the encoder's modality.
    """

    def __init__(
        self,
        cls: type[Component],
        fields: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
        examples: Callable[[int, int], Examples] | None,
    ) -> None:
        self.cls: Any = cls
        self._fields = fields
        self._examples = examples
        self._made: dict[tuple[int, int], Examples] = {}

    @functools.cached_property
    def fields(self) -> dict[str, Any]:
        """The configuration fields to try it with."""
        return dict(self._fields() if callable(self._fields) else self._fields)

    @functools.cached_property
    def config(self) -> Config:
        """The configuration to try it with."""
        made: Config = self.cls.Config(**self.fields)
        return made

    def corners(self) -> list[Config]:
        """Configurations at the ends of the search space: all lowest, all highest, and every choice once."""
        tunes = {name: tune for name, tune in self.cls.Config.tunes().items() if name not in self.fields}
        points = [
            {name: tune.choices[0] if tune.choices else tune.low for name, tune in tunes.items()},
            {name: tune.choices[-1] if tune.choices else tune.high for name, tune in tunes.items()},
        ]
        points += [{name: choice} for name, tune in tunes.items() for choice in tune.choices or ()]
        return [self.cls.Config(**{**self.fields, **point}) for point in points]

    def examples(self, count: int = ROWS, seed: int = 0) -> Examples:
        """Example cells of an encoder, made once."""
        if (count, seed) not in self._made:
            self._made[count, seed] = self._examples_of(count, seed)
        return self._made[count, seed]

    def _examples_of(self, count: int, seed: int) -> Examples:
        if self._examples is not None:
            return self._examples(count, seed)
        modality = installed().get("modality", self.cls.modality)
        found: Examples | None = modality.examples(count, seed)
        assert found is not None, (
            f"modality {modality.name!r} has no examples; write its `examples`, or give `examples=` to the kit"
        )
        return found

    @functools.cached_property
    def processor(self) -> Processor:
        """The encoder's processor, fitted on the examples."""
        examples = self.examples()
        made: Processor = self.cls.processor(self.config, examples.info)
        made.fit([examples.cells])
        return made

    @functools.cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """What the processor makes of the examples."""
        return self.processor(self.examples().cells)

    @functools.cached_property
    def other_arrays(self) -> dict[str, np.ndarray]:
        """What the processor makes of other examples, those of seed 1."""
        return self.processor(self.examples(seed=1).cells)


def take(cells: Any, rows: Sequence[int]) -> Any:
    """Some rows of cells."""
    if isinstance(cells, Mapping):
        return {column: [values[row] for row in rows] for column, values in cells.items()}
    return [cells[row] for row in rows]


def without(cells: Any, rows: Sequence[int]) -> Any:
    """The same cells, missing in some rows."""
    if isinstance(cells, Mapping):
        return {column: without(values, rows) for column, values in cells.items()}
    return [None if row in rows else cell for row, cell in enumerate(cells)]


def is_operation(cls: type[Any]) -> bool:
    """Whether packages find a processor or decoder by its `op`: an entry point of automm_ops, or known locally."""
    if any(point.load() is cls for point in entry_points(group=ops.GROUP, name=cls.op)):
        return True
    try:
        return ops.find(cls.op, cls.version) is cls
    except PackageError:
        return False
