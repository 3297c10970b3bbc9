"""Packages, an application in this process, and a server process."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

pytest.importorskip("starlette")
pytest.importorskip("onnx")

from automm.serve.app import App
from automm.serve.settings import Settings
from serve.packages import build, row
from serve.servers import Served


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    return build(tmp_path_factory.mktemp("packages") / "weather")


@pytest.fixture(scope="session")
def colder(tmp_path_factory):
    """The same model with another bias."""
    return build(tmp_path_factory.mktemp("packages") / "colder", shift=1.0)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The same model in whole numbers of 8 bits."""
    return build(tmp_path_factory.mktemp("packages") / "whole", whole=True)


@pytest.fixture(scope="session")
def served(package, tmp_path_factory):
    """A server process that tests share; it is not stopped by them."""
    with Served(tmp_path_factory.mktemp("served"), package, "--drain", 0) as server:
        yield server


class Client:
    """An application in this process and a client for it, on one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.app = App(settings)
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://test")

    async def predict(self, rows: Any, path: str = "/predict", **more: Any) -> httpx.Response:
        return await self.http.post(path, json=rows, **more)


@pytest.fixture
def ask(package):
    """Runs an asynchronous function with a client, for settings that differ from the defaults in what is named."""

    def run(function: Callable[[Client], Awaitable[Any]], **settings: Any) -> Any:
        async def inside() -> Any:
            client = Client(Settings(**{"sources": {"weather": package}, "threads": 1, "poll": 0, **settings}))
            async with client.app._router.lifespan_context(client.app):
                await asyncio.wait_for(client.app.models.loaded.wait(), 30)
                async with client.http:
                    return await function(client)

        return asyncio.run(inside())

    return run


@pytest.fixture
def post(ask):
    """One request to an application of its own → status and JSON."""

    def run(body: Any = None, path: str = "/predict", settings: dict[str, Any] | None = None, **more: Any):
        async def send(client: Client) -> tuple[int, Any]:
            sent = {"json": body} if body is not None else {}
            response = await client.http.post(path, **sent, **more)
            return response.status_code, response.json()

        return ask(send, **(settings or {}))

    return run


def encoded(**cells: Any) -> dict[str, Any]:
    """A row as a JSON request has it: bytes in base64."""
    found = row(**cells)
    for name, cell in found.items():
        if isinstance(cell, bytes):
            found[name] = {"base64": base64.b64encode(cell).decode()}
    return found
