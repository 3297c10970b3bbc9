"""Reading a request's body: bounded in bytes, in time, and over all requests together."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request
from starlette.types import Receive

from automm.serve.problems import Problem, busy
from automm.serve.settings import Limits

LINGER_SECONDS = 2.0
"""How long the rest of a refused body is read and thrown away, so that the client hears the answer."""


class Disconnected(Exception):
    """The client went away."""


class Bodies:
    """The bytes that all requests of a worker hold together.

    Args:
        most: Most bytes.
    """

    def __init__(self, most: int) -> None:
        self._most, self.held = most, 0

    @contextmanager
    def account(self) -> Iterator[Account]:
        """Of one request; what it took is given back at the end."""
        account = Account(self)
        try:
            yield account
        finally:
            self.held -= account.taken

    def take(self, size: int) -> None:
        """Counts bytes.

        Raises:
            Problem: 429, if they are too many.
        """
        if self.held + size > self._most:
            raise busy(429, "too many large requests at a time; try again later")
        self.held += size


class Account:
    """What one request holds."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies, self.taken = bodies, 0

    def upto(self, size: int) -> None:
        """Makes sure that `size` bytes are counted.

        Raises:
            Problem: 429, if there is no room.
        """
        if size > self.taken:
            self._bodies.take(size - self.taken)
            self.taken = size


async def read_body(request: Request, limits: Limits, account: Account) -> bytes:
    """The body, decompressed.

    Args:
        request: The request.
        limits: Its bounds.
        account: Counts what is held.

    Raises:
        Problem: 408 if it comes too slowly, 413 if it is too large, 415 for an unknown compression, 400 if it is
            damaged.
        Disconnected: If the client goes away before its end.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "deflate", ""):
        raise Problem(415, f"content-encoding {encoding[:20]!r} is not read; send gzip, deflate or none")
    declared = request.headers.get("content-length", "")
    size = int(declared) if declared.isdecimal() else 0
    try:
        if size > limits.body:
            raise _too_large(limits.body)
        account.upto(size)
        data = await _receive(request.receive, limits, account)
    except Problem as problem:
        if problem.status in (413, 429):
            await _linger(request.receive, limits.body)
        raise
    if encoding in ("gzip", "deflate"):
        data = inflate(data, limits.body)
        account.upto(len(data))
    return data


async def _receive(receive: Receive, limits: Limits, account: Account) -> bytes:
    parts: list[bytes] = []
    size = 0
    loop = asyncio.get_running_loop()
    start = loop.time()
    try:
        async with asyncio.timeout_at(start + limits.body_seconds) as limit:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                part = message.get("body", b"")
                size += len(part)
                if size > limits.body:
                    raise _too_large(limits.body)
                account.upto(size)
                parts.append(part)
                if not message.get("more_body", False):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
                limit.reschedule(start + limits.body_seconds + size / limits.body_rate)
    except TimeoutError:
        raise Problem(408, "the request's body came too slowly", {"connection": "close"}) from None


def _too_large(most: int) -> Problem:
    return Problem(413, f"the body is over the limit of {most:,} bytes", {"connection": "close"})


async def _linger(receive: Receive, most: int) -> None:
    """Reads on for a moment: a connection that is closed while the client still sends loses the answer."""
    size = 0
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while size <= most:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def inflate(data: bytes, most: int) -> bytes:
    """Decompresses gzip or zlib; stops as soon as there is too much.

    Raises:
        Problem: 413 if the result is too large, 400 if the data are damaged.
    """
    engine = zlib.decompressobj(wbits=47)  # finds out by itself which of the two it is
    try:
        found = engine.decompress(data, most + 1)
    except zlib.error as problem:
        raise Problem(400, f"the compressed body is damaged: {problem}") from None
    if len(found) > most:
        raise Problem(413, f"the body is over the limit of {most:,} bytes after decompression")
    if not engine.eof:
        raise Problem(400, "the compressed body is cut off")
    return found
