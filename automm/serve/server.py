"""Processes: one server, or several workers on one port, and how they stop.

On SIGTERM a worker first says that it is not ready and closes each connection with its next answer; after the drain
time it closes the port, answers what it has accepted, and leaves. SIGINT (Ctrl-C) skips the drain time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from dataclasses import replace
from types import FrameType
from typing import NoReturn

import uvicorn

from automm.errors import AutommError, ExitCode, StorageError
from automm.serve.settings import Settings

BACKLOG = 1024
SOONEST = 5.0
"""A worker that ends by itself sooner than this after its start is taken to be unable to start."""
PAUSE = 1.0
"""Seconds before a worker is started in place of one that was killed so soon."""


def serve(settings: Settings) -> int:
    """Serves until a signal says otherwise.

    Returns:
        The exit code.

    Raises:
        StorageError: If the port cannot be opened.
        AutommError: If nothing can be served.
    """
    listener = _listen(settings)
    if settings.workers == 1:
        return _work(settings, listener)
    return _supervise(settings, listener)


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio sends small answers at once (TCP_NODELAY) only where it sees the protocol: 40 ms a request otherwise.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except (OSError, OverflowError) as problem:
        listener.close()
        reason = getattr(problem, "strerror", None) or str(problem)
        raise StorageError(f"cannot listen on {settings.host}:{settings.port}: {reason}; choose --port") from None
    listener.listen(BACKLOG)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    names = ", ".join(settings.sources)
    print(f"serving {names} on http://{shown}:{port} (Ctrl-C stops)", file=sys.stderr, flush=True)
    return listener


class _Server(uvicorn.Server):
    """uvicorn's server with a drain time."""

    def __init__(self, settings: Settings) -> None:
        from automm.serve.app import App
        from automm.serve.connection import bounded
        from automm.serve.logs import set_up

        set_up(settings.log_level)
        self.app = App(settings)
        self.app.on_failure = self._fail
        self._drain = settings.drain
        limits = settings.limits
        super().__init__(
            uvicorn.Config(
                self.app,
                http=bounded(limits.connections, limits.head_seconds),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                # Accepted requests are answered or time out; then nothing is left to wait for.
                timeout_graceful_shutdown=int(settings.timeout + limits.body_seconds) + 5,
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: drain, stop, or, the second time, stop at once."""
        del frame
        if self.should_exit or self.app.draining:
            self.force_exit = self.should_exit
            self.should_exit = True
        elif sig == signal.SIGTERM and self._drain > 0:
            self.app.draining = True
            asyncio.get_event_loop().call_soon_threadsafe(self._drain_later)
        else:
            self.app.draining = self.should_exit = True

    def _drain_later(self) -> None:
        asyncio.get_running_loop().call_later(self._drain, self._stop)

    def _stop(self) -> None:
        self.should_exit = True

    def _fail(self) -> None:
        self.should_exit = True


def _work(settings: Settings, listener: socket.socket) -> int:
    from automm.runtime import ops

    for plugin in settings.plugins:
        ops.add_file(plugin)
    # The event loop must not wait long for a thread that holds the interpreter.
    sys.setswitchinterval(0.001)
    server = _Server(settings)
    server.run(sockets=[listener])
    if isinstance(server.app.failed, AutommError):
        raise server.app.failed
    return ExitCode.INTERNAL if server.app.failed is not None else ExitCode.OK


def _supervise(settings: Settings, listener: socket.socket) -> int:
    """Keeps `workers` processes alive on one listening socket, and passes signals on.

    Processes are forked before any thread is started and anything heavy is loaded.
    """
    with tempfile.TemporaryDirectory(prefix="automm-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        supervisor = _Supervisor(settings, listener)
        try:
            return supervisor.run()
        finally:
            del os.environ["PROMETHEUS_MULTIPROC_DIR"]


class _Supervisor:
    """The parent of the workers."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings, self._listener = settings, listener
        self._started: dict[int, float] = {}
        self._stopping = False
        self._code = 0

    def run(self) -> int:
        """Until all workers have ended after a signal, or none can start."""
        previous = {sig: signal.signal(sig, self._pass_on) for sig in (signal.SIGTERM, signal.SIGINT)}
        try:
            # The first answers that it lives while it loads. The others take no request before it can answer, too: else
            # one would say that the server is ready, and the first would get the requests.
            told, tells = os.pipe()
            self._start(replace(self._settings, tells=tells))
            os.close(tells)  # now it closes with the first worker
            self._settings = replace(self._settings, replaces=True, told=told)
            for _ in range(1, self._settings.workers):
                if not self._stopping:
                    self._start(self._settings)
            while self._started:
                self._ended(*os.wait())
        finally:
            for sig, handler in previous.items():
                signal.signal(sig, handler)
            self._listener.close()
        return self._code

    def _start(self, settings: Settings) -> None:
        # A signal between fork and the dictionary would miss the child.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
            _leave_worker(settings, self._listener)
        self._started[child] = time.monotonic()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))

    def _ended(self, child: int, status: int) -> None:
        from prometheus_client.multiprocess import mark_process_dead

        started = self._started.pop(child, None)
        if started is None:
            return  # as the first process of a container we also inherit orphans
        mark_process_dead(child)  # type: ignore[no-untyped-call]
        code = os.waitstatus_to_exitcode(status)
        soon = time.monotonic() - started < SOONEST
        if self._stopping:
            self._code = self._code or max(code, 0)
        elif code > 0 and soon:
            # It said why; the others would fail alike.
            self._code = code
            self._pass_on(signal.SIGINT, None)
        else:
            print(f"worker {child} ended with {code}; another one is started", file=sys.stderr, flush=True)
            time.sleep(PAUSE if soon else 0)
            if not self._stopping:
                self._start(self._settings)

    def _pass_on(self, sig: int, frame: FrameType | None) -> None:
        del frame
        self._stopping = True
        for child in list(self._started):
            os.kill(child, sig)


def _leave_worker(settings: Settings, listener: socket.socket) -> NoReturn:
    code: int = ExitCode.INTERNAL
    try:
        code = _work(settings, listener)
    except AutommError as problem:
        print(f"error: {problem}", file=sys.stderr)
        code = problem.exit_code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Not sys.exit: what the parent had opened is the parent's to close.
        os._exit(int(code))
