"""Under torchrun: what a restart can mend is restarted, an error with a message ends the job at once.

torchrun restarts all processes when one leaves with an error (`--max-restarts`). That is right for a process that was
killed; a wrong recipe would only be refused again and again. So a process that ends for good leaves a note beside
torchrun's own files, and the attempts that follow end with it.
"""

from __future__ import annotations

import os
from pathlib import Path

from automm.errors import ExitCode

NOTE = "AUTOMM_EXIT_CODE_FILE"
"""Where `automm fit --nproc` reads the exit code from: the processes themselves then leave with success."""


def _note() -> Path | None:
    """The note of this job's processes on this machine; None without torchrun."""
    if os.environ.get(NOTE):
        return Path(os.environ[NOTE])
    error_file = os.environ.get("TORCHELASTIC_ERROR_FILE")  # <job>/attempt_<n>/<rank>/error.json
    return Path(error_file).parents[2] / "automm-exit-code" if error_file else None


def ended() -> int | None:
    """The exit code with which this job has ended for good, if it has."""
    note = _note()
    try:
        return int(note.read_text("utf-8")) if note is not None else None
    except (FileNotFoundError, ValueError):
        return None


def status(code: int) -> int:
    """What this process leaves with.

    Args:
        code: Its exit code. `INTERNAL` may be mended by a restart, unless another process has ended the job for good.
    """
    note = _note()
    if note is None or code == ExitCode.OK:
        return code
    final = ended()
    if final is None:
        if code == ExitCode.INTERNAL:
            return code
        note.parent.mkdir(parents=True, exist_ok=True)
        partial = note.with_name(f"{note.name}.{os.getpid()}")
        partial.write_text(str(int(code)), "utf-8")
        partial.replace(note)
        final = code
    return ExitCode.OK if os.environ.get(NOTE) else final
