"""What the default configuration reads, computed within the budget: what is too dear makes room for what is cheaper."""

from __future__ import annotations

import time
from typing import Any

from automm.errors import NothingSucceededError, TooDearError
from automm.run import Run
from automm.search.space import first_trials

SHARE = 0.7
"""Most of the time for training that what the default configuration reads may take."""
LENIENT = 20.0
"""Seconds that it may take in any case."""


def read_defaults(run: Run) -> dict[str, Any]:
    """Computes what the first default configuration reads of the training and validation rows.

    An encoder that the time budget cannot pay for is left out of this run (`Run.dear`), and the next one takes its
    place.

    Returns:
        The configuration.

    Raises:
        NothingSucceededError: If no encoder of an input can be paid for.
    """
    refused: list[str] = []
    while True:
        trials = first_trials(run.plan, run.plugins.registry, run.dear)
        if not trials:
            names = " and ".join(dict.fromkeys(name for _, name in run.dear))
            raise NothingSucceededError(
                f"the time budget does not pay for what {names} must compute, and there is no cheaper encoder:\n  "
                + "\n  ".join(refused)
                + "\nGive search.time more, name a cheaper encoder in model.encoders, or leave the input out (ignore)"
            )
        resolved = trials[0][0]
        failure = _read(run, resolved)
        if failure is None:
            return resolved
        encoder, reason = failure
        refused.append(reason)
        run.dear.append(("encoder", encoder))
        run.warn(f"{reason}; this run does without it")


def _read(run: Run, resolved: dict[str, Any]) -> tuple[str, str] | None:
    """Computes what a configuration reads; else the encoder that is too dear, and how much."""
    for part in ("train", "valid"):
        for slug, choice in resolved["encoders"].items():
            if run.train_deadline is not None:
                run.bench.seconds = max(SHARE * (run.train_deadline - time.monotonic()), LENIENT)
            try:
                run.bench.features(part, slug, choice)
            except TooDearError as problem:
                return choice["name"], f"input {slug}: {problem}"
    return None
