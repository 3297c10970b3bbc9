"""What a trained model costs where it is used: the CPU time of one row, and the bytes that a package of it holds."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from automm.core.processor import Processor
from automm.model.assemble import AnswerModel
from automm.runtime.inputs import RuntimeInput
from automm.runtime.state import split_state
from automm.train.bench import Bench, View

CALLS = 5
"""Timed calls on one row, after one that warms up."""
SECONDS = 0.05
"""After this time no further call is timed."""
SLOW = 0.2
"""If the first call takes as long, it is the only one."""
ADAPTER = ".lora_"
"""In the names of weights that are merged into others before a model is exported."""


class Cost(NamedTuple):
    """What a model costs.

    Attributes:
        latency_ms: Median CPU milliseconds of one row on one thread, from cells that were read to answers.
        size_mb: Weights that are used and states of processors, in 10⁶ bytes.
    """

    latency_ms: float
    size_mb: float


def cost_of(model: nn.Module, bench: Bench, view: View) -> Cost:
    """Measures a trained model on the first usable row of the validation part, on one thread.

    Args:
        model: From batch to output; it is moved to the CPU.
        bench: Rows, inputs and task.
        view: The validation rows as the model sees them.

    Raises:
        PluginError: If a component cannot take one row alone.
    """
    part, was_training = bench.parts["valid"], model.training
    items = [item for item in bench.plan.inputs if item.slug in view.processors]
    readers = [RuntimeInput(item.name, item.slug, item.columns, view.processors[item.slug]) for item in items]
    columns = list(dict.fromkeys(column for item in items for column in item.columns))
    cells = part.table.take(columns, part.rows[view.positions[:1]])
    answering = AnswerModel(model, bench.task).cpu().eval()
    used = _Used()

    def answer() -> float:
        start = time.process_time()  # what else the machine does must not count, other trials among it
        _answer(answering, readers, cells, part.table.folder)
        return time.process_time() - start

    with _one_thread(), torch.inference_mode():
        with used:
            times = [answer()]  # warms up; the only one of a slow model
        while len(times) <= CALLS and times[0] < SLOW and sum(times[1:]) < SECONDS:
            times.append(answer())
    model.train(was_training)
    size = used.bytes_of(model) + sum(map(_state_bytes, view.processors.values()))
    return Cost(round(1000 * statistics.median(times[1:] or times), 4), round(size / 1e6, 4))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Has torch compute on one thread: the time of several would add up."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _answer(model: nn.Module, readers: Sequence[RuntimeInput], cells: Mapping[str, Any], folder: Any) -> None:
    arrays: dict[str, Any] = {}
    for reader in readers:
        arrays.update(reader.arrays(cells, 1, folder)[0])
    model({name: torch.from_numpy(array) for name, array in arrays.items()})


class _Used(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the memory that operations read: a package holds only weights that are used."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                self._seen.add(leaf.untyped_storage().data_ptr())
        return func(*args, **(kwargs or {}))

    def bytes_of(self, model: nn.Module) -> int:
        """Bytes of the model's weights that were read; shared ones once, adapters not at all."""
        found = {
            tensor.untyped_storage().data_ptr(): tensor.nbytes
            for name, tensor in chain(model.named_parameters(), model.named_buffers())
            if ADAPTER not in name
        }
        return sum(size for place, size in found.items() if place in self._seen)


_states: WeakKeyDictionary[Processor, int] = WeakKeyDictionary()
"""Trials share processors, and a vocabulary takes its time to write."""


def _state_bytes(processor: Processor) -> int:
    if processor not in _states:
        state, arrays = split_state(processor.state)
        _states[processor] = len(json.dumps(state)) + sum(array.nbytes for array in arrays.values())
    return _states[processor]
