"""The ASGI application: routes, and what happens around every request."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send

from automm.errors import AutommError
from automm.serve import metrics as prometheus
from automm.serve.access import Keys
from automm.serve.body import Bodies, Disconnected
from automm.serve.capture import Capture
from automm.serve.handlers import Handlers
from automm.serve.logs import log
from automm.serve.metrics import Metrics
from automm.serve.models import Models
from automm.serve.problems import Problem
from automm.serve.settings import Settings

CLOSED = 499
"""Logged in place of a status when the client went away."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_RUNNERS = 32
"""Threads for runs of models; batchers bound what really runs at a time."""


@dataclass
class Note:
    """What a handler tells about its request, for log and metrics: nothing that the client wrote freely."""

    endpoint: str = "unknown"
    model: str = ""
    version: str = ""
    rows: int | None = None
    refused: int | None = None
    bytes: int | None = None


class App:
    """The application.

    Args:
        settings: What to serve, and how.

    Attributes:
        models: The models.
        metrics: The worker's metrics.
        draining: Set when the server is about to stop: it says that it is not ready, and closes each connection with
            its next answer.
        failed: Why the models could not be loaded at the start.
        on_failure: Called then.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.draining = False
        self.failed: BaseException | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._pool = ThreadPoolExecutor(_RUNNERS, "model")
        self.models = Models(settings, self._pool, self.metrics)
        self._keys = Keys(settings.keys)
        self._bodies = Bodies(settings.limits.bodies)
        self.capture: Capture | None = None
        self._router = Router(self._routes(), default=_not_found, lifespan=self._lifespan)

    def _routes(self) -> list[Route]:
        handlers = Handlers(self, self._bodies)
        table: list[tuple[str, str, str, Callable[[Request], Awaitable[Response]]]] = [
            ("POST", "/predict", "predict", handlers.predict),
            ("POST", "/models/{model}/predict", "predict", handlers.predict),
            ("POST", "/models/{model}/versions/{version}/predict", "predict", handlers.predict),
            ("POST", "/v2/models/{model}/infer", "infer", handlers.infer),
            ("POST", "/v2/models/{model}/versions/{version}/infer", "infer", handlers.infer),
            ("GET", "/v2/health/live", "health", handlers.live),
            ("GET", "/v2/health/ready", "health", handlers.ready),
            ("GET", "/v2", "metadata", handlers.server),
            ("GET", "/v2/models/{model}", "metadata", handlers.metadata),
            ("GET", "/v2/models/{model}/versions/{version}", "metadata", handlers.metadata),
            ("GET", "/v2/models/{model}/ready", "metadata", handlers.model_ready),
            ("GET", "/v2/models/{model}/versions/{version}/ready", "metadata", handlers.model_ready),
            ("GET", "/metrics", "metrics", self._metrics),
            ("GET", "/openapi.json", "page", handlers.openapi),
            ("GET", "/docs", "page", handlers.docs),
            ("GET", "/", "page", handlers.page),
        ]
        return [Route(path, call, methods=[method], name=name) for method, path, name, call in table]

    async def _metrics(self, request: Request) -> Response:
        request.state.note.endpoint = "metrics"
        text = await asyncio.to_thread(self.metrics.text)
        return Response(text, media_type=prometheus.CONTENT_TYPE)

    @asynccontextmanager
    async def _lifespan(self, _: Any) -> AsyncIterator[None]:
        if self.settings.capture is not None:
            self.capture = Capture(self.settings.capture, self.settings.capture_bytes, self.metrics)
        # The port answers at once (live); readiness follows when the models are loaded. A worker that takes another
        # one's place leaves the port to those that can answer until then.
        watch = asyncio.create_task(self._watch())
        telling = (
            asyncio.create_task(self._tell_others(self.settings.tells)) if self.settings.tells is not None else None
        )
        try:
            if self.settings.replaces:
                loaded = asyncio.create_task(self._all_loaded())
                await asyncio.wait({loaded, watch}, return_when=asyncio.FIRST_COMPLETED)
                if self.failed is None:
                    await loaded
                loaded.cancel()
            yield
        finally:
            watch.cancel()
            if telling is not None:
                telling.cancel()
            with suppress(asyncio.CancelledError):
                await watch
            if self.capture is not None:
                await asyncio.to_thread(self.capture.close)
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def _all_loaded(self) -> None:
        """Until the models are loaded, and the first worker's, too: it answers already then, with 503."""
        await self.models.loaded.wait()
        if self.settings.told is None:
            return
        loop, first = asyncio.get_running_loop(), asyncio.Event()
        # The byte stays in the pipe for the next worker; a first one that has ended closes the pipe.
        loop.add_reader(self.settings.told, first.set)
        try:
            await first.wait()
        finally:
            loop.remove_reader(self.settings.told)

    async def _tell_others(self, pipe: int) -> None:
        """Says that the first worker's models are loaded."""
        await self.models.loaded.wait()
        os.write(pipe, b"\0")

    async def _watch(self) -> None:
        try:
            await self.models.watch()
        except Exception as problem:
            self.failed = problem
            reason = str(problem) if isinstance(problem, AutommError) else None
            log("nothing to serve", level=logging.ERROR, problem=problem, reason=reason)
            self.on_failure()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request: key, route, handler; errors become JSON; afterwards metrics and one line of log."""
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        started = time.perf_counter()
        request = Request(scope)
        given = request.headers.get("x-request-id", "")
        identity = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        note = Note()
        scope["app"] = self  # Starlette's routes then raise in place of answering in plain text
        scope["state"] = {**scope.get("state", {}), "note": note}
        status = CLOSED

        async def reply(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *self._headers(identity)]
            await send(message)

        self.metrics.active.inc()
        problem: Exception | None = None
        try:
            self._keys.check(scope["path"], request.headers)
            _refuse_foreign_pages(request)
            await self._router(scope, receive, reply)
        except Disconnected:
            pass
        except Exception as raised:
            problem = raised
            if status == CLOSED:
                await _response(raised)(scope, receive, reply)
        finally:
            self.metrics.active.dec()
            self._record(note, scope["method"], status, time.perf_counter() - started, identity, problem)

    def _headers(self, identity: str) -> list[tuple[bytes, bytes]]:
        found = [
            (b"x-request-id", identity.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cache-control", b"no-store"),
        ]
        return [*found, (b"connection", b"close")] if self.draining else found

    def _record(
        self, note: Note, method: str, status: int, seconds: float, identity: str, problem: Exception | None
    ) -> None:
        self.metrics.requests.labels(note.endpoint, note.model, str(status)).inc()
        self.metrics.seconds.labels(note.endpoint).observe(seconds)
        if note.bytes is not None:
            self.metrics.body.labels(note.endpoint).observe(note.bytes)
        unexpected = problem if status >= 500 and not isinstance(problem, Problem) else None
        log(
            "request",
            level=logging.ERROR if unexpected else logging.INFO,
            problem=unexpected,
            method=method if method in ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH") else "other",
            endpoint=note.endpoint,
            status=status,
            seconds=round(seconds, 5),
            model=note.model or None,
            version=note.version or None,
            rows=note.rows,
            refused=note.refused,
            bytes=note.bytes,
            request_id=identity,
        )


def _refuse_foreign_pages(request: Request) -> None:
    """Other sites' pages must not use a visitor's access to this server."""
    if request.method == "POST" and request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise Problem(403, "requests from pages of other sites are refused")


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    raise Problem(404, "there is nothing here; /docs lists what there is")


def _response(problem: Exception) -> Response:
    if isinstance(problem, Problem):
        return problem.response()
    if isinstance(problem, HTTPException):
        headers: Mapping[str, str] = problem.headers or {}
        return Problem(problem.status_code, str(problem.detail), headers).response()
    return Problem(500, "the server failed to answer this request; its log says where").response()
