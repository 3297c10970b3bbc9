"""What the server costs and bears: `python docs/benchmarks/server.py [PACKAGE] [--quick]`.

Asks with the package's own golden rows, over plain sockets from this process, so the client takes little of the
machine. What is compared is measured in turns, in one run. Beside times stands the processor time of the server per
request, which other processes on the machine hardly change:

- cold start: from the start of the process to the first 200 of /v2/health/ready, and the resident memory then;
- overhead: median time of one request to a server of one worker beside `predict` in this process, one thread each;
- throughput with 1, 8 and 32 connections, with batching and with `--max-batch 1`, beside `predict` in this process on
  batches of 32 rows;
- load: requests at twice the throughput of 32 connections, sent whether or not earlier ones were answered;
- changes under load: a new version takes over, then each of two workers gets a SIGTERM;
- soak: requests one after the other on 32 connections, and the growth of the server's resident memory.

Without PACKAGE it takes the text package that compression.py makes (MiniLM in 8 bits). The figures go to
`runs/benchmarks/server.md` and `.json`. `--quick` does all of it briefly.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from figures import Figures

from automm.runtime.predictor import load
from automm.serve.examples import examples
from automm.serve.rows import read_rows
from automm.serve.schema import schema
from automm.serve.settings import Limits

CONNECTIONS = (1, 8, 32)
TURNS = 3
DEADLINE = 2.0
QUEUE = 64
OPEN = 512
"""Connections of the load: more than the rows that run and wait, so that the queue fills."""
PATIENCE = 300.0
"""Seconds for a server to start on a busy machine."""
SAMPLES = 20
"""Looks at the memory during load and soak."""
GROWTH = 8.0
"""MiB by which resident memory may differ between the second quarter and the last one and still counts as flat."""


class Amount(NamedTuple):
    """How much of everything is measured."""

    starts: int
    repeats: int
    seconds: float
    load: float
    soak: int


FULL = Amount(starts=5, repeats=400, seconds=12.0, load=60.0, soak=100_000)
QUICK = Amount(starts=1, repeats=60, seconds=1.5, load=4.0, soak=400)


class Server:
    """A server process on a free port."""

    def __init__(self, source: Any, *options: Any) -> None:
        self._errors = tempfile.NamedTemporaryFile("r", suffix=".err")  # noqa: SIM115
        command = [sys.executable, "-m", "automm", "serve", str(source), "--port", "0", "--log-level", "warning",
                   *map(str, options)]  # fmt: skip
        started = time.perf_counter()
        with open(self._errors.name, "w") as errors:
            self.process = subprocess.Popen(command, stderr=errors, stdout=subprocess.DEVNULL)
        try:
            self.port = int(self._until(lambda: re.search(r"http://[\d.]+:(\d+)", self._said()))[1])
            self._until(lambda: self.get("/v2/health/ready") is not None)
        except BaseException:
            self.process.kill()
            raise
        self.cold = time.perf_counter() - started

    def _said(self) -> str:
        return Path(self._errors.name).read_text()

    def _until(self, condition: Any) -> Any:
        end = time.monotonic() + PATIENCE
        while not (found := condition()):
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the server did not start: {self._said()}")
            time.sleep(0.01)
        return found

    def get(self, path: str) -> bytes | None:
        """The body, or None where the answer is not 200."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as answer:
                return answer.read() if answer.status == 200 else None
        except OSError:
            return None

    def processes(self) -> list[int]:
        """Process ids: the server and its workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def memory(self) -> float:
        """Resident MiB of the process that was started."""
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
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
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
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._socket.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), data
        size = int(re.search(rb"content-length: (\d+)", head)[1])
        while len(body) < size:
            body += self._socket.recv(65536)


class Answer(NamedTuple):
    """Status, version and whether the server wants to end the connection."""

    status: int
    version: str
    last: bool


async def answer(reader: asyncio.StreamReader) -> Answer:
    """Reads one answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    body = await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))
    version = re.search(rb'"version": ?"([^"]*)"', body)
    return Answer(int(head[9:12]), version[1].decode() if version else "", b"connection: close" in head)


class Closed:
    """Connections that each ask again as soon as they are answered.

    Attributes:
        counts: Status → answers.
        versions: Versions that answered.
        lost: Requests that were sent and got no answer.
    """

    def __init__(self, port: int, requests: list[bytes], connections: int) -> None:
        self._port, self._requests, self._connections = port, requests, connections
        self.counts: collections.Counter[int] = collections.Counter()
        self.versions: set[str] = set()
        self.lost = 0
        self._going = True

    @property
    def total(self) -> int:
        """Answers so far."""
        return sum(self.counts.values())

    async def run(self, seconds: float, most: float = 1e12) -> float:
        """Asks for some time or so many times; gives the seconds it took."""
        start = time.perf_counter()
        self._going = True
        left = most

        async def work(at: int) -> None:
            nonlocal left
            reader = writer = None
            while self._going and time.perf_counter() - start < seconds and left > 0:
                left -= 1
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.write(self._requests[at % len(self._requests)])
                at += 1
                try:
                    found = await answer(reader)
                except (OSError, asyncio.IncompleteReadError):
                    self.lost += 1
                    writer = None
                    continue
                self.counts[found.status] += 1
                self.versions.add(found.version)
                if found.last:
                    writer.close()
                    writer = None
            if writer is not None:
                writer.close()

        await asyncio.gather(*[work(at) for at in range(self._connections)])
        return time.perf_counter() - start

    def stop(self) -> None:
        """Ends it after the requests under way."""
        self._going = False


def rate(server: Server, requests: list[bytes], connections: int, seconds: float) -> tuple[float, float]:
    """Requests a second, and milliseconds of the server's processor time per request."""
    used = server.processor()
    clients = Closed(server.port, requests, connections)
    taken = asyncio.run(clients.run(seconds))
    assert set(clients.counts) == {200}, clients.counts
    assert not clients.lost
    return clients.total / taken, (server.processor() - used) / clients.total * 1000


def flat(samples: list[float]) -> tuple[float, float]:
    """Memory in the second and in the last quarter of a time."""
    quarter = max(len(samples) // 4, 1)
    return statistics.median(samples[quarter : 2 * quarter] or samples), statistics.median(samples[-quarter:])


async def flood(server: Server, requests: list[bytes], asked: float, seconds: float) -> dict[str, Any]:
    """Requests at a fixed rate over many connections; where all are busy, a request is not sent."""
    idle = collections.deque([await asyncio.open_connection("127.0.0.1", server.port) for _ in range(OPEN)])
    statuses: collections.Counter[int] = collections.Counter()
    accepted: list[float] = []
    samples: list[float] = []
    tasks = set()
    sent = unsent = 0

    async def ask(pair: Any, request: bytes) -> None:
        began = time.perf_counter()
        pair[1].write(request)
        status = (await answer(pair[0])).status
        statuses[status] += 1
        if status == 200:
            accepted.append(time.perf_counter() - began)
        idle.append(pair)

    start = time.perf_counter()
    while (now := time.perf_counter() - start) < seconds:
        if len(samples) < now / seconds * SAMPLES:
            samples.append(server.memory())
        while sent < now * asked:
            sent += 1
            if not idle:
                unsent += 1
                continue
            task = asyncio.create_task(ask(idle.popleft(), requests[sent % len(requests)]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.001)
    await asyncio.gather(*tasks)
    for _, writer in idle:
        writer.close()
    accepted.sort()
    return {
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "p99": accepted[int(len(accepted) * 0.99)] if accepted else float("inf"),
        "unsent": unsent,
        "accepted": len(accepted) / seconds,
        "memory": flat(samples),
    }


def starts(figures: Figures, package: Path, count: int) -> None:
    """Cold starts."""
    found = []
    for _ in range(count):
        with Server(package, "--drain", 0) as server:
            found.append((server.cold, server.memory()))
    cold, memory = (statistics.median(values) for values in zip(*found, strict=True))
    figures.add("cold start to ready", f"{cold:.2f} s", "≤ 1.5 s", cold <= 1.5, seconds=cold)
    figures.add("resident memory when ready", f"{memory:.0f} MiB", mib=memory)


def overhead(figures: Figures, package: Path, rows: list[Any], requests: list[bytes], repeats: int) -> None:
    """One request at a time, beside `predict` in this process."""
    predictor = load(package, threads=1)
    found = schema(predictor.package)
    tables = [read_rows([row], found, Limits(), True).table for row in rows]
    inside, outside = [], []
    with Server(package, "--drain", 0, "--threads", 1) as server:
        client = Plain(server.port)
        for at in range(20):
            predictor.predict(tables[at % len(tables)])
            client.ask(requests[at % len(requests)])
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
    words = f"{other:.2f} ms beside {one:.2f} ms: {other - one:.2f} ms more, {other / one:.2f} ×"
    figures.add("one request to the server, beside predict in process (p50, one thread)", words, "≤ 1 ms more",
                other - one <= 1.0, server_ms=other, predict_ms=one)  # fmt: skip
    one, other = (seconds / repeats * 1000 for seconds in (ours, theirs))
    figures.add("the same in processor time", f"{other:.2f} ms beside {one:.2f} ms: {other - one:.2f} ms more",
                server_ms=other, predict_ms=one)  # fmt: skip


def throughput(figures: Figures, package: Path, rows: list[Any], requests: list[bytes], seconds: float) -> float:
    """Batched beside single; gives the requests a second of most connections."""
    predictor = load(package)
    table = read_rows((rows * 32)[:32], schema(predictor.package), Limits(), True).table
    best = 0.0
    with Server(package, "--drain", 0) as batched, Server(package, "--drain", 0, "--max-batch", 1) as single:
        for connections in CONNECTIONS:
            found: dict[str, list[tuple[float, float]]] = {"with": [], "without": []}
            bare = []
            for _ in range(TURNS):
                for name, server in (("with", batched), ("without", single)):
                    found[name].append(rate(server, requests, connections, seconds / TURNS))
                begun = time.perf_counter()
                predictor.predict(table)
                bare.append(32 / (time.perf_counter() - begun))
            rates, costs = (
                {name: statistics.median(pair[at] for pair in pairs) for name, pairs in found.items()} for at in (0, 1)
            )
            best, ratio = rates["with"], rates["with"] / rates["without"]
            last = connections == CONNECTIONS[-1]
            figures.add(
                f"{connections} connections, with batching beside --max-batch 1",
                f"{rates['with']:.0f} and {rates['without']:.0f} requests a second ({ratio:.2f} ×); processor time "
                f"{costs['with']:.2f} and {costs['without']:.2f} ms ({costs['without'] / costs['with']:.2f} ×)",
                "≥ 3 ×" if last else "", ratio >= 3 if last else None, rates=rates, costs=costs,
            )  # fmt: skip
    rows_per_second = statistics.median(bare)
    figures.add("predict in process on batches of 32", f"{rows_per_second:.0f} rows a second, of which the server at "
                f"{CONNECTIONS[-1]} connections gives {best / rows_per_second:.0%}", rate=rows_per_second)  # fmt: skip
    return best


def load_test(figures: Figures, package: Path, requests: list[bytes], capacity: float, seconds: float) -> None:
    """Twice the capacity."""
    with Server(package, "--drain", 0, "--timeout", DEADLINE, "--queue", QUEUE) as server:
        rate(server, requests, CONNECTIONS[-1], min(seconds / 10, 3.0))
        found = asyncio.run(flood(server, requests, 2 * capacity, seconds))
    before, after = found["memory"]
    failed = sum(count for status, count in found["statuses"].items() if status not in ("200", "429"))
    what = f"load of twice the capacity for {seconds:.0f} s"
    figures.add(f"{what}, deadline {DEADLINE:g} s", f"{found['statuses']}, {found['unsent']} not sent; "
                f"{found['accepted']:.0f} accepted a second", "only 200 and 429", not failed, **found)  # fmt: skip
    figures.add(f"{what}: p99 of what was accepted", f"{found['p99']:.2f} s", f"≤ {DEADLINE:g} s",
                found["p99"] <= DEADLINE)  # fmt: skip
    figures.add(f"{what}: resident memory, second and last quarter", f"{before:.1f} and {after:.1f} MiB",
                f"≤ {GROWTH:g} MiB more", after - before <= GROWTH)  # fmt: skip


def changes(figures: Figures, package: Path, requests: list[bytes]) -> None:
    """A new version, and workers that are told to end, while clients ask."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        shutil.copytree(package, home / "1")
        with Server(f"model={home}", "--poll", 0.2, "--drain", 0.5, "--workers", 2) as server:
            clients = Closed(server.port, requests, 8)

            async def steps() -> tuple[bool, bool]:
                asking = asyncio.create_task(clients.run(1e9))

                async def until(condition: Any) -> bool:
                    end = time.monotonic() + PATIENCE
                    while not (found := condition()) and time.monotonic() < end:
                        await asyncio.sleep(0.05)
                    return bool(found)

                await until(lambda: clients.total > 50)
                shutil.copytree(package, home / ".2")
                (home / ".2").rename(home / "2")
                swapped = await until(lambda: "2" in clients.versions)
                rolled = True
                for worker in server.processes()[1:]:
                    known = set(server.processes())
                    os.kill(worker, signal.SIGTERM)
                    rolled &= await until(lambda known=known: set(server.processes()) - known)
                    at = clients.total
                    rolled &= await until(lambda at=at: clients.total > at + 50)
                clients.stop()
                await asking
                return swapped, rolled

            swapped, rolled = asyncio.run(steps())
    done = "a new version took over, each worker was replaced" if swapped and rolled else "not everything came about"
    figures.add("hot swap and rolling SIGTERM under load", f"{done}; {dict(clients.counts)}, {clients.lost} without an "
                "answer", "all answered with 200", swapped and rolled and set(clients.counts) == {200}
                and not clients.lost)  # fmt: skip


def soak(figures: Figures, package: Path, requests: list[bytes], count: int) -> None:
    """Memory over many requests; the first tenth warms up."""
    with Server(package, "--drain", 0) as server:
        clients = Closed(server.port, requests, CONNECTIONS[-1])
        asyncio.run(clients.run(1e9, count / 10))
        samples, taken = [], 0.0
        for _ in range(SAMPLES):
            taken += asyncio.run(clients.run(1e9, count / SAMPLES))
            samples.append(server.memory())
    before, after = flat(samples)
    good = set(clients.counts) == {200} and not clients.lost
    figures.add(f"soak of {count:,} requests in {taken:.0f} s: resident memory, second and last quarter",
                f"{before:.1f} and {after:.1f} MiB; {dict(clients.counts)}", f"≤ {GROWTH:g} MiB more, all 200",
                good and after - before <= GROWTH, samples=samples)  # fmt: skip


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, nargs="?")
    parser.add_argument("--quick", action="store_true", help="a little of everything: shows that it runs")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    amount = QUICK if options.quick else FULL
    if options.package is None:
        from compression import text_package

        options.package = text_package(options.out)
    package = load(options.package, threads=1).package
    rows = examples(package, schema(package))
    requests = [packed(row) for row in rows]
    figures = Figures(options.out / "server")
    starts(figures, options.package, amount.starts)
    overhead(figures, options.package, rows, requests, amount.repeats)
    capacity = throughput(figures, options.package, rows, requests, amount.seconds)
    load_test(figures, options.package, requests, capacity, amount.load)
    changes(figures, options.package, requests)
    soak(figures, options.package, requests, amount.soak)


if __name__ == "__main__":
    main()
