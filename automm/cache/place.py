"""Where the cache lies, how large it may grow, and what is removed first."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from automm.errors import RecipeError

FORMAT = "v1"
"""Part of every path: a later layout never reads an earlier one."""
DEFAULT_GB = 20.0
LEAST_FREE = 0.1
"""Share of the disk that is left free, whatever the limit says."""
BUSY = 600.0
"""Seconds since the last use during which a segment is not removed for space."""
META = "meta.json"


@dataclass(frozen=True)
class Segment:
    """One complete folder of the cache.

    Attributes:
        folder: Where it is.
        nbytes: Its size.
        used: When it was last used, seconds since the epoch.
    """

    folder: Path
    nbytes: int
    used: float


def cache_folder() -> Path:
    """`AUTOMM_CACHE`, or `automm` in the user's cache folder."""
    named = os.environ.get("AUTOMM_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "automm"


def writable(folder: Path) -> bool:
    """Whether the cache can be used here."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{uuid.uuid4().hex}"
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


def limit_bytes(folder: Path) -> int:
    """How large the cache may grow: `AUTOMM_CACHE_GB`, and never so that the disk gets full.

    Raises:
        RecipeError: If the variable is no number.
    """
    named = os.environ.get("AUTOMM_CACHE_GB", str(DEFAULT_GB))
    try:
        limit = int(float(named) * 1e9)
    except ValueError:
        raise RecipeError(f"AUTOMM_CACHE_GB: {named!r} is no number of gigabytes") from None
    disk = shutil.disk_usage(folder)
    return max(min(limit, disk.free - int(LEAST_FREE * disk.total) + size_of(folder)), 0)


def segments(folder: Path) -> Iterator[Segment]:
    """All complete segments of a cache."""
    for meta in (folder / FORMAT).glob(f"*/*/{META}"):
        with contextlib.suppress(OSError):  # removed meanwhile
            files = [file.stat() for file in meta.parent.iterdir()]
            yield Segment(meta.parent, sum(file.st_size for file in files), meta.stat().st_mtime)


def size_of(folder: Path) -> int:
    """Bytes of all complete segments."""
    return sum(segment.nbytes for segment in segments(folder))


def touch(folder: Path) -> None:
    """Notes that a segment is used now."""
    with contextlib.suppress(OSError):  # a cache that others own is read all the same
        os.utime(folder / META)


def evict(folder: Path, limit: int) -> int:
    """Removes the least recently used segments until the rest is within the limit; those in use stay.

    Returns:
        Bytes removed.
    """
    found = sorted(segments(folder), key=lambda segment: segment.used)
    total, removed = sum(segment.nbytes for segment in found), 0
    for segment in found:
        if total - removed <= limit or segment.used > time.time() - BUSY:
            break
        if remove(segment.folder):
            removed += segment.nbytes
    return removed


def remove(folder: Path) -> bool:
    """Removes a segment: at once for readers that come later, and without harm to those that have it open."""
    trash = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.trash")
    try:
        os.rename(folder, trash)
    except OSError:  # another process was faster
        return False
    shutil.rmtree(trash, ignore_errors=True)
    return True


def sweep(space: Path) -> None:
    """Removes what killed processes left half-written in a space."""
    for leftover in (*space.glob("*.part"), *space.glob("*.trash")):
        with contextlib.suppress(OSError):
            if leftover.suffix == ".trash" or not _held(leftover):
                shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def writing(space: Path) -> Iterator[Path]:
    """A folder to write a segment into; held by a lock that ends with the process, whatever ends it.

    The caller renames it when it is complete; what is left of it is removed.
    """
    import fcntl

    part = space / f"{uuid.uuid4().hex[:12]}.part"
    space.mkdir(parents=True, exist_ok=True)
    with (space / f"{part.stem}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        part.mkdir()
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)
            Path(lock.name).unlink(missing_ok=True)


def _held(part: Path) -> bool:
    """Whether the process that writes a folder lives."""
    import fcntl

    try:
        with part.with_suffix(".lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    part.with_suffix(".lock").unlink(missing_ok=True)
    return False
