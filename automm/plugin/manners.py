"""Manners: what a plugin's code must not do on the side, and what to change if it does."""

from __future__ import annotations

import contextlib
import io
import random
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

HEAVY = ("torch", "lightning", "transformers", "torchmetrics", "sklearn", "scipy", "pandas", "lightgbm", "datasets")
"""Packages that take long to import, and that the base install may not have."""
CPU_SECONDS, WALL_SECONDS = 1.0, 10.0
"""An import that takes longer is slow: processor time, or waiting (a download, say)."""


@dataclass
class Watched:
    """What was seen.

    Attributes:
        printed: What went to standard output.
        complaints: One line per bad habit: what happened, and what to do instead.
    """

    printed: str = ""
    complaints: list[str] = field(default_factory=list)


def _seeds() -> dict[str, Any]:
    """Random state by library. Torch's seed is told by `initial_seed`, which drawing numbers leaves alone."""
    legacy: Any = np.random.get_state()
    states: dict[str, Any] = {"random": random.getstate(), "numpy.random": (legacy[1].tobytes(), legacy[2])}
    if (torch := sys.modules.get("torch")) is not None and hasattr(torch, "initial_seed"):
        states["torch"] = torch.initial_seed()
    return states


@contextlib.contextmanager
def watched(*, importing: bool = False) -> Iterator[Watched]:
    """Watches plugin code run; global random states are put back afterwards.

    Args:
        importing: Whether the code is a module that is being imported, which must be quick and light as well.
    """
    found, out = Watched(), io.StringIO()
    python, legacy, seeds = random.getstate(), np.random.get_state(), _seeds()
    tensors = sys.modules["torch"].get_rng_state() if "torch" in seeds else None
    threads, loaded = set(threading.enumerate()), set(sys.modules)
    cpu, wall = time.process_time(), time.monotonic()
    when = " when it is imported" if importing else ""
    try:
        with contextlib.redirect_stdout(out):
            yield found
    finally:
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        after = _seeds()
        random.setstate(python)
        np.random.set_state(legacy)
        if tensors is not None:
            sys.modules["torch"].set_rng_state(tensors)
        found.printed = out.getvalue()
        if found.printed:
            first = found.printed.strip().partition("\n")[0][:60]
            found.complaints.append(
                f"it prints to standard output{when} ({first!r}): use the logging module; "
                "commands write their results there"
            )
        changed = [name for name, state in seeds.items() if after.get(name) != state]
        if changed:
            found.complaints.append(
                f"it changes the global random state of {' and '.join(changed)}{when}: use a generator of its own "
                "(random.Random(seed), np.random.default_rng(seed), torch.Generator())"
            )
        started = [thread.name for thread in threading.enumerate() if thread not in threads]
        if started and importing:
            found.complaints.append(
                f"it starts threads{when} ({', '.join(started)}): start them where they are used, and end them there"
            )
        heavy = [name for name in HEAVY if name in sys.modules and name not in loaded]
        if importing and heavy:
            found.complaints.append(
                f"it imports {' and '.join(heavy[:3])}{when}, for every command: take torch, nn and F from automm.api, "
                "which load them on first use, and import others inside the function that uses them"
            )
        elif importing and (cpu > CPU_SECONDS or wall > WALL_SECONDS):
            found.complaints.append(
                f"it takes {max(cpu, wall):.1f} s to import: move the work into the function that needs its result"
            )
