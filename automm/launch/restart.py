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


def end(code: int) -> bool:
    """Ends the job for good, unless a restart may mend it.

    Args:
        code: The exit code of this process. `INTERNAL` may be mended by a restart.

    Returns:
        Whether this process is the one that says why: the first of its machine under torchrun, else rank 0.
    """
    note = _note()
    if code == ExitCode.INTERNAL:
        return ended() is None
    if note is None:
        return int(os.environ.get("RANK", "0")) == 0
    note.parent.mkdir(parents=True, exist_ok=True)
    partial = note.with_name(f"{note.name}.{os.getpid()}")
    partial.write_text(str(int(code)), "utf-8")
    try:
        note.hardlink_to(partial)  # of several processes one succeeds
    except FileExistsError:
        return False
    finally:
        partial.unlink()
    return True


def status(code: int) -> int:
    """What this process leaves with: success where `fit --nproc` reads the note, else the code that ended the job."""
    final = None if code == ExitCode.OK else ended()
    if final is None:
        return code
    return ExitCode.OK if os.environ.get(NOTE) else final
