"""Micro-batching: requests that wait while the model runs share its next run.

There is no timer by default: a request that finds the model idle runs at once, together with whatever arrived in the
same turn of the event loop; what arrives meanwhile gathers. So an idle server adds no latency, and a busy one has full
batches.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

from automm.runtime.predictor import Predictions
from automm.serve.problems import busy
from automm.serve.settings import Batching

Table = Mapping[str, Sequence[Any]]
Predict = Callable[[Table, int], Predictions]

_MEMORY = 0.9
"""Share of the past in the running mean of seconds per row."""


class Observer(Protocol):
    """Is told what happens, for the metrics."""

    def waiting(self, rows: int) -> None:
        """Rows in the queue have changed to this."""

    def batch(self, rows: int, seconds: float, queued: Sequence[float]) -> None:
        """A run of `rows` took `seconds`; the requests in it had waited `queued` seconds."""


@dataclass(eq=False, slots=True)
class Job:
    """One request's rows on their way through the model."""

    table: Table
    rows: int
    deadline: float
    entered: float
    future: asyncio.Future[Predictions]
    taken: int = 0
    found: dict[int, Predictions] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Piece:
    """Rows `start` to `stop` of a job."""

    job: Job
    start: int
    stop: int


class Batcher:
    """Runs one model; lives on one event loop.

    Args:
        predict: Column → cells and the number of rows → predictions; called in `pool`.
        options: Sizes.
        pool: Where the model runs.
        observer: Is told about queue and batches.
    """

    def __init__(self, predict: Predict, options: Batching, pool: Executor, observer: Observer) -> None:
        self._predict, self._options, self._pool, self._observer = predict, options, pool, observer
        self._jobs: deque[Job] = deque()
        self._waiting = self._running = self._active = 0  # rows in the queue; runs, and the rows in them
        self._scheduled = False
        self._pace = 0.0  # seconds per row, a running mean

    def submit(self, table: Table, rows: int, deadline: float) -> asyncio.Future[Predictions]:
        """Puts rows into the queue.

        Args:
            table: Column → cells, `rows` each, complete.
            rows: Number of rows, at least 1.
            deadline: Time of the event loop after which nobody wants the answer.

        Returns:
            The predictions to come. Cancelling it takes the rows that still wait out of the queue.

        Raises:
            Problem: 429, if the queue is full or would not come to these rows before the deadline.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._waiting and self._waiting + rows > self._options.queue:
            self._sweep(now)
        ahead = (self._waiting + self._active) * self._pace / self._options.parallel
        own = rows * self._pace / self._options.parallel
        if self._waiting and self._waiting + rows > self._options.queue:
            raise busy(429, f"the queue is full ({self._waiting} rows wait); try again later", ahead)
        if ahead and now + ahead + own > deadline:
            raise busy(429, f"the queue is {ahead:.1f} seconds long, past the deadline; try again later", ahead)
        job = Job(table, rows, deadline, now, loop.create_future())
        self._jobs.append(job)
        self._count(rows)
        self._schedule(loop)
        return job.future

    def _count(self, change: int) -> None:
        self._waiting += change
        self._observer.waiting(self._waiting)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._scheduled or self._running >= self._options.parallel or not self._jobs:
            return
        self._scheduled = True
        if self._options.wait and self._waiting < self._options.rows:
            loop.call_later(self._options.wait, self._start, loop)
        else:
            # After everything else that is ready now: requests that came together run together.
            loop.call_soon(self._start, loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduled = False
        while self._running < self._options.parallel and (pieces := self._take(loop.time())):
            self._running += 1
            self._active += sum(piece.stop - piece.start for piece in pieces)
            queued = [loop.time() - piece.job.entered for piece in pieces]
            run = loop.run_in_executor(self._pool, self._run, pieces)
            run.add_done_callback(lambda done, pieces=pieces, queued=queued: self._done(loop, done, pieces, queued))  # type: ignore[misc]

    def _take(self, now: float) -> list[Piece]:
        """The next run's rows. A job too large for one run goes to the back with its rest: others come in between."""
        pieces: list[Piece] = []
        room = self._options.rows
        while self._jobs and room:
            job = self._jobs.popleft()
            if self._dropped(job, now):
                continue
            stop = min(job.rows, job.taken + room)
            pieces.append(Piece(job, job.taken, stop))
            room -= stop - job.taken
            self._count(job.taken - stop)
            job.taken = stop
            if stop < job.rows:
                self._jobs.append(job)
        return pieces

    def _dropped(self, job: Job, now: float) -> bool:
        """Whether nobody wants the job any more; then its rows no longer count."""
        if not job.future.done() and job.deadline <= now:
            job.future.set_exception(TimeoutError())
        if not job.future.done():
            return False
        self._count(job.taken - job.rows)
        return True

    def _sweep(self, now: float) -> None:
        self._jobs = deque([job for job in self._jobs if not self._dropped(job, now)])

    def _run(self, pieces: Sequence[Piece]) -> tuple[list[Predictions | Exception], float]:
        """In the pool: one run for all; if it fails, one for each, so that a request only fails for its own rows."""
        start = time.perf_counter()
        try:
            found: list[Predictions | Exception] = list(self._together(pieces))
        except Exception as problem:
            found = [problem] if len(pieces) == 1 else [self._run([piece])[0][0] for piece in pieces]
        return found, time.perf_counter() - start

    def _together(self, pieces: Sequence[Piece]) -> list[Predictions]:
        if len(pieces) == 1 and pieces[0].stop - pieces[0].start == pieces[0].job.rows:
            return [self._predict(pieces[0].job.table, pieces[0].job.rows)]
        names = pieces[0].job.table
        table = {
            name: [cell for piece in pieces for cell in piece.job.table[name][piece.start : piece.stop]]
            for name in names
        }
        ends = [0]
        for piece in pieces:
            ends.append(ends[-1] + piece.stop - piece.start)
        whole = self._predict(table, ends[-1])
        return [cut(whole, start, stop) for start, stop in pairwise(ends)]

    def _done(
        self,
        loop: asyncio.AbstractEventLoop,
        done: asyncio.Future[tuple[list[Predictions | Exception], float]],
        pieces: Sequence[Piece],
        queued: Sequence[float],
    ) -> None:
        rows = sum(piece.stop - piece.start for piece in pieces)
        self._running -= 1
        self._active -= rows
        self._schedule(loop)
        found, seconds = done.result()
        self._pace = _MEMORY * self._pace + (1 - _MEMORY) * seconds / rows if self._pace else seconds / rows
        self._observer.batch(rows, seconds, queued)
        for piece, answer in zip(pieces, found, strict=True):
            job = piece.job
            if job.future.done():
                continue
            if isinstance(answer, Exception):
                job.future.set_exception(answer)
                continue
            job.found[piece.start] = answer
            if sum(len(part) for part in job.found.values()) == job.rows:
                job.future.set_result(joined([job.found[at] for at in sorted(job.found)]))


def cut(whole: Predictions, start: int, stop: int) -> Predictions:
    """Some of the rows."""
    columns = {name: values[start:stop] for name, values in whole.columns.items()}
    refused = {at - start: reason for at, reason in whole.refused.items() if start <= at < stop}
    return Predictions(columns, refused, stop - start)


def joined(parts: Sequence[Predictions]) -> Predictions:
    """The rows of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    whole = Predictions({name: [] for name in parts[0].columns})
    for part in parts:
        whole.add(part)
    return whole
