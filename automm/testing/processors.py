"""Checks of the processor that feeds an encoder, on the examples of the encoder's modality."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydantic

from automm.core.arrays import ArraySpec
from automm.core.processor import BadCells
from automm.core.vectors import VectorEncoder
from automm.runtime import strictjson
from automm.runtime.state import join_state, split_state, write_npz
from automm.testing.imports import BLOCKED, run_without_torch
from automm.testing.subject import ROWS, Subject, installed, is_operation, take, without

STRANGE: tuple[Any, ...] = ("", "\0", "Ωmega 🦊 zebra", "12e999", b"", b"\x89PNG\r\n garbage", [], [None, "x"])
"""Cells that a table or a request may hold where nobody expects them."""
SERVE = """
import ast, importlib, pathlib
from automm.runtime.state import join_state
folder = pathlib.Path({folder!r})
cls = getattr(importlib.import_module({module!r}), {name!r})
state = join_state((folder / "state.json").read_bytes(), (folder / "state.npz").read_bytes(), "state")
processor = cls(cls.Config.model_validate_json((folder / "config.json").read_text()), state)
processor(ast.literal_eval((folder / "cells.txt").read_text()))
"""


def processor_keeps_its_specs(subject: Subject) -> None:
    """The arrays are those that `specs` declares: names, dtypes and sizes, for present and for missing cells."""
    processor = subject.processor
    cells = without(subject.examples().cells, (1, 2))
    for rows in (ROWS, 1, 0):
        arrays = processor(take(cells, range(rows)))
        _like_specs(arrays, processor.specs(), rows, unknown=issubclass(subject.cls, VectorEncoder))


def _like_specs(arrays: dict[str, np.ndarray], specs: dict[str, ArraySpec], rows: int, unknown: bool) -> None:
    """Compares arrays with what is declared; NaN is allowed where it stands for `unknown` values."""
    assert arrays.keys() == specs.keys(), f"specs declares {sorted(specs)}, the processor gives {sorted(arrays)}"
    for name, array in arrays.items():
        spec = specs[name]
        assert array.dtype == np.dtype(spec.dtype), f"array {name!r} is {array.dtype}, specs says {spec.dtype}"
        fits = len(array.shape) == 1 + len(spec.shape) and all(
            isinstance(size, str) or size == found for size, found in zip(spec.shape, array.shape[1:], strict=True)
        )
        assert fits, f"array {name!r} has shape {list(array.shape)}, specs says [batch, {spec.shape}]"
        assert len(array) == rows, f"array {name!r} has {len(array)} rows for {rows} cells"
        if np.issubdtype(array.dtype, np.floating):
            assert not np.isinf(array).any(), f"array {name!r} holds infinity"
            assert unknown or not np.isnan(array).any(), f"array {name!r} holds NaN"


def processor_takes_cells_one_by_one(subject: Subject) -> None:
    """A cell alone gives the row that it gives in a batch, apart from padding. Serving relies on it."""
    processor, cells = subject.processor, subject.examples().cells
    specs, batch = processor.specs(), subject.arrays
    for row in range(0, ROWS, 5):
        for name, array in processor(take(cells, [row])).items():
            part, padding = batch[name][row], batch[name][row].copy()
            inside = tuple(slice(size) for size in array.shape[1:])
            rule = f"array {name!r}: a cell alone must give what it gives in a batch"
            np.testing.assert_allclose(array[0], part[inside], rtol=1e-6, atol=1e-6, err_msg=rule)
            padding[inside] = specs[name].pad
            assert bool((padding == specs[name].pad).all()), f"array {name!r}: padding must be {specs[name].pad}"


def processor_is_deterministic(subject: Subject) -> None:
    """The same cells give the same arrays, and two fits the same state."""
    cells = subject.examples().cells
    other = subject.cls.processor(subject.config, subject.examples().info)
    other.fit([cells])
    again, refitted = subject.processor(cells), other(cells)
    for name, array in subject.arrays.items():
        np.testing.assert_array_equal(array, again[name], f"array {name!r} differs the second time")
        np.testing.assert_array_equal(array, refitted[name], f"array {name!r} differs after a second fit")


def processor_leaves_missing_cells_blank(subject: Subject) -> None:
    """A missing cell gives a blank row and changes no other row."""
    processor, cells = subject.processor, subject.examples().cells
    full, holed = subject.arrays, processor(without(cells, (0, 3)))
    nothing = processor(without(take(cells, [0]), (0,)))
    for name, array in holed.items():
        inside = tuple(slice(size) for size in nothing[name].shape[1:])
        for row in (0, 3):
            np.testing.assert_array_equal(array[row][inside], nothing[name][0], f"array {name!r}: missing cells differ")
        for row in (1, 4):
            shared = tuple(slice(min(sizes)) for sizes in zip(array.shape[1:], full[name].shape[1:], strict=True))
            rule = f"array {name!r}: a missing cell changed another row"
            np.testing.assert_allclose(array[row][shared], full[name][row][shared], rtol=1e-6, atol=1e-6, err_msg=rule)


def processor_state_can_be_stored(subject: Subject) -> None:
    """Its configuration and its state without caches, stored and read, give the same arrays."""
    processor: Any = subject.processor
    plain, arrays = split_state(processor.state)
    state = join_state(strictjson.dumps(plain), write_npz(arrays), "state")
    config = type(processor.config).model_validate_json(processor.config.model_dump_json())
    again = type(processor)(config, state)
    assert again.specs() == processor.specs(), "specs change when the state is stored"
    cells = subject.examples(seed=1).cells
    for name, array in again(cells).items():
        np.testing.assert_array_equal(
            array, subject.other_arrays[name], f"array {name!r} changes when the state is stored"
        )


def processor_has_an_operation(subject: Subject) -> None:
    """Packages can name it: it has an operation id (an entry point, if installed) and a version, and sane limits."""
    processor = subject.processor
    assert processor.op and processor.version >= 1, f"op {processor.op!r}, version {processor.version}"
    for name, bound in processor.limits.items():
        assert isinstance(bound, int | float) and bound > 0, f"limit {name!r} is {bound!r}"
    owner = installed().owner(subject.cls)
    if owner is not None and owner.distribution != "local":
        rule = f"add {processor.op!r} to the entry points of the group automm_ops, and install again"
        assert is_operation(type(processor)), f"packages do not find this processor: {rule}"


def processor_refuses_what_it_cannot_read(subject: Subject) -> None:
    """A cell of another form is read, or refused with `BadCells` and a reason; nothing else is raised."""
    processor, cells = subject.processor, take(subject.examples().cells, (0, 1))
    for strange in STRANGE:
        if processor.media and isinstance(strange, str) and not processor.inline(strange):
            continue  # a path, which arrives as one
        odd: Any = (
            {name: [strange, column[1]] for name, column in cells.items()} if isinstance(cells, Mapping) else None
        )
        try:
            arrays = processor(odd if odd is not None else [strange, cells[1]])
        except BadCells as problem:
            assert set(problem.reasons) <= {0}, f"cell {strange!r} is at 0, BadCells names {sorted(problem.reasons)}"
            assert all(problem.reasons.values()), f"cell {strange!r}: BadCells needs a reason"
        except Exception as problem:
            raise AssertionError(
                f"cell {str(strange)[:40]!r}: raised {type(problem).__name__}: {problem}; raise BadCell with the reason"
            ) from problem
        else:
            _like_specs(arrays, processor.specs(), 2, unknown=True)


def processor_takes_unseen_values(subject: Subject) -> None:
    """Cells that `fit` has not seen give finite arrays of the declared sizes."""
    unknown = issubclass(subject.cls, VectorEncoder)
    _like_specs(subject.other_arrays, subject.processor.specs(), ROWS, unknown=unknown)
    cells = take(subject.examples(seed=1).cells, range(8))
    holed = subject.cls.processor(subject.config, subject.examples().info)
    holed.fit([take(cells, range(6)), without(take(cells, range(6)), range(4))])
    _like_specs(holed(cells), holed.specs(), 8, unknown=unknown)


def processor_leaves_cells_alone(subject: Subject) -> None:
    """Cells are not changed in place."""
    cells = take(subject.examples().cells, range(8))
    before = copy.deepcopy(cells)
    subject.processor(cells)
    assert repr(before) == repr(cells), "the processor must not change its cells"


def processor_respects_its_limits(subject: Subject) -> None:
    """With a limit lowered to zero the examples are refused or cut: what `limits` declares is what happens."""
    processor: Any = subject.processor
    cells = take(subject.examples().cells, (0, 1))
    whole = processor(cells)
    in_files = isinstance(cells, list) and isinstance(cells[0], bytes)
    for name, bound in processor.limits.items():
        if name == "bytes" and not in_files:
            continue
        lower = _lowered(processor, name, bound)
        arrays = None
        if lower is not None:
            with contextlib.suppress(Exception):  # refused, as it should be
                arrays = lower(cells)
        if arrays is None:
            continue
        alike = all(
            array.shape == whole[key].shape and np.array_equal(array, whole[key], equal_nan=array.dtype.kind == "f")
            for key, array in arrays.items()
        )
        assert not alike, f"with the limit {name!r} at 0 the processor reads the examples as before"


def _lowered(processor: Any, name: str, bound: float) -> Any:
    """The processor with the configuration field that sets a limit at zero; None if no field does (a constant)."""
    for config in _zeroed(processor.config):
        lower = type(processor)(config, processor.state)
        with contextlib.suppress(Exception):  # a field that is no limit, and may not be zero
            if lower.limits.get(name, bound) < bound:
                return lower
    return None


def _zeroed(config: pydantic.BaseModel) -> Iterator[pydantic.BaseModel]:
    """The configuration with one number after the other at zero, whatever its fields allow."""
    for name, value in config:
        if isinstance(value, pydantic.BaseModel):
            yield from (config.model_copy(update={name: inner}) for inner in _zeroed(value))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield config.model_copy(update={name: 0})


def processor_works_without_torch(subject: Subject) -> None:
    """It runs where torch is absent, as in serving."""
    cls = type(subject.processor)
    plain, arrays = split_state(subject.processor.state)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.json").write_text(subject.processor.config.model_dump_json())
        (folder / "state.json").write_bytes(strictjson.dumps(plain))
        (folder / "state.npz").write_bytes(write_npz(arrays))
        (folder / "cells.txt").write_text(repr(take(subject.examples().cells, range(4))))
        _, problem = run_without_torch(SERVE.format(folder=name, module=cls.__module__, name=cls.__name__))
    assert not problem, f"processor {cls.__name__} without {', '.join(BLOCKED)}: {problem}"


CHECKS = (
    processor_keeps_its_specs,
    processor_takes_cells_one_by_one,
    processor_is_deterministic,
    processor_leaves_missing_cells_blank,
    processor_state_can_be_stored,
    processor_has_an_operation,
    processor_takes_unseen_values,
    processor_refuses_what_it_cannot_read,
    processor_leaves_cells_alone,
    processor_respects_its_limits,
    processor_works_without_torch,
)
