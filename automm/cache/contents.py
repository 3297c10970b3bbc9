"""Cells → digests of what they hold. A file's digest is remembered by its path, size and time of change."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

KEY = 16
"""Bytes of a digest."""
_SETTLED_NS = 2 * 10**9
"""A file that changed less than this before it was read may change again without its time telling."""


class Contents:
    """Digests of cells.

    Args:
        folder: Of the cache; the digests of files are remembered in a database there. Without one, or where it cannot
            be used, every file is read each time.
    """

    def __init__(self, folder: Path | None) -> None:
        self._memo: sqlite3.Connection | None = None
        if folder is not None:
            with contextlib.suppress(sqlite3.Error, OSError):
                folder.mkdir(parents=True, exist_ok=True)
                self._memo = sqlite3.connect(folder / "files.sqlite", timeout=5.0)
                self._memo.execute("PRAGMA journal_mode=WAL")
                self._memo.execute("PRAGMA synchronous=NORMAL")
                self._memo.execute(
                    "CREATE TABLE IF NOT EXISTS files"
                    " (path TEXT PRIMARY KEY, size INTEGER, changed INTEGER, inode INTEGER, digest BLOB)"
                )

    def __call__(self, cells: Iterable[Any]) -> list[bytes]:
        """The digest of every cell; cells with equal digests hold the same."""
        found = [self._digest(cell) for cell in cells]
        if self._memo is not None:
            with contextlib.suppress(sqlite3.Error):
                self._memo.commit()
        return found

    def _digest(self, cell: Any) -> bytes:
        if isinstance(cell, Path):
            return self._file(cell)
        if isinstance(cell, list | tuple) and any(isinstance(one, Path) for one in cell):
            return digest_of(b"".join(map(self._digest, cell)))
        return digest_of(cell)

    def _file(self, path: Path) -> bytes:
        try:
            stat = os.stat(path)
            stamp = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
            known = self._known(path, stamp)
            if known is not None:
                return known
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, _blake).digest()
                now = os.fstat(file.fileno())
        except OSError as problem:
            return digest_of(["unreadable", str(path), problem.errno])
        # A clock that was set back makes files look new: they are read again.
        if (now.st_size, now.st_mtime_ns) == stamp[:2] and time.time_ns() - stat.st_mtime_ns > _SETTLED_NS:
            self._remember(path, stamp, digest)
        return digest

    def _known(self, path: Path, stamp: tuple[int, int, int]) -> bytes | None:
        if self._memo is None:
            return None
        try:
            row = self._memo.execute(
                "SELECT digest FROM files WHERE path = ? AND size = ? AND changed = ? AND inode = ?",
                (str(path), *stamp),
            ).fetchone()
        except sqlite3.Error:
            return None
        return row[0] if row is not None and isinstance(row[0], bytes) and len(row[0]) == KEY else None

    def _remember(self, path: Path, stamp: tuple[int, int, int], digest: bytes) -> None:
        if self._memo is not None:
            with contextlib.suppress(sqlite3.Error):
                self._memo.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", (str(path), *stamp, digest))

    def close(self) -> None:
        """Closes the database."""
        if self._memo is not None:
            self._memo.close()


def _blake() -> Any:
    return hashlib.blake2b(digest_size=KEY)


def digest_of(cell: Any) -> bytes:
    """The digest of a cell that is no file."""
    data = cell if isinstance(cell, bytes) else f"{type(cell).__name__} {cell!r}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=KEY, person=b"bytes" if isinstance(cell, bytes) else b"value").digest()
