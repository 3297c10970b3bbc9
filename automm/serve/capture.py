"""Capturing requests, where the operator asks for it: rows as JSON lines that `automm update` and `monitor` read.

The folder holds one file of rows per worker and, under `media/`, the files that came with them, each once, named by its
SHA-256; cells in the rows name them by that path. When the folder is full, capturing ends; nothing is ever deleted.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from automm.runtime.predictor import Predictions
from automm.serve.logs import log
from automm.serve.metrics import Metrics

_ENTRIES = 256
"""Requests that wait to be written; with a slow disk further ones are left out."""


class Capture:
    """Writes rows in a thread of its own; the server never waits for the disk.

    Args:
        folder: Where to; made if it is absent, readable by this user only.
        most: Most bytes in the folder, of all workers together.
        metrics: Counts rows that were written and left out.
    """

    def __init__(self, folder: Path, most: int, metrics: Metrics) -> None:
        self._folder, self._most = folder, most
        self._written = metrics.captured.labels("written")
        self._left = metrics.captured.labels("left")
        (folder / "media").mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"rows-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.jsonl"
        handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._file = open(handle, "ab", buffering=0)  # noqa: SIM115
        self._entries: queue.Queue[tuple[dict[str, Any], Mapping[str, Sequence[Any]], Predictions] | None]
        self._entries = queue.Queue(_ENTRIES)
        self._full = False
        self._thread = threading.Thread(target=self._work, name="capture", daemon=True)
        self._thread.start()

    def add(self, model: str, version: str, table: Mapping[str, Sequence[Any]], found: Predictions) -> None:
        """Keeps a request's rows, as far as they went to the model."""
        head = {"_time": datetime.now(UTC).isoformat(timespec="seconds"), "_model": model, "_version": version}
        try:
            self._entries.put_nowait((head, table, found))
        except queue.Full:
            self._left.inc(len(found))

    def close(self) -> None:
        """Writes what still waits."""
        self._entries.put(None)
        self._thread.join(10)
        self._file.close()

    def _work(self) -> None:
        while (entry := self._entries.get()) is not None:
            head, table, found = entry
            try:
                written = not self._full and self._write(head, table, found)
            except OSError as problem:
                written = False
                self._stop(f"cannot be written: {problem.strerror}")
            (self._written if written else self._left).inc(len(found))

    def _write(self, head: dict[str, Any], table: Mapping[str, Sequence[Any]], found: Predictions) -> bool:
        media: dict[str, bytes] = {}
        lines = []
        for at in range(len(found)):
            row = {name: _plain(cells[at], media) for name, cells in table.items()}
            results = {f"_{name}": values[at] for name, values in found.columns.items()}
            lines.append(orjson.dumps({**row, **head, **results, "_error": found.refused.get(at)}) + b"\n")
        text = b"".join(lines)
        new = {name: data for name, data in media.items() if not (self._folder / name).exists()}
        # Looked up each time: other workers write into the same folder.
        if self._size() + len(text) + sum(map(len, new.values())) > self._most:
            self._stop(f"is full ({self._most:,} bytes)")
            return False
        for name, data in new.items():
            self._store(self._folder / name, data)
        self._file.write(text)
        return True

    def _stop(self, reason: str) -> None:
        self._full = True
        log("capture ended", reason=f"the folder {reason}")

    def _size(self) -> int:
        size = 0
        for folder in (self._folder, self._folder / "media"):
            with os.scandir(folder) as entries:
                size += sum(entry.stat().st_size for entry in entries if entry.is_file(follow_symlinks=False))
        return size

    @staticmethod
    def _store(path: Path, data: bytes) -> None:
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        draft.replace(path)


def _plain(cell: Any, media: dict[str, bytes]) -> Any:
    """A cell as JSON; bytes become the name of a file."""
    if not isinstance(cell, bytes):
        return cell
    name = f"media/{hashlib.sha256(cell).hexdigest()}"
    media[name] = cell
    return name
