"""One space of the cache: all entries that were computed in the same way, found by what they were computed from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from automm.cache.contents import KEY
from automm.cache.entries import SUMS, Entries, EntriesWriter, checksums, load_npy
from automm.cache.place import FORMAT, META, evict, limit_bytes, remove, sweep, touch, writing
from automm.core.arrays import ArraySpec
from automm.errors import StorageError

UNKNOWN = bytes(KEY)
"""The key of an entry that is not to be found again: a cell that was refused."""


@dataclass
class Piece:
    """Some entries as they were computed.

    Attributes:
        arrays: Array name → one value per entry.
        present: Whether the cell is there, bool [entries].
        refused: Position within the piece → why the cell cannot be used.
    """

    arrays: Mapping[str, Sequence[np.ndarray]]
    present: np.ndarray
    refused: dict[int, str] = field(default_factory=dict)


Compute = Callable[[np.ndarray], Iterator[Piece]]
"""Positions among the keys → their entries, in the same order, in pieces."""


@dataclass(frozen=True)
class Gathered:
    """Where the entries of some keys lie.

    Attributes:
        sources: Folders with entries.
        source: Which of them has the entry of a key, int64 [keys].
        at: Its position there, int64 [keys].
        present: Bool [keys].
        refused: Position among the keys → reason.
        computed: How many were computed now.
    """

    sources: list[Path]
    source: np.ndarray
    at: np.ndarray
    present: np.ndarray
    refused: dict[int, str]
    computed: int


class Space:
    """Entries that one way of computing gives, in segments that are never changed once they are complete.

    Args:
        root: The cache's folder.
        how: Everything that the entries depend on but the cell: plain JSON.
        specs: Array name → specification.
        about: What people call it, for `automm cache info`.
    """

    def __init__(self, root: Path, how: Any, specs: Mapping[str, ArraySpec], about: str) -> None:
        described = {name: (spec.dtype, spec.shape, spec.pad) for name, spec in specs.items()}
        text = json.dumps([how, described], sort_keys=True, default=str)
        self.root, self._specs, self._about = root, specs, about
        self.folder = root / FORMAT / hashlib.sha256(text.encode()).hexdigest()[:24]

    def gather(self, keys: Sequence[bytes], compute: Compute) -> Gathered:
        """Finds the entries of all keys; what is not there is computed, once for equal keys, and kept.

        Args:
            keys: What each entry is computed from.
            compute: Gives the entries that are missing.

        Raises:
            StorageError: If the disk is full or not writable.
        """
        sources, source, at = self._find(keys)
        missing = np.flatnonzero(source < 0)
        present = np.ones(len(keys), bool)
        for number, folder in enumerate(sources):
            own = source == number
            present[own] = load_npy(folder / "present.npy")[at[own]]
            touch(folder)
        refused: dict[int, str] = {}
        numbers: dict[bytes, int] = {}
        if len(missing):
            alike = np.array([numbers.setdefault(keys[position], len(numbers)) for position in missing.tolist()])
            firsts = missing[np.unique(alike, return_index=True)[1]]
            try:
                made, here, reasons = self._compute(keys, firsts, compute)
            except OSError as problem:
                raise StorageError(f"cannot write into the cache {self.root} (AUTOMM_CACHE): {problem}") from problem
            source[missing], at[missing] = len(sources), alike
            present[missing] = here[alike]
            pairs = zip(missing.tolist(), alike.tolist(), strict=True)
            refused = {position: reasons[number] for position, number in pairs if number in reasons}
            sources.append(made)
        return Gathered(sources, source, at, present, refused, len(numbers))

    def _find(self, keys: Sequence[bytes]) -> tuple[list[Path], np.ndarray, np.ndarray]:
        """Segments that hold entries of the keys, the largest share first."""
        source, at = np.full(len(keys), -1, np.int64), np.zeros(len(keys), np.int64)
        found: list[Path] = []
        known = [(folder, self._keys(folder)) for folder in self._complete()]
        while len(open_ := np.flatnonzero(source < 0)) and known:
            hits = [[position for position in open_.tolist() if keys[position] in own] for _, own in known]
            best = max(range(len(known)), key=lambda number: len(hits[number]))
            if not hits[best]:
                break
            folder, own = known.pop(best)
            if not _sound(folder):  # a damaged segment is as if it had never been written
                remove(folder)
                continue
            source[hits[best]] = len(found)
            at[hits[best]] = [own[keys[position]] for position in hits[best]]
            found.append(folder)
        return found, source, at

    def _complete(self) -> list[Path]:
        return sorted(meta.parent for meta in self.folder.glob(f"*/{META}") if meta.parent.suffix == "")

    def _keys(self, folder: Path) -> dict[bytes, int]:
        try:
            raw = load_npy(folder / "keys.npy").tobytes()
        except (OSError, ValueError):
            return {}
        found = {raw[at : at + KEY]: at // KEY for at in range(0, len(raw), KEY)}
        found.pop(UNKNOWN, None)
        return found

    def _compute(
        self, keys: Sequence[bytes], missing: np.ndarray, compute: Compute
    ) -> tuple[Path, np.ndarray, dict[int, str]]:
        sweep(self.folder)
        present = np.zeros(len(missing), bool)
        refused: dict[int, str] = {}
        with writing(self.folder) as part:
            with EntriesWriter(part, self._specs) as writer:
                done = 0
                for piece in compute(missing):
                    count = len(piece.present)
                    writer.append(piece.arrays, count)
                    present[done : done + count] = piece.present
                    refused |= {done + position: reason for position, reason in piece.refused.items()}
                    done += count
                kept = [UNKNOWN if at in refused else keys[position] for at, position in enumerate(missing.tolist())]
                np.save(part / "keys.npy", np.frombuffer(b"".join(kept), np.uint8).reshape(-1, KEY))
                np.save(part / "present.npy", present)
                writer.finish(about=self._about)
            meta = json.loads((part / META).read_text("utf-8"))
            (part / META).write_text(json.dumps({**meta, SUMS: checksums(part, meta)}), "utf-8")
            home = self.folder / uuid.uuid4().hex[:16]
            os.rename(part, home)
        with contextlib.suppress(OSError):
            evict(self.root, limit_bytes(self.root))
        return home, present, refused


def _sound(folder: Path) -> bool:
    """Whether the files are what was written."""
    try:
        Entries(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True
