"""What the server costs and bears: `python docs/benchmarks/server.py PACKAGE [--seconds 10] [--soak 5000]`.

Asks with the package's own golden rows, over plain sockets from this process, so the client takes little of the
machine. Everything is measured in one run, what is compared in turns. Beside times stands the processor time of the
server per request, which other processes on the machine hardly change:

- overhead: median time of one request to a server of one worker beside `predict` in this process, one thread each;
- throughput with 1, 8 and 32 connections, with batching and with `--max-batch 1`;
- load: requests at twice the throughput of 32 connections, sent whether or not earlier ones were answered;
- soak: requests one after the other on 8 connections, and the server's resident memory before and after;
- cold start: from the start of the process to the first 200 of /v2/health/ready.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from automm.runtime.predictor import load
from automm.serve.examples import examples
from automm.serve.rows import read_rows
from automm.serve.schema import schema
from automm.serve.settings import Limits

CONNECTIONS = (1, 8, 32)
DEADLINE = 2.0


class Server:
    """A server process on a free port."""

    def __init__(self, package: Path, *options: Any) -> None:
        self._errors = tempfile.NamedTemporaryFile("r", suffix=".err")  # noqa: SIM115
        command = [sys.executable, "-m", "automm", "serve", str(package), "--port", "0", "--drain", "0",
                   "--log-level", "warning", *map(str, options)]  # fmt: skip
        self.started = time.perf_counter()
        with open(self._errors.name, "w") as errors:
            self.process = subprocess.Popen(command, stderr=errors)
        while not (found := re.search(r"http://[\d.]+:(\d+)", Path(self._errors.name).read_text())):
            time.sleep(0.01)
        self.port = int(found[1])
        while not self._ready():
            time.sleep(0.01)
        self.cold = time.perf_counter() - self.started

    def _ready(self) -> bool:
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/health/ready").status == 200
        except OSError:
            return False

    def memory(self) -> float:
        """Resident MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def processor(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self._errors.close()


def packed(row: Any) -> bytes:
    """A request as bytes."""
    body = json.dumps(row).encode()
    head = f"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Plain:
    """One connection, without asyncio."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> None:
        """Sends and waits for the whole answer."""
        self._socket.sendall(request)
        data = self._socket.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), data
        size = int(re.search(rb"content-length: (\d+)", head)[1])
        while len(body) < size:
            body += self._socket.recv(65536)


async def answer(reader: asyncio.StreamReader) -> int:
    """Reads one answer; its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))
    return int(head[9:12])


async def closed(
    server: Server, requests: list[bytes], connections: int, seconds: float, most: float = 1e12
) -> tuple[float, float]:
    """Connections that each ask again as soon as they are answered.

    Returns:
        Requests a second, and milliseconds of the server's processor time per request.
    """
    used = server.processor()
    count = 0
    start = time.perf_counter()

    async def work(at: int) -> None:
        nonlocal count
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        while time.perf_counter() - start < seconds and count < most:
            writer.write(requests[at % len(requests)])
            assert await answer(reader) == 200
            count += 1
            at += 1
        writer.close()

    await asyncio.gather(*[work(at) for at in range(connections)])
    return count / (time.perf_counter() - start), (server.processor() - used) / count * 1000


async def load_test(port: int, requests: list[bytes], rate: float, seconds: float) -> dict[str, Any]:
    """Requests at a fixed rate over 128 connections; a connection that is still busy is passed over."""
    idle = collections.deque([await asyncio.open_connection("127.0.0.1", port) for _ in range(128)])
    statuses: collections.Counter[int] = collections.Counter()
    accepted: list[float] = []
    tasks = set()
    unsent = 0

    async def ask(pair: Any, request: bytes) -> None:
        start = time.perf_counter()
        pair[1].write(request)
        status = await answer(pair[0])
        statuses[status] += 1
        if status == 200:
            accepted.append(time.perf_counter() - start)
        idle.append(pair)

    start = time.perf_counter()
    sent = 0
    while (now := time.perf_counter() - start) < seconds:
        while sent < now * rate:
            sent += 1
            if not idle:
                unsent += 1
                continue
            task = asyncio.create_task(ask(idle.popleft(), requests[sent % len(requests)]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.001)
    await asyncio.gather(*tasks)
    accepted.sort()
    p99 = accepted[int(len(accepted) * 0.99)] if accepted else float("nan")
    return {
        "statuses": dict(statuses),
        "accepted_p99_seconds": round(p99, 3),
        "not_sent": unsent,
        "asked_per_second": round(sent / seconds),
        "accepted_per_second": round(len(accepted) / seconds),
    }


def overhead(package: Path, rows: list[Any], requests: list[bytes], repeats: int) -> None:
    """One request at a time, beside `predict` in this process."""
    predictor = load(package, threads=1)
    found = schema(predictor.package)
    tables = [read_rows([row], found, Limits(), True).table for row in rows]
    inside, outside = [], []
    with Server(package, "--threads", 1) as server:
        print(f"cold start to ready: {server.cold:.2f} s, resident {server.memory():.0f} MiB")
        client = Plain(server.port)
        predictor.predict(tables[0])
        client.ask(requests[0])
        ours, theirs = 0.0, server.processor()
        for at in range(repeats):
            begun, used = time.perf_counter(), time.process_time()
            predictor.predict(tables[at % len(tables)])
            inside.append(time.perf_counter() - begun)
            ours += time.process_time() - used
            begun = time.perf_counter()
            client.ask(requests[at % len(requests)])
            outside.append(time.perf_counter() - begun)
        theirs = server.processor() - theirs
    one, other = (statistics.median(times) * 1000 for times in (inside, outside))
    print(f"one request: predict {one:.2f} ms, server {other:.2f} ms, overhead {other - one:.2f} ms")
    one, other = (seconds / repeats * 1000 for seconds in (ours, theirs))
    print(f"processor time: predict {one:.2f} ms, server {other:.2f} ms, overhead {other - one:.2f} ms")


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--soak", type=int, default=5000)
    options = parser.parse_args()
    package = load(options.package, threads=1).package
    rows = examples(package, schema(package))
    requests = [packed(row) for row in rows]
    overhead(options.package, rows, requests, options.repeats)

    best = 0.0
    with Server(options.package) as batched, Server(options.package, "--max-batch", 1) as single:
        for connections in CONNECTIONS:
            found: dict[str, list[tuple[float, float]]] = {"with": [], "without": []}
            for _ in range(3):
                for name, server in (("with", batched), ("without", single)):
                    part = closed(server, requests, connections, options.seconds / 3)
                    found[name].append(asyncio.run(part))
            rates, costs = (
                {name: statistics.median(pair[at] for pair in pairs) for name, pairs in found.items()} for at in (0, 1)
            )
            print(
                f"{connections:2} connections: {rates['with']:.0f} requests a second with batching, "
                f"{rates['without']:.0f} without ({rates['with'] / rates['without']:.2f} x); processor time "
                f"{costs['with']:.2f} and {costs['without']:.2f} ms ({costs['without'] / costs['with']:.2f} x)"
            )
            best = rates["with"]
    with Server(options.package, "--timeout", DEADLINE, "--queue", 64) as server:
        before = server.memory()
        result = asyncio.run(load_test(server.port, requests, 2 * best, options.seconds))
        print(f"load of twice the capacity, deadline {DEADLINE:g} s: {json.dumps(result)}")
        print(f"resident before and after: {before:.0f} and {server.memory():.0f} MiB")
    with Server(options.package) as server:
        asyncio.run(closed(server, requests, 8, 1e9, options.soak / 10))
        before = server.memory()
        asyncio.run(closed(server, requests, 8, 1e9, options.soak))
        print(f"soak of {options.soak:,} requests: resident {before:.1f} and {server.memory():.1f} MiB")


if __name__ == "__main__":
    main()
