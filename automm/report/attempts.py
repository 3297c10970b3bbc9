"""The attempts of one job that a launcher starts again: they share one time budget."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

BOOT = Path("/proc/sys/kernel/random/boot_id")


def attempt_of(began: float) -> dict[str, Any]:
    """What the event `started` holds of this process: attempt, job, and the machine's clock at its start.

    Args:
        began: `time.monotonic()` at the start.
    """
    return {
        "attempt": int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")),
        "job": os.environ.get("TORCHELASTIC_RUN_ID"),
        "clock": [BOOT.read_text("ascii").strip() if BOOT.exists() else "", began],
    }


def used_before(log: Path, began: float) -> float:
    """Seconds that earlier attempts of this job have used: what torchrun starts again is no new run.

    On the same machine that is the time since the first attempt began; after a move to another one, what the attempts
    took until their last event. The calendar clock, which may jump, is not looked at.

    Args:
        log: The run folder's events, before this attempt has written any.
        began: `time.monotonic()` at this attempt's start.
    """
    own = attempt_of(began)
    if not own["attempt"] or not log.exists():
        return 0.0
    first: dict[str, Any] | None = None
    over, latest = 0.0, 0.0
    for line in log.read_text("utf-8").splitlines():
        try:
            event = json.loads(line)
            started, elapsed = event["event"] == "started", float(event["elapsed"])
        except (ValueError, KeyError, TypeError):
            continue
        if started and not event.get("attempt"):
            first, over, latest = event, 0.0, 0.0
        elif started:
            over, latest = over + latest, 0.0
        else:
            latest = elapsed
    if first is None or first.get("job") != own["job"] or "clock" not in first:
        return 0.0
    boot, start = first["clock"]
    if boot and boot == own["clock"][0]:
        return max(began - float(start), 0.0)
    return over + latest
