"""Checkpoints that nothing trains: loaded once in a run, shared by its models, and left out of what trials write."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from automm.core.kinds import Encoder
from automm.core.lazy import LazyModule
from automm.core.processor import Processor
from automm.errors import DataError
from automm.plugin.blame import blamed
from automm.plugin.registry import Registry
from automm.report.folder import storage_errors
from automm.runtime.state import split_state

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = LazyModule("torch")

MEMORY = 4 * 2**30
"""Bytes of weights that are kept from trial to trial; the least recently used are let go first."""


def is_frozen(cls: type[Encoder], config: Any) -> bool:
    """Whether an encoder reads a checkpoint of which nothing is trained but what is fresh."""
    return bool(config.adapt == "none" and cls.extracts(config) and cls.pretrained(config))


def is_only_frozen(encoder: Encoder) -> bool:
    """Whether an encoder is nothing but such a checkpoint, with nothing new on top."""
    return is_frozen(type(encoder), encoder.config) and not encoder.fresh()


def make_encoder(choice: Mapping[str, Any], processor: Processor, registry: Registry) -> Encoder:
    """Makes an encoder.

    One that is nothing but a frozen checkpoint draws no random numbers: whether it was loaded before changes nothing.
    """
    cls: type[Encoder] = registry.get("encoder", choice["name"])
    config = cls.Config.model_validate(choice["config"])
    before = torch.get_rng_state()
    with blamed(registry, cls, "__init__"):
        encoder = cls(config, processor)
    if is_only_frozen(encoder):
        torch.set_rng_state(before)
    return encoder


def frozen(encoder: Encoder) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of everything that the checkpoint gave."""
    fresh = {id(tensor) for module in encoder.fresh() for tensor in (*module.parameters(), *module.buffers())}
    # Tied weights are in a state under each of their names.
    named = encoder.named_parameters(remove_duplicate=False), encoder.named_buffers(remove_duplicate=False)
    for name, tensor in chain(*named):
        if id(tensor) not in fresh:
            yield name, tensor


def frozen_names(encoders: Mapping[str, Encoder]) -> frozenset[str]:
    """The names, in a model's state, of weights that are read from a checkpoint again."""
    return frozenset(
        f"encoders.{slug}.{name}"
        for slug, encoder in encoders.items()
        if is_frozen(type(encoder), encoder.config)
        for name, _ in frozen(encoder)
    )


def fingerprint(encoder: Encoder) -> str:
    """Digest of an encoder's weights, without those that are trained on top of it."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(frozen(encoder)):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class Checkpoints:
    """The frozen checkpoints of a run.

    Args:
        registry: The components.
        folder: Notes here what each one holds: a checkpoint that changes between two attempts is refused.
    """

    def __init__(self, registry: Registry, folder: Path) -> None:
        self._registry, self._folder = registry, folder
        self._kept: dict[str, Encoder] = {}
        self._prints: dict[str, str] = {}
        self._states: WeakKeyDictionary[Processor, str] = WeakKeyDictionary()

    def encoder(self, choice: Mapping[str, Any], processor: Processor, *, own: bool = False) -> Encoder:
        """An encoder, made anew or, if it is nothing but a frozen checkpoint, a copy of what was loaded.

        Args:
            choice: {"name", "config"}.
            processor: What feeds it.
            own: Whether the copy has weights of its own, to be changed; else it shares them.

        Raises:
            DataError: If the checkpoint is not the one that the run began with.
        """
        key = self._key(choice, processor)
        if key not in self._kept:
            encoder = make_encoder(choice, processor, self._registry)
            if not is_frozen(type(encoder), encoder.config):
                return encoder
            self.fingerprint(encoder, choice, processor)
            if encoder.fresh():
                return encoder
            self._kept[key] = encoder.requires_grad_(False)
        kept = self._kept[key] = self._kept.pop(key)  # the last used comes last
        while len(self._kept) > 1 and sum(map(_bytes, self._kept.values())) > MEMORY:
            del self._kept[next(iter(self._kept))]
        shared: list[Any] = [processor] if own else [processor, *kept.parameters(), *kept.buffers()]
        try:
            return copy.deepcopy(kept, {id(item): item for item in shared})
        except Exception:  # it holds what cannot be copied: an open file, a session
            return make_encoder(choice, processor, self._registry)

    def fingerprint(self, encoder: Encoder, choice: Mapping[str, Any], processor: Processor) -> str:
        """The digest of a frozen encoder's weights.

        Raises:
            DataError: If the run began with another one.
        """
        key = self._key(choice, processor)
        if key not in self._prints:
            found, note = fingerprint(encoder), self._folder / key
            if not note.exists():
                with storage_errors(note):
                    note.parent.mkdir(parents=True, exist_ok=True)
                    note.write_text(found, "utf-8")
            elif note.read_text("utf-8") not in (found, ""):
                raise DataError(
                    f"encoder {choice['name']!r}: its checkpoint has changed since the run began; put it back, or "
                    "begin another run with --out"
                )
            self._prints[key] = found
        return self._prints[key]

    def digests(self, resolved: Mapping[str, Any], processors: Mapping[str, Processor]) -> dict[str, str]:
        """Input slug → digest of the frozen checkpoint that reads it, of those that were loaded."""
        keys = {slug: self._key(choice, processors[slug]) for slug, choice in resolved["encoders"].items()}
        return {slug: self._prints[key] for slug, key in keys.items() if key in self._prints}

    def _key(self, choice: Mapping[str, Any], processor: Processor) -> str:
        if processor not in self._states:
            state, arrays = split_state(processor.state)
            digest = hashlib.sha256(json.dumps(state, sort_keys=True).encode())
            for array in arrays.values():
                digest.update(array.tobytes())
            self._states[processor] = digest.hexdigest()
        made = [processor.op, processor.version, processor.config.model_dump(mode="json"), self._states[processor]]
        content = [choice["name"], choice["config"], made]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


def _bytes(encoder: Encoder) -> int:
    return sum(tensor.nbytes for tensor in (*encoder.parameters(), *encoder.buffers()))
