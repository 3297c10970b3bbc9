"""`automm fit --nproc`: the same command under torchrun on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from automm.launch.restart import NOTE

RESTARTS = 3
"""So often a job starts again after a process was killed; it goes on where it stood."""
ELASTIC = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""What restarts with gloo need: every attempt gets a store of its own."""


def in_job() -> bool:
    """Whether a launcher started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def launch(arguments: Sequence[str], processes: int) -> int:
    """Runs a command in several processes of this machine.

    Args:
        arguments: The command line after `automm`.
        processes: Number of processes.

    Returns:
        The exit code of the run; torchrun's own says only that some process failed.
    """
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
        f"--max-restarts={RESTARTS}", "-m", "automm", *arguments,
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="automm-") as folder:
        note = Path(folder) / "exit-code"
        code = _run(command, {**os.environ, **ELASTIC, NOTE: str(note)})
        return int(note.read_text("utf-8")) if note.exists() else code


def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs torchrun and passes signals on."""
    with subprocess.Popen(command, env=environment) as job:
        # A terminal's Ctrl-C reaches the job by itself, a scheduler's SIGTERM comes here alone.
        old = [
            (signal.SIGINT, signal.signal(signal.SIGINT, lambda *_: None)),
            (signal.SIGTERM, signal.signal(signal.SIGTERM, lambda *_: job.terminate())),
        ]
        try:
            return job.wait()
        finally:
            for number, previous in old:
                signal.signal(number, previous)
