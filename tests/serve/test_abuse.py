"""Hostile requests: refused by name, in bounded time and memory; the server answers others as before."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import socket
import struct
import time
import zlib

import pytest

from automm.serve.settings import Limits
from serve.conftest import encoded
from serve.packages import picture
from serve.servers import Served

JSON = {"content-type": "application/json"}


def png(width: int, height: int) -> bytes:
    """A valid PNG of zeros that is some thousand times smaller than its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(width + 1) * height, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def as_photo(data: bytes | str) -> dict:
    text = data if isinstance(data, str) else base64.b64encode(data).decode()
    return encoded() | {"photo": {"base64": text}}


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/owned) (w) file closefile\nshowpage\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://169.254.169.254/latest/meta-data"/></svg>'


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (as_photo(EPS), "not a picture in a supported format"),
        (as_photo(SVG), "not a picture in a supported format"),
        (as_photo(b"\x89PNG\r\n\x1a\n" + EPS), "not a picture in a supported format"),
        (as_photo(picture()[:45]), "damaged picture"),
        (as_photo(png(14_000, 14_000)), "picture is over the limit of 10,000 pixels"),
        (as_photo(png(101, 100)), "101 x 100 pixels is over the limit of 10,000"),
        (as_photo("not base64!"), "the base64 is damaged"),
        (as_photo(""), "file is empty"),
        (encoded() | {"photo": {"base64": "eA==", "url": "http://x"}}, 'an object in a cell is a file: {"base64"'),
        (encoded() | {"photo": {"url": "http://169.254.169.254/"}}, 'an object in a cell is a file: {"base64"'),
        (encoded() | {"photo": "http://169.254.169.254/latest/meta-data"}, "http addresses are not read"),
        (encoded() | {"photo": "HTTPS://localhost:1/x.png"}, "https addresses are not read"),
        (encoded() | {"photo": "file:///etc/passwd"}, "file addresses are not read"),
        (encoded() | {"photo": "gopher://localhost:6379/_INFO"}, "gopher addresses are not read"),
        (encoded() | {"photo": "/etc/passwd"}, "paths to files are not accepted here"),
        (encoded() | {"photo": "../../etc/passwd"}, "paths to files are not accepted here"),
        (encoded() | {"photo": "\\\\host\\share\\x.png"}, "paths to files are not accepted here"),
        (encoded() | {"photo": "x\0.png"}, "not a path"),
        (encoded() | {"photo": "data:image/svg+xml;base64," + base64.b64encode(SVG).decode()}, "not a picture"),
        (encoded() | {"title": {"base64": "c3Vu"}}, "is no file"),
        (encoded() | {"weight": "1e999"}, "column 'weight'"),
        (encoded() | {"title": [[[[["deep"]]]]]}, "nested deeper than 4 levels"),
        (encoded() | {"title": [{"a": 1}]}, "nested deeper"),
    ],
)
def test_a_cell_that_cannot_be_used(post, row, words):
    status, found = post([row])
    assert status == 422
    assert words in found["error"]


def test_ten_megabytes_of_text(post):
    start = time.process_time()
    status, found = post([encoded(title="sun " * 2_500_000)])
    assert status == 422
    assert "text of 10,000,000 characters is over the limit of 1,000,000" in found["error"]
    assert time.process_time() - start < 5


def test_too_many_rows(post):
    status, found = post([{"title": "sun"}] * 1001)
    assert status == 413
    assert found["error"] == "1,001 rows are over the limit of 1,000; send them in several requests"


def test_bodies_over_the_limit(ask):
    async def check(client):
        def body(size):
            return json.dumps([encoded(title="x" * size)]).encode()

        async def pieces():
            for _ in range(64):
                yield b" " * 1024

        large = await client.http.post("/predict", content=body(30_000), headers=JSON)
        assert (large.status_code, large.json()["error"]) == (413, "the body is over the limit of 20,000 bytes")
        streamed = await client.http.post("/predict", content=pieces(), headers=JSON)
        assert streamed.status_code == 413
        bomb = gzip.compress(b" " * 50_000_000)
        found = await client.http.post("/predict", content=bomb[:19_000], headers=JSON | {"content-encoding": "gzip"})
        assert found.status_code == 413
        small = gzip.compress(b" " * 1_000_000)
        found = await client.http.post("/predict", content=small, headers=JSON | {"content-encoding": "gzip"})
        assert (found.status_code, "after decompression" in found.json()["error"]) == (413, True)
        assert (await client.predict([encoded()])).status_code == 200
        assert client.app._bodies.held == 0

    ask(check, limits=Limits(body=20_000))


def test_bodies_of_all_requests_together(ask):
    async def check(client):
        waits = asyncio.Event()

        async def slow():
            yield b"["
            await waits.wait()
            yield b"]"

        headers = JSON | {"content-length": "900"}
        first = asyncio.create_task(client.http.post("/predict", content=slow(), headers=headers))
        await asyncio.sleep(0.05)
        assert client.app._bodies.held == 900
        second = await client.http.post("/predict", content=b" " * 200, headers=JSON)
        assert (second.status_code, second.headers["retry-after"]) == (429, "1")
        waits.set()
        assert (await first).status_code == 422
        assert client.app._bodies.held == 0

    ask(check, limits=Limits(bodies=1000))


@pytest.mark.parametrize("body", [b"[" * 500_000 + b"]" * 500_000, b'{"rows":' * 2000 + b"1" + b"}" * 2000])
def test_deep_json(post, body):
    status, found = post(content=body, headers=JSON)
    assert status == 400
    assert "not strict JSON" in found["error"]


def test_json_that_would_take_twenty_times_its_size(post):
    start = time.process_time()
    status, found = post(content=b"[" + b"[]," * 2_000_000 + b"[]]", headers=JSON)
    assert (status, "1,000,000 lists and objects" in found["error"]) == (413, True)
    assert time.process_time() - start < 5


def test_other_sites_pages_are_refused(ask):
    async def check(client):
        for site, status in {"cross-site": 403, "same-origin": 200, "none": 200}.items():
            found = await client.http.post("/predict", json=[encoded()], headers={"sec-fetch-site": site})
            assert found.status_code == status

    ask(check)


@pytest.fixture(scope="module")
def bounded(package, tmp_path_factory):
    """A server process with short times, whose connections may be abused."""
    with Served(tmp_path_factory.mktemp("bounded"), package, "--drain", 0, "--timeout", 5, "--head-seconds", 1,
                "--body-seconds", 1, "--max-connections", 30) as server:  # fmt: skip
        yield server


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def test_half_open_connections_and_slow_heads_are_closed(bounded):
    silent, dripping = connect(bounded), connect(bounded)
    dripping.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n")
    with dripping, silent:
        with pytest.raises(OSError):
            for _ in range(50):
                dripping.sendall(b"X-A: b\r\n")
                time.sleep(0.1)
        assert silent.recv(10) == b""


def test_a_slow_body_gets_408(bounded):
    with connect(bounded) as slow:
        slow.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n["
        )
        for _ in range(3):
            time.sleep(0.2)
            slow.sendall(b" ")
        answer = slow.recv(4096)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"too slowly" in answer + slow.recv(4096)


def test_an_endless_head_is_refused(bounded):
    with connect(bounded) as greedy:
        answer = b""
        try:
            greedy.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n")
            for _ in range(40):
                greedy.sendall(b"X-A: " + b"b" * 4096 + b"\r\n")
            answer = greedy.recv(100)
        except OSError:
            return  # closed while we still wrote
        assert answer[:12] in (b"HTTP/1.1 400", b"")


def live(server):
    """What a new connection is answered; nothing if it is closed."""
    with connect(server) as fresh:
        try:
            fresh.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            return fresh.recv(12)
        except OSError:
            return b""


def test_too_many_connections_are_turned_away_and_places_come_back(bounded):
    crowd = [connect(bounded) for _ in range(30)]
    time.sleep(0.1)
    assert live(bounded) == b""
    for one in crowd:
        one.close()
    bounded.until(lambda: live(bounded) == b"HTTP/1.1 200", 5)


@pytest.mark.parametrize(
    "noise", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" * 20, b"GET / HTTP/9.9\r\n\r\n", b"\0" * 300]
)
def test_noise(bounded, noise):
    with connect(bounded) as client:
        client.sendall(noise)
        assert client.recv(4096)[:12] in (b"HTTP/1.1 400", b"")


def test_smuggling_is_refused(bounded):
    with connect(bounded) as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET"
        )
        assert client.recv(4096).startswith(b"HTTP/1.1 400")


def test_clients_that_leave_are_dropped_and_the_server_goes_on(bounded):
    body = json.dumps([encoded()] * 1000).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    for _ in range(5):
        client = connect(bounded)
        client.sendall(head.encode() + body)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    bounded.until(lambda: len([e for e in bounded.events("request") if e["status"] == 499]) >= 3, 10)
    found = bounded.client.post("/predict", json=[encoded()])
    assert found.status_code == 200
    assert "Traceback" not in bounded.log()


def test_a_large_body_is_answered_although_it_is_refused(bounded):
    """The client has written all of it before it reads: a connection closed at once would lose the answer."""
    body = b"[" + b" " * (40 * 2**20) + b"]"
    found = bounded.client.post("/predict", content=io.BytesIO(body), headers=JSON)
    assert found.status_code == 413
