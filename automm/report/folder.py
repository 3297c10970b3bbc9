"""The run folder: its lock, the event log from which everything else is drawn, and files written whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from automm.errors import StorageError

UNFINISHED = (
    ".package.*", ".*.json.*", "trials/*/.*.json.*", "trials/*/*.partial",
    "work/*/*.part", "work/processors/*/.*.json.*",
)  # fmt: skip
"""What is written under such a name gets its own name when it is whole."""
EVENTS = "events.jsonl"
Listener = Callable[[dict[str, Any]], None]


def finite(value: Any) -> Any:
    """The same JSON value with None in place of NaN and infinities."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def write_json(path: Path, value: Any) -> None:
    """Writes strict JSON, whole or not at all.

    Raises:
        StorageError: If the disk is full or not writable.
    """
    text = json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with partial.open("w", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


class storage_errors:  # noqa: N801 - reads as a statement
    """Turns an error of the disk (full, read-only, not a folder, …) into a `StorageError` that names the path."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, problem: BaseException | None, trace: Any) -> None:
        if isinstance(problem, OSError):
            hint = "free some space" if problem.errno in (errno.ENOSPC, errno.EDQUOT) else "choose another --out"
            raise StorageError(
                f"cannot write {self._path}: {problem.strerror}; {hint} and run the same command again"
            ) from problem


def trial_folder(run: Path, name: str) -> Path:
    """The folder of a trial or baseline inside a run folder."""
    return run / "trials" / name


def read_report(folder: Path) -> dict[str, Any] | None:
    """The report of a trial that ended; None if it did not, or if the file is damaged."""
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return report if isinstance(report, dict) and {"name", "state", "value", "resolved"} <= report.keys() else None


def asked_for(report: Mapping[str, Any]) -> Any:
    """The configuration that a report's trial was asked to train, whatever became of it."""
    return report.get("asked") or report["resolved"]


def _user(path: Path) -> str:
    """Who holds the lock of a run folder, for the message."""
    text = (path / ".lock").read_text(encoding="utf-8", errors="replace").strip()
    return f" ({text})" if text else ""


class RunFolder:
    """One run's folder, used by one process at a time.

    Layout: `recipe.yaml`, `plan.json`, `events.jsonl` (append-only), `study.json`, `study.journal`, `trials/<name>/`,
    `work/` (tables, processors, arrays), `bad_rows.csv`, `tensorboard/`, `summary.json`,
    `report.html`, `package/`.

    Args:
        path: The folder; made if absent.
        listener: Is given every event.

    Raises:
        StorageError: If another process uses it, or it cannot be written.
    """

    def __init__(self, path: Path, listener: Listener = lambda _: None) -> None:
        self.path, self._listener = path, listener
        with storage_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            self._lock = (path / ".lock").open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            user = _user(path)
            raise StorageError(f"another run{user} is using {path}; wait for it, or choose another --out") from None
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._lock.flush()
        self._log = path / EVENTS
        self._mend()
        self._sweep()
        self._began = time.monotonic()

    def _mend(self) -> None:
        """Ends a last line that a kill left unfinished, so that the next event starts on its own."""
        if self._log.exists() and (data := self._log.read_bytes()) and not data.endswith(b"\n"):
            with self._log.open("r+b") as file:
                file.truncate(data.rfind(b"\n") + 1)

    def _sweep(self) -> None:
        """Removes what a kill left half-written; a package that was about to be replaced gets its place back."""
        for old in self.path.glob(".package.old.*/package"):
            if not (self.path / old.name).exists():
                old.rename(self.path / old.name)
        for pattern in UNFINISHED:
            for left in self.path.glob(pattern):
                with contextlib.suppress(OSError):
                    shutil.rmtree(left) if left.is_dir() else left.unlink()

    def event(self, event: str, **facts: Any) -> None:
        """Appends an event and shows it to the listener."""
        entry = finite(
            {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "elapsed": round(time.monotonic() - self._began, 3),
                "event": event,
                **facts,
            }
        )
        with storage_errors(self._log), self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n")
        self._listener(entry)

    def names(self, event: str) -> set[str]:
        """The names in all events of a kind."""
        found = set()
        for line in self._log.read_text("utf-8").split("\n"):
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                found |= {entry["name"]} if entry["event"] == event else set()
        return found

    def report(self, name: str) -> dict[str, Any] | None:
        """The report of a trial that ended, None otherwise."""
        return read_report(trial_folder(self.path, name))

    def close(self) -> None:
        """Lets another process use the folder."""
        self._lock.close()
