"""Connections that cost nothing to hold open: bounded in number, and in time and size of a request's head."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LARGEST_HEAD = 64 * 2**10
LAST_MOMENT = 0.3
"""Seconds that an idle connection stays open when the server stops."""


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, which by itself waits for a head for ever, and lets it grow without bound.

    `connections` and `head_seconds` are set on a subclass by `bounded`.
    """

    most = 0
    head_seconds = 0.0
    _clock: asyncio.TimerHandle | None = None
    _head = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come; with too many others there it is sent away."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._clock is None and not self._busy():
            self._expect_head()  # the first bytes of a further request
        if self._clock is not None:
            self._head += len(data)
            # A body may come along with its head: it counts only if the head is still not complete.
            super().data_received(data)
            if self._clock is not None and self._head > LARGEST_HEAD and not self.transport.is_closing():
                self.send_400_response("The request's head is too large.")
            return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._stop_clock()
        super().on_headers_complete()

    def shutdown(self) -> None:
        """The server stops: a request under way is answered; one that may be on its way gets a moment to arrive."""
        if self._busy():
            super().shutdown()
        else:
            self.loop.call_later(LAST_MOMENT, super().shutdown)

    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_head(self) -> None:
        self._head = 0
        self._clock = self.loop.call_later(self.head_seconds, self._late)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _late(self) -> None:
        self._clock = None
        if not self.transport.is_closing():
            self.transport.abort()


def bounded(connections: int, seconds: float) -> type[Any]:
    """The protocol with its bounds; uvicorn makes one instance per connection."""
    return type("BoundedConnection", (Connection,), {"most": connections, "head_seconds": seconds})
