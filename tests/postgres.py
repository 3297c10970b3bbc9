"""A PostgreSQL server of the test's own, where the machine has the program."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

PASSWORD = "open-sesame"
USER = "postgres"


class Server:
    """A server that can be stopped and started again.

    Attributes:
        url: Of its database, with the password.
    """

    def __init__(self, programs: Path, folder: Path, port: int) -> None:
        self._programs, self._folder, self._port = programs, folder, port
        self.url = f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres"

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._programs / program), "-D", str(self._folder / "data"), *map(str, arguments)]
        if os.geteuid() == 0:  # the server refuses to run as root
            command = ["runuser", "-u", USER, "--", *command]
        subprocess.run(command, check=True, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60)

    def make(self) -> None:
        (self._folder / "password").write_text(PASSWORD, "utf-8")
        if os.geteuid() == 0:
            for path in (self._folder, self._folder / "password"):
                shutil.chown(path, USER)
        self._run("initdb", "-A", "scram-sha-256", "-U", USER, "--pwfile", self._folder / "password", "--no-sync")

    def start(self) -> None:
        options = f"-p {self._port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-o", options, "-l", self._folder / "log", "-w", "start")

    def stop(self) -> None:
        """As when the machine goes down: connections are cut."""
        self._run("pg_ctl", "-m", "immediate", "-w", "stop")


def _programs() -> Path | None:
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "pg_ctl").exists()), None)


@contextmanager
def running_server() -> Iterator[Server]:
    """A running server in a temporary folder; skips the test where there is none."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (automm[postgres])")
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL server on this machine (initdb, pg_ctl)")
    if os.geteuid() == 0 and (shutil.which("runuser") is None or USER not in {user.pw_name for user in pwd.getpwall()}):
        pytest.skip("a PostgreSQL server does not run as root, and there is no user postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="automm-postgres-") as folder:
        server = Server(programs, Path(folder), port)
        server.make()
        server.start()
        try:
            yield server
        finally:
            with suppress(subprocess.CalledProcessError):  # a test left it stopped
                server.stop()
