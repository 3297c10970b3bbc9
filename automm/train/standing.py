"""Where a trial in training stands: written now and then after an epoch, so that a restart goes on from there."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from automm.report.folder import storage_errors
from automm.train.ranks import Ranks
from automm.train.weights import load_facts, load_weights, save_weights

EVERY = 30.0
"""Seconds of training that a kill may cost, save that an epoch is never cut: most trials end before they write any."""
FILE = "standing.safetensors"
FACTS = "facts"
VERSION = 1


class Standing(NamedTuple):
    """Where a trial stands.

    Attributes:
        tensors: Name → numbers of model, optimiser, and what was best so far.
        facts: Plain JSON beside them.
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors of "name.…"."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}


class Standings:
    """Writes and reads where a trial stands.

    Every rank's random numbers go on as they would have. Only the order of rows without an answer begins anew.

    Args:
        folder: The trial's.
        resolved: Its configuration: what another one left is not read.
        ranks: The processes that train it; another number of them begins anew.
    """

    def __init__(self, folder: Path, resolved: Mapping[str, Any], ranks: Ranks) -> None:
        self._path, self._ranks = folder / FILE, ranks
        self._about = {"version": VERSION, "world": ranks.world, "resolved": json.loads(json.dumps(resolved))}
        self._last = time.monotonic()
        self._own = False  # whether the file is of this configuration

    def read(self, module: Mapping[str, Tensor]) -> Standing | None:
        """What an earlier attempt left, the same on every rank; None if it left nothing that can be used.

        Args:
            module: The state that the module has now: what an earlier version of a plugin left may not fit it.
        """
        found = None
        try:
            facts = json.loads(load_facts(self._path)[FACTS])
            if facts.pop("about") == self._about:
                found = Standing(load_weights(self._path), facts)
                shapes = {name: tensor.shape for name, tensor in found.part("module").items()}
                if any(name not in module or module[name].shape != shape for name, shape in shapes.items()):
                    found = None
        except Exception:  # absent, or damaged: the trial begins anew
            found = None
        epochs = self._ranks.gather(found and found.facts["epoch"])  # on a shared disk one may still see an older file
        self._own = found is not None and len(set(epochs)) == 1
        return found if self._own else None

    def due(self) -> bool:
        """Whether it is time to write; the same on every rank."""
        return bool(self._ranks.broadcast(time.monotonic() - self._last >= EVERY))

    def write(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Writes it, on rank 0, with every rank's random numbers.

        Raises:
            StorageError: On every rank, if it cannot be written.
        """
        states = self._ranks.gather(_random_numbers())
        content = {FACTS: json.dumps({**facts, "about": self._about, "random": states})}
        self._ranks.first(lambda: save_weights(tensors, self._path, content))
        self._last, self._own = time.monotonic(), True

    def go_on(self, standing: Standing) -> None:
        """Has this rank's random numbers go on where they were."""
        _set_random_numbers(standing.facts["random"][self._ranks.rank])

    def clear(self) -> None:
        """The trial has ended. What it left with another batch size stays: it may be tried with that again."""
        if self._own:
            with storage_errors(self._path):
                self._path.unlink(missing_ok=True)


def _random_numbers() -> dict[str, Any]:
    """The state of all generators, as plain JSON."""
    kind, keys, *rest = np.random.get_state()
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return {
        "python": random.getstate(),
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "torch": {name: bytes(state.tolist()).hex() for name, state in states.items()},
    }


def _set_random_numbers(states: Mapping[str, Any]) -> None:
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))
    torches = {
        name: torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8) for name, text in states["torch"].items()
    }
    torch.set_rng_state(torches["cpu"])
    if "cuda" in torches and torch.cuda.is_available():
        torch.cuda.set_rng_state(torches["cuda"])
