"""Commands in forks of one process that has imported everything: another start costs no imports.

A fork can be killed at a moment of its own work: before the n-th change that it makes to the disk at a stage of the
run. A file that is about to be written is left empty then, as a kill in the midst of writing leaves it.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

CHANGES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.truncate"}
"""Audit events of what changes the disk; an `open` that only reads is left out."""


class Forks:
    """The process that forks; ends with the context."""

    def __enter__(self) -> Forks:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()

    def run(self, *jobs: dict[str, Any]) -> list[int]:
        """Runs jobs at the same time and waits for all.

        Args:
            *jobs: "arguments" after `automm`, "cwd", "environment", "log" (a file), and perhaps "moment" ([stage, n])
                and "full" (from then on the disk is full, in place of a kill).

        Returns:
            Exit codes; -9 where the job was killed.
        """
        self._process.stdin.write(json.dumps(jobs) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


class Moment:
    """Counts the changes to the disk by stage, and ends the process at one of them.

    Stages: `cache` (changes to the cache), and before and after the winner is known `search` and `export`. A stage that
    is over earlier ends the process at the first change of `export`.
    """

    def __init__(self, folder: str, cache: str, at: list[Any] | None, full: bool) -> None:
        self._folders, self._cache, self._at, self._full = (folder, cache), cache, at, full
        self.counts = {"cache": 0, "search": 0, "export": 0}
        self._won = self._inside = False

    def watch(self) -> None:
        """From now on."""
        from automm.report.folder import RunFolder

        told = RunFolder.event

        def event(log: RunFolder, event: str, **facts: Any) -> None:
            told(log, event, **facts)
            self._won = self._won or event == "winner"

        RunFolder.event = event
        sys.addaudithook(self._changed)

    def _changed(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in CHANGES or not isinstance(arguments[0], str | os.PathLike):
            return
        path = os.path.abspath(os.fspath(arguments[0]))
        writing = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not path.startswith(self._folders) or (event == "open" and not writing):
            return
        stage = "cache" if path.startswith(self._cache) else "export" if self._won else "search"
        self.counts[stage] += 1
        if self._at is None or self._inside:
            return
        if self._full:
            if stage == self._at[0] and self.counts[stage] >= self._at[1]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        elif self._at == [stage, self.counts[stage]] or (stage == "export" and self._at[0] != stage):
            self._inside = True
            if writing and arguments[2] & os.O_TRUNC:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
            os.kill(os.getpid(), signal.SIGKILL)


def _job(job: dict[str, Any]) -> int:
    """Runs a command in this process."""
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(job["cwd"])
    os.environ.update(job["environment"])
    sys.argv = ["automm", *job["arguments"]]
    moment = Moment(job["cwd"], os.environ["AUTOMM_CACHE"], job.get("moment"), job.get("full", False))
    moment.watch()
    from automm.cli.main import main

    try:
        main()
    except SystemExit as left:
        if not left.code:
            Path(job["log"]).with_suffix(".counts").write_text(json.dumps(moment.counts), "utf-8")
        return int(left.code or 0)


def _forked(job: dict[str, Any]) -> tuple[int, int]:
    """Starts a job; gives its process and where it tells which modules it had to import."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    os.close(reader)
    code, known = 70, set(sys.modules)
    try:
        code = _job(job)
        with os.fdopen(writer, "w") as told:
            told.write(json.dumps(sorted(sys.modules.keys() - known)))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _serve() -> None:
    import lightning  # noqa: F401
    import optuna  # noqa: F401
    import torch  # noqa: F401

    import automm.orchestrate  # noqa: F401

    for line in sys.stdin:
        codes = []
        for child, reader in [_forked(job) for job in json.loads(line)]:
            with os.fdopen(reader) as told:
                modules = json.loads(told.read() or "[]")
            for name in modules:  # the next fork has them already
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print(json.dumps(codes), flush=True)


if __name__ == "__main__":
    _serve()
