"""Arrays of entries in a folder: what stores and the cache are made of."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from automm.core.arrays import ArraySpec

IN_MEMORY = 2**30
"""Entries below this many bytes in all are read into memory, larger ones are mapped."""
META = "meta.json"
SUMS = "crc32"
"""In the description of a segment of the cache: the check-sums of its files."""
_INTACT: dict[Path, bool] = {}


class Entries:
    """The arrays of a folder, entry by entry. Files with check-sums are compared with them, once per process.

    Attributes:
        folder: Where they are.
        specs: Array name → specification.
        nbytes: Size of the files.

    Raises:
        OSError: If the folder is not complete.
        ValueError: If a file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        meta = json.loads((folder / META).read_text("utf-8"))
        if SUMS in meta:
            if folder not in _INTACT:
                _INTACT[folder] = dict(meta[SUMS]).items() <= checksums(folder, meta).items()
            if not _INTACT[folder]:
                raise ValueError(f"{folder}: its files are not what was written")
        self.specs = {name: ArraySpec(dtype, tuple(shape), pad) for name, (dtype, shape, pad) in meta["specs"].items()}
        self.nbytes = sum(file.stat().st_size for file in folder.glob("*.npy"))
        keep = self.nbytes < IN_MEMORY
        self._values = {name: load_npy(folder / f"array_{name}.npy", keep) for name in self.specs}
        varying = [name for name, spec in self.specs.items() if not spec.fixed]
        self._shapes = {name: load_npy(folder / f"shapes_{name}.npy") for name in varying}
        self._offsets = {
            name: np.concatenate([[0], np.cumsum(shapes.prod(1, dtype=np.int64))])
            for name, shapes in self._shapes.items()
        }
        self.count = int(meta["count"])

    @property
    def lengths(self) -> np.ndarray | None:
        """The longest varying size of every entry, int64 [n]; None if all entries have the same shapes."""
        longest = [
            shapes[:, [axis for axis, size in enumerate(self.specs[name].shape) if isinstance(size, str)]].max(1)
            for name, shapes in self._shapes.items()
        ]
        return np.max(longest, axis=0) if longest else None

    def batch(self, at: np.ndarray) -> dict[str, np.ndarray]:
        """Some entries as batch arrays, padded to the longest of them: array name → [batch, …]."""
        return {name: self._array(name, spec, at) for name, spec in self.specs.items()}

    def entry(self, at: int) -> dict[str, np.ndarray]:
        """One entry without padding."""
        found = {}
        for name, values in self._values.items():
            if name in self._shapes:
                start, end = self._offsets[name][at : at + 2]
                found[name] = values[start:end].reshape(self._shapes[name][at])
            else:
                found[name] = values[at]
        return found

    def _array(self, name: str, spec: ArraySpec, positions: np.ndarray) -> np.ndarray:
        values = self._values[name]
        if spec.fixed:
            return values.take(positions, axis=0)
        shapes = self._shapes[name][positions]
        starts, ends = self._offsets[name][positions].tolist(), self._offsets[name][positions + 1].tolist()
        longest = shapes.max(0, initial=1) if len(positions) else np.ones(len(spec.shape), np.int64)
        sizes = [int(most) if isinstance(size, str) else size for size, most in zip(spec.shape, longest, strict=True)]
        out = np.full((len(positions), *sizes), spec.pad, spec.dtype)
        if len(sizes) == 1:
            for at, (start, end) in enumerate(zip(starts, ends, strict=True)):
                out[at, : end - start] = values[start:end]
            return out
        for at, (start, end, shape) in enumerate(zip(starts, ends, shapes.tolist(), strict=True)):
            out[at][tuple(slice(size) for size in shape)] = values[start:end].reshape(shape)
        return out


def load_npy(path: Path, in_memory: bool = True) -> np.ndarray:
    """An .npy file, read or mapped.

    Raises:
        OSError: If it cannot be opened.
        ValueError: If it is damaged.
    """
    try:
        array = np.load(path, allow_pickle=False) if in_memory else np.load(path, mmap_mode="r", allow_pickle=False)
    except (TokenError, SyntaxError, TypeError, KeyError, EOFError, MemoryError) as problem:  # of a damaged header
        raise ValueError(f"{path}: damaged ({problem})") from problem
    # A plain view of the mapping: indexing `np.memmap` itself costs several times as much.
    return np.asarray(array)


class _NpyWriter:
    """Appends to an .npy file, whose header is completed at the end; nothing of it stays in memory."""

    def __init__(self, path: Path, dtype: str, shape: Sequence[int]) -> None:
        self._file = path.open("wb")
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
        if not self._file.closed:
            self._header()
            self._file.close()


class EntriesWriter:
    """Writes the files of entries, piece by piece. Complete after `finish`."""

    def __init__(self, folder: Path, specs: Mapping[str, ArraySpec]) -> None:
        self._folder, self._specs = folder, specs
        self._files = {
            name: _NpyWriter(
                folder / f"array_{name}.npy", spec.dtype, [int(size) for size in spec.shape] if spec.fixed else []
            )
            for name, spec in specs.items()
        }
        self._shapes: dict[str, list[tuple[int, ...]]] = {name: [] for name, spec in specs.items() if not spec.fixed}
        self.count = 0

    def __enter__(self) -> EntriesWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def append(self, arrays: Mapping[str, Any], count: int) -> None:
        """Appends some entries.

        Args:
            arrays: Array name → one value per entry.
            count: How many.
        """
        for name, values in arrays.items():
            if self._specs[name].fixed:
                self._files[name].append(values)
                continue
            for value in values:
                self._files[name].append(value.reshape(-1))
                self._shapes[name].append(value.shape)
        self.count += count

    def finish(self, **more: Any) -> None:
        """Closes the files and writes what describes them.

        Args:
            **more: Kept in the description: plain JSON.
        """
        self.__exit__()
        for name, found in self._shapes.items():
            shape = (len(found), len(self._specs[name].shape))
            np.save(self._folder / f"shapes_{name}.npy", np.array(found, np.int64).reshape(shape))
        described = {name: (spec.dtype, spec.shape, spec.pad) for name, spec in self._specs.items()}
        meta = {"specs": described, "count": self.count, **more}
        (self._folder / META).write_text(json.dumps(meta, allow_nan=False), "utf-8")


def checksums(folder: Path, meta: Mapping[str, Any]) -> dict[str, int]:
    """CRC-32 of every .npy file of a folder by name, and of its description."""
    described = json.dumps({key: value for key, value in meta.items() if key != SUMS}, sort_keys=True)
    sums = {file.name: _crc(file) for file in sorted(folder.glob("*.npy"))}
    return {**sums, META: zlib.crc32(described.encode())}


def _crc(file: Path) -> int:
    value = 0
    with file.open("rb") as source:
        for piece in _pieces(source):
            value = zlib.crc32(piece, value)
    return value


def _pieces(source: Any) -> Iterator[bytes]:
    while piece := source.read(2**22):
        yield piece
