"""One input at run time: its table cells become arrays, and cells that cannot be used are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydantic

from automm.core.arrays import ArraySpec
from automm.core.cells import LONGEST_NULL, is_null
from automm.core.processor import BadCells, Processor
from automm.errors import AutommError, PackageError
from automm.runtime import ops
from automm.runtime.files import PackageFiles
from automm.runtime.limits import check_limits, limits_of
from automm.runtime.manifest import InputPart
from automm.runtime.media import input_cells
from automm.runtime.state import join_state

Cells = dict[str, list[Any]]


def load_processor(part: InputPart, files: PackageFiles) -> Processor:
    """The fitted processor of an input, from its configuration and state.

    Raises:
        PackageError: If its operation is absent or of another version, or configuration or state do not fit it.
    """
    named = part.processor
    cls = ops.find(named.op, named.version, named.owner.distribution, named.owner.version)
    npz = files.read(named.arrays) if named.arrays else None
    state = join_state(files.read(named.state), npz, named.state)
    try:
        processor: Processor = cls(cls.Config.stored(named.config), state)
        specs = {name: ArraySpec(*spec) for name, spec in processor.specs().items()}
    except pydantic.ValidationError as problem:
        raise PackageError(f"input {part.name!r}: the configuration does not fit {named.op!r}: {problem}") from None
    except AutommError:
        raise
    except Exception as problem:
        reason = f"{named.op!r} cannot be restored from its state: {type(problem).__name__}: {problem}"
        raise PackageError(f"input {part.name!r}: {reason}") from problem
    listed = {name: array.spec() for name, array in part.arrays.items()}
    if specs != listed:
        raise PackageError(f"input {part.name!r}: {named.op!r} gives {specs}, the manifest says {listed}")
    try:
        check_limits(processor, part.limits)
    except PackageError as problem:
        raise PackageError(f"input {part.name!r}: {problem}") from None
    return processor


class RuntimeInput:
    """Reads one input of the model from table columns.

    Args:
        name: Input name.
        slug: Prefix of its arrays.
        columns: The columns it reads.
        processor: The fitted processor.
        limits: What is refused, name → bound; by default what `limits_of` says.
    """

    def __init__(
        self,
        name: str,
        slug: str,
        columns: Sequence[str],
        processor: Processor,
        limits: Mapping[str, float] | None = None,
    ) -> None:
        self.name, self.columns, self.processor = name, tuple(columns), processor
        self.limits = {**limits_of(processor), **(limits or {})}
        self._prefix = f"{slug}."
        self._present = f"{slug}.present"
        single = len(self.columns) == 1
        self._where = f"column {self.columns[0]!r}" if single else f"input {name!r}"

    def arrays(
        self, table: Mapping[str, Sequence[Any]], rows: int, folder: Path | None
    ) -> tuple[dict[str, np.ndarray], dict[int, str]]:
        """Cells → arrays named as in the graph.

        Args:
            table: Column → cells, `rows` each.
            rows: Number of rows.
            folder: Where media paths start; None: only media given as bytes are read.

        Returns:
            Array name → [rows, …], and position → reason for the rows that cannot be used; what stands in the arrays at
            these positions is blank.

        Raises:
            PackageError: If the processor gives another number of rows than it was given.
        """
        cells = {
            # Longer text is no spelling of null; asking `clean` about every cell would cost more than the graph.
            name: [cell if type(cell) is str and len(cell) > LONGEST_NULL else clean(cell) for cell in table[name]]
            for name in self.columns
        }
        reasons: dict[int, str] = {}
        while True:
            try:
                found = self._process(cells, folder)
                break
            except BadCells as problem:
                new = {at: reason for at, reason in problem.reasons.items() if 0 <= at < rows and at not in reasons}
                if not new:
                    raise PackageError(f"input {self.name!r}: the processor refuses blank cells: {problem}") from None
            except (AutommError, MemoryError):
                raise
            except Exception:
                new = self._raising(cells, rows, folder)
                if not new.keys() - reasons.keys():
                    raise
            reasons.update({at: self._named(reason) for at, reason in new.items()})
            for column in cells.values():
                for at in new:
                    column[at] = None
        arrays = {self._prefix + name: array for name, array in found.items()}
        for name, array in arrays.items():
            if len(array) != rows:
                raise PackageError(f"input {self.name!r}: {len(array)} rows of {name} for {rows} cells")
        present = [any(cell is not None for cell in row) for row in zip(*cells.values(), strict=True)]
        arrays[self._present] = np.array(present, bool)
        return arrays, reasons

    def _named(self, reason: str) -> str:
        return reason if reason.startswith("column ") else f"{self._where}: {reason}"

    def _process(self, cells: Cells, folder: Path | None) -> dict[str, np.ndarray]:
        return self.processor(input_cells(self.processor, self.columns, cells, folder, self.limits))

    def _raising(self, cells: Cells, rows: int, folder: Path | None) -> dict[int, str]:
        """Row by row: the positions where the processor raises, so that one odd cell does not cost the whole batch."""
        found = {}
        for at in range(rows):
            try:
                self._process({name: [column[at]] for name, column in cells.items()}, folder)
            except BadCells as problem:
                found[at] = next(iter(problem.reasons.values()), "cannot be used")
            except Exception as problem:
                found[at] = f"{self.processor.op} raised {type(problem).__name__}: {problem}"
        return found


def clean(cell: Any) -> Any:
    """The cell as plain Python; None if it is missing."""
    if isinstance(cell, np.generic):
        cell = cell.item()
    if is_null(cell) or type(cell).__name__ in ("NAType", "NaTType"):
        return None
    return cell
