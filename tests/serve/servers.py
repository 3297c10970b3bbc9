"""Real server processes for tests."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from automm.cli.main import main; main()"
"""`automm` in a process in which torch cannot be imported."""


class Served:
    """`automm serve` in a process of its own without torch, on a free port; ends with the `with` block."""

    def __init__(self, folder: Path, *arguments: Any, ready: bool = True, environment: dict[str, str] | None = None):
        self._log = folder / "server.log"
        self._errors = folder / "server.err"
        command = [sys.executable, "-c", WITHOUT_TORCH, "serve", *map(str, arguments), "--port", "0", "--threads", "1"]
        with self._log.open("wb") as out, self._errors.open("wb") as err:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=err, env={**ENVIRONMENT, **(environment or {})}, start_new_session=True
            )
        self.started = time.monotonic()
        self.url = self._address()
        self.client = httpx.Client(base_url=self.url, timeout=30, verify=False)  # no certificates to load
        if ready:
            self.until(lambda: self.client.get("/v2/health/ready").status_code == 200)

    def _address(self) -> str:
        def found() -> re.Match[str] | None:
            assert self.process.poll() is None, self._errors.read_text() + self._log.read_text()
            return re.search(r"http://\S+", self._errors.read_text())

        return self.until(found)[0]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def until(self, condition: Any, seconds: float = 60) -> Any:
        """Waits until something is true."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < end, self._errors.read_text() + self._log.read_text()[-3000:]
            time.sleep(0.03)
        return value

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The log so far."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines() if line.endswith("}")]
        return [line for line in lines if name is None or line["event"] == name]

    def log(self) -> str:
        return self._log.read_text() + self._errors.read_text()

    def stop(self, sig: int = signal.SIGTERM) -> int:
        """Sends a signal and waits for the end."""
        self.process.send_signal(sig)
        return self.process.wait(40)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Load:
    """Threads that ask one after the other until they are stopped, or the server tells them to leave.

    Attributes:
        answers: (status, version) of every answer.
        errors: What went wrong on connections.
    """

    def __init__(self, url: str, body: Any, *, threads: int = 4, leave: bool = False) -> None:
        self.answers: list[tuple[int, str]] = []
        self.errors: list[Exception] = []
        self._url, self._body, self._leave = url, body, leave
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(threads)]

    def _work(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30, verify=False) as client:
            while not self._stop.is_set():
                try:
                    found = client.post("/predict", json=self._body)
                except httpx.HTTPError as problem:
                    self.errors.append(problem)
                    return
                self.answers.append((found.status_code, found.json().get("version", "")))
                if self._leave and found.headers.get("connection") == "close":
                    return

    def versions(self) -> set[str]:
        return {version for _, version in self.answers}

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.join()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(40)
