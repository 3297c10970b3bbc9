"""Writing the files of an array store, piece by piece."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from automm.core.arrays import ArraySpec


class _NpyWriter:
    """Appends to an .npy file, whose header is completed at the end; nothing of it stays in memory."""

    def __init__(self, path: Path, dtype: str, shape: Sequence[int]) -> None:
        self._file: BinaryIO = path.open("wb")
        self._dtype, self._shape, self._rows = np.dtype(dtype), tuple(shape), 0
        self._header()

    def _header(self) -> None:
        shape = (self._rows, *self._shape)
        described = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        self._file.seek(0)
        # NumPy leaves room in the header for the first size to grow.
        np.lib.format.write_array_header_1_0(self._file, described)

    def append(self, values: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(values, self._dtype).data)
        self._rows += len(values)

    def close(self) -> None:
        self._header()
        self._file.close()


class StoreWriter:
    """Writes the files of a store, piece by piece."""

    def __init__(self, folder: Path, specs: Mapping[str, ArraySpec]) -> None:
        self._folder, self._specs = folder, specs
        self._files = {
            name: _NpyWriter(
                folder / f"array_{name}.npy", spec.dtype, [int(size) for size in spec.shape] if spec.fixed else []
            )
            for name, spec in specs.items()
        }
        self._shapes: dict[str, list[tuple[int, ...]]] = {name: [] for name, spec in specs.items() if not spec.fixed}

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def append(self, arrays: Mapping[str, Any]) -> None:
        """One entry per row and array."""
        for name, values in arrays.items():
            if self._specs[name].fixed:
                self._files[name].append(values)
                continue
            for value in values:
                self._files[name].append(value.reshape(-1))
                self._shapes[name].append(value.shape)

    def finish(
        self,
        rows: np.ndarray,
        present: np.ndarray,
        bad: np.ndarray,
        refused: Sequence[tuple[int, str, str]],
        at: np.ndarray,
    ) -> None:
        """Writes what is known of all rows, and which entry each of them has; the store is complete then."""
        if not np.array_equal(at, np.arange(len(rows))):
            np.save(self._folder / "at.npy", at)
        for name, found in self._shapes.items():
            shape = (len(found), len(self._specs[name].shape))
            np.save(self._folder / f"shapes_{name}.npy", np.array(found, np.int64).reshape(shape))
        for name, array in (("rows", rows), ("present", present), ("bad", bad)):
            np.save(self._folder / f"{name}.npy", array)
        (self._folder / "bad.json").write_text(json.dumps(refused, ensure_ascii=False), "utf-8")
        described = {name: (spec.dtype, spec.shape, spec.pad) for name, spec in self._specs.items()}
        (self._folder / "meta.json").write_text(json.dumps({"specs": described}, allow_nan=False), "utf-8")
