"""What the server is told at its start."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Limits:
    """What a request may ask for. Limits of single cells (pixels, seconds, …) are the package's own.

    Attributes:
        body: Largest body in bytes, before and after decompression.
        bodies: Bytes of all bodies that are held at a time.
        rows: Most rows of a request.
        characters: Longest text of a cell.
        connections: Most open connections of a worker.
        head_seconds: Time for the request line and headers to arrive.
        body_seconds: Time for a body to arrive, plus one second for every `body_rate` bytes that came.
        body_rate: Slowest bytes a second.
    """

    body: int = 32 * 2**20
    bodies: int = 256 * 2**20
    rows: int = 1000
    characters: int = 1_000_000
    connections: int = 2048
    head_seconds: float = 10.0
    body_seconds: float = 10.0
    body_rate: int = 64 * 2**10


@dataclass(frozen=True)
class Batching:
    """How requests share a run of the model.

    Attributes:
        rows: Most rows of a run; 1 turns batching off.
        wait: Seconds a run waits for more rows when the model is idle; while it is busy, rows gather anyway.
        queue: Most rows that wait; a request that finds it full gets 429.
        parallel: Runs of a model at a time.
    """

    rows: int = 64
    wait: float = 0.0
    queue: int = 512
    parallel: int = 1


@dataclass(frozen=True)
class Settings:
    """Everything a worker needs to know; plain values.

    Attributes:
        sources: Model name → package folder, or folder of versions.
        timeout: Seconds from a request's last byte to its answer; after that 504.
        threads: Threads of a run; by default the cores divided by the workers.
        workers: Processes.
        poll: Seconds between looks at the folders for new versions; 0: never.
        drain: Seconds between SIGTERM and closing the port, in which the server says that it is not ready.
        keys: Accepted API keys; empty: no key is asked for.
        capture: Folder for captured requests.
        capture_bytes: Most bytes in it.
        allow_missing: Columns that a request leaves out count as missing.
        examples: Whether the packages' golden rows are offered as examples.
        plugins: Local plugin files.
        replaces: Whether this worker comes beside the first or in place of one that ended: it takes no request before
            it can answer it.
        tells: The end of a pipe into which the first worker writes when it is ready.
        told: The other end, for the others.
    """

    sources: dict[str, Path]
    host: str = "127.0.0.1"
    port: int = 8080
    limits: Limits = field(default_factory=Limits)
    batching: Batching = field(default_factory=Batching)
    timeout: float = 30.0
    threads: int | None = None
    workers: int = 1
    poll: float = 2.0
    drain: float = 5.0
    keys: tuple[str, ...] = ()
    capture: Path | None = None
    capture_bytes: int = 100 * 2**20
    allow_missing: bool = False
    examples: bool = False
    plugins: tuple[Path, ...] = ()
    log_level: str = "info"
    replaces: bool = False
    tells: int | None = None
    told: int | None = None
