"""What the routes do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive

from automm import __version__
from automm.runtime.predictor import Predictions
from automm.serve import openapi, page, protocol, rows
from automm.serve.body import Account, Bodies, Disconnected, read_body
from automm.serve.logs import log
from automm.serve.models import Version
from automm.serve.problems import Problem, busy, json_response
from automm.serve.rows import Rows

if TYPE_CHECKING:
    from automm.serve.app import App

T = TypeVar("T")

SMALL = 64 * 2**10
"""Bodies up to this are parsed on the event loop; to hand them to a thread costs more."""

TIMEOUT = "x-request-timeout"


class Handlers:
    """The handlers, by route.

    Args:
        app: The application.
        bodies: Counts the bytes of all bodies.
    """

    def __init__(self, app: App, bodies: Bodies) -> None:
        self._app, self._settings, self._models = app, app.settings, app.models
        self._bodies = bodies
        self._document: dict[str, Any] | None = None
        self._models.on_change(self._forget)

    def _forget(self) -> None:
        self._document = None

    async def predict(self, request: Request) -> Response:
        """Rows of raw cells, as JSON or as a form."""
        version = self._version(request, "predict")
        with self._bodies.account() as account:
            found = await self._answer(request, version, await self._read_rows(request, version, account), None)
        predictions = found.rows
        body = {"model": version.model, "version": version.name, "predictions": predictions}
        if len(found.refused) == len(found):
            at, reason = next(iter(found.refused.items()))
            message = reason if len(found) == 1 else f"none of {len(found)} rows can be used; row {at}: {reason}"
            raise Problem(422, message, body=body)
        return json_response(body)

    async def infer(self, request: Request) -> Response:
        """Tensors of raw cells, by the Open Inference Protocol."""
        version = self._version(request, "infer")
        with self._bodies.account() as account:
            _content_type(request, "application/json", "application/octet-stream", "")
            body = await self._body(request, account)
            header = request.headers.get(protocol.HEADER)
            missing = self._missing(request)
            parsed = await _parse(
                body, lambda: protocol.read(body, header, version.schema, self._settings.limits, missing)
            )
            found = await self._answer(request, version, parsed.rows, parsed.timeout)
        data, size = protocol.answer(found, version.schema, parsed, version.model, version.name)
        if size is None:
            return Response(data, media_type="application/json")
        return Response(data, headers={protocol.HEADER: str(size)}, media_type="application/octet-stream")

    def _version(self, request: Request, endpoint: str) -> Version:
        note = request.state.note
        note.endpoint = endpoint
        version = self._models.find(request.path_params.get("model"), request.path_params.get("version"))
        note.model, note.version = version.model, version.name
        return version

    def _missing(self, request: Request) -> bool:
        return self._settings.allow_missing or request.query_params.get("allow_missing", "") in ("true", "1")

    async def _body(self, request: Request, account: Account) -> bytes:
        body = await read_body(request, self._settings.limits, account)
        request.state.note.bytes = len(body)
        return body

    async def _read_rows(self, request: Request, version: Version, account: Account) -> Rows:
        kind = _content_type(request, "application/json", "multipart/form-data")
        body = await self._body(request, account)
        limits, missing = self._settings.limits, self._missing(request)
        if kind == "multipart/form-data":
            return await rows.read_form(body, request.headers, version.schema, limits, missing)
        return await _parse(body, lambda: rows.read_json(body, version.schema, limits, missing))

    async def _answer(self, request: Request, version: Version, given: Rows, timeout: float | None) -> Predictions:
        """Sends rows through the model; gives up at the deadline, or when the client goes away."""
        note = request.state.note
        note.rows = given.total
        found = Predictions({name: [] for name in version.schema.results})
        if given.count:
            found = await self._run(request, version, given, timeout)
            if self._app.capture is not None:
                self._app.capture.add(version.model, version.name, given.table, found)
        whole = given.spread(found)
        note.refused = len(whole.refused)
        version.metrics.answered(len(whole) - len(whole.refused), len(whole.refused))
        return whole

    async def _run(self, request: Request, version: Version, given: Rows, timeout: float | None) -> Predictions:
        seconds = min(self._settings.timeout, timeout or _timeout(request) or self._settings.timeout)
        deadline = asyncio.get_running_loop().time() + seconds
        future = version.batcher.submit(given.table, given.count, deadline)
        watch = asyncio.create_task(_gone(request.receive))
        watch.add_done_callback(lambda _: future.cancel())
        try:
            async with asyncio.timeout_at(deadline):
                return await future
        except TimeoutError:
            raise busy(504, f"no answer within {seconds:g} seconds") from None
        except asyncio.CancelledError:
            if watch.done() and not watch.cancelled():
                raise Disconnected from None
            raise
        finally:
            watch.cancel()

    async def live(self, request: Request) -> Response:
        """Whether the process runs."""
        request.state.note.endpoint = "health"
        return json_response({"live": True})

    async def ready(self, request: Request) -> Response:
        """Whether all models are loaded and their goldens passed, and the server is not about to stop."""
        request.state.note.endpoint = "health"
        ready = self._models.ready and not self._app.draining
        return json_response({"ready": ready}, 200 if ready else 503)

    async def server(self, request: Request) -> Response:
        """Server metadata."""
        request.state.note.endpoint = "metadata"
        return json_response({"name": "automm", "version": __version__, "extensions": protocol.EXTENSIONS})

    async def metadata(self, request: Request) -> Response:
        """Model metadata."""
        version = self._version(request, "metadata")
        names = self._models.models[version.model].names()
        return json_response(protocol.metadata(version.schema, version.model, names))

    async def model_ready(self, request: Request) -> Response:
        """Whether a model answers."""
        version = self._version(request, "metadata")
        return json_response({"name": version.model, "ready": True})

    def _described(self) -> dict[str, Any]:
        if self._document is None:
            self._document = openapi.document(self._models, self._settings)
        return self._document

    async def openapi(self, request: Request) -> Response:
        """The OpenAPI document."""
        request.state.note.endpoint = "page"
        return json_response(self._described())

    async def docs(self, request: Request) -> Response:
        """The same, readable."""
        request.state.note.endpoint = "page"
        return _html(page.docs_page(self._described()))

    async def page(self, request: Request) -> Response:
        """The form."""
        request.state.note.endpoint = "page"
        try:
            version = self._models.find(request.query_params.get("model"))
        except Problem as problem:
            if problem.status == 404:
                raise
            return _html(page.try_page(self._models, None))
        return _html(page.try_page(self._models, version))


def _html(text: str) -> Response:
    return HTMLResponse(text, headers={"content-security-policy": page.policy(), "x-frame-options": "DENY"})


def _content_type(request: Request, *accepted: str) -> str:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in accepted:
        names = " or ".join(name for name in accepted if name)
        raise Problem(415, f"the content type {kind[:50]!r} is not read here; send {names}")
    return kind


def _timeout(request: Request) -> float | None:
    text = request.headers.get(TIMEOUT)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise Problem(400, f"{TIMEOUT} is a number of seconds")
    return seconds


async def _parse(body: bytes, call: Callable[[], T]) -> T:
    return call() if len(body) <= SMALL else await asyncio.to_thread(call)


async def _gone(receive: Receive) -> None:
    """Ends when the client does."""
    while (await receive())["type"] != "http.disconnect":
        log("unexpected message", level=logging.DEBUG)
