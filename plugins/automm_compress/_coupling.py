"""Finding, in any model, the hidden units that can be taken out: by trying what each one reaches.

A hidden unit of a layer can go if whatever it does reaches the answers through known layers only, and reaches these at
known places. Both are tried: the unit's output is changed, and it is watched which layers' inputs change, and where. So
nothing is assumed about the names and the code of a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
NOISE = 1.0
"""What is added to a unit's output to see what it reaches, in units of the outputs' standard deviation. The same number
at every place would not show: attention does not see what all keys have in common."""
TRIES, PROOFS = 8, 2
"""So many units of a layer are tried at most, until so many have shown what they reach: some say nothing at all."""
FEWEST = 8
"""Layers with fewer units are left alone."""

Batch = dict[str, Tensor]
Answers = dict[str, Tensor]


@dataclass
class Group:
    """Layers that share hidden units.

    Attributes:
        producers: Layers that make the units, one row of weights each.
        carriers: Layers between that treat each unit by itself (batch normalisation, depthwise convolution).
        consumers: Layers that read the units, one column of weights each.
        units: Number of units.
        block: Units that only go together, side by side (an attention head).
    """

    consumers: list[nn.Module]
    units: int
    block: int = 1
    producers: list[nn.Module] = field(default_factory=list)
    carriers: list[nn.Module] = field(default_factory=list)


def axis_of(module: nn.Module) -> int:
    """The axis of a layer's input and output along which its units lie."""
    return -1 if isinstance(module, nn.Linear) else 1


def depthwise(module: nn.Module) -> bool:
    """Whether a convolution treats each channel by itself."""
    return isinstance(module, CONVOLUTIONS) and module.groups == module.in_channels == module.out_channels > 1


def _plain(module: nn.Module) -> bool:
    """Whether a layer is one matrix of weights: neither grouped nor computed from other parameters."""
    return getattr(module, "groups", 1) == 1 and "weight" in module._parameters


def probe(batches: Sequence[Batch]) -> Batch:
    """Two rows with every input, or as many as it takes to have each of them once: what is missing shows nothing."""
    for batch in batches:
        present = [tensor for name, tensor in batch.items() if name.endswith(".present")]
        whole = torch.stack(present).all(0).nonzero()[:2, 0] if present else torch.arange(2)
        if len(whole) == 2:
            return {name: tensor[whole] for name, tensor in batch.items()}
    rows = sorted({0, 1, *(int(tensor.int().argmax()) for tensor in present)})
    return {name: tensor[rows] for name, tensor in batch.items()}


def sizes(module: nn.Module) -> tuple[int, int]:
    """Units that a layer reads and makes."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    return module.in_channels, module.out_channels  # type: ignore[return-value]


def find_groups(model: nn.Module, batch: Batch) -> list[Group]:
    """The groups of a model, in the order in which it calls them.

    Args:
        model: `forward(batch) -> answers`, in eval mode.
        batch: A few rows.
    """
    watch = _Watch(model, batch)
    groups: dict[tuple[int, ...], Group] = {}
    for producer in watch.called():
        if isinstance(producer, NORMS) or not _plain(producer) or sizes(producer)[1] < FEWEST:
            continue
        found = _reach(watch, producer)
        if found is None:
            continue
        consumers, carriers, block = found
        key = tuple(id(module) for module in consumers)
        group = groups.setdefault(key, Group(consumers, sizes(producer)[1]))
        if group.units == sizes(producer)[1]:
            group.producers.append(producer)
            group.block = max(group.block, block)
            group.carriers += [module for module in carriers if all(module is not known for known in group.carriers)]
    return [group for group in groups.values() if group.units // group.block > 1]


def _reach(watch: _Watch, producer: nn.Module) -> tuple[list[nn.Module], list[nn.Module], int] | None:
    """Consumers, carriers and block of a layer's units; None if they reach the answers in another way."""
    units = sizes(producer)[1]
    consumers: list[nn.Module] = []
    carriers: list[nn.Module] = []
    block = 1
    proofs = 0
    for at in range(TRIES):
        unit = at * units // TRIES + at % 3 % (units // TRIES)
        changed = watch.changed(producer, unit)
        if not changed:
            continue
        reading: list[nn.Module] = []
        carrying: list[nn.Module] = []
        for module, where in changed.items():
            inputs = module.num_features if isinstance(module, NORMS) else sizes(module)[0]
            if inputs != units or len(where) == units:
                continue
            size = len(where)
            first = unit // size * size
            if units % size or where != list(range(first, first + size)):
                continue  # further downstream
            if isinstance(module, NORMS) or depthwise(module):
                if size == 1:
                    carrying.append(module)
            elif _plain(module):
                reading.append(module)
                block = max(block, size)
        if not reading or (consumers and [id(m) for m in consumers] != [id(m) for m in reading]):
            return None
        consumers, carriers = reading, carrying
        if not watch.only_through(producer, unit, consumers):
            return None
        proofs += 1
        if proofs == PROOFS:
            return consumers, carriers, block
    return None


class _Watch:
    """Runs a model with changes, and compares with the run without."""

    def __init__(self, model: nn.Module, batch: Batch) -> None:
        self.model, self.batch = model, batch
        layers = [m for m in model.modules() if isinstance(m, (nn.Linear, *CONVOLUTIONS, *NORMS))]
        self.inputs: dict[nn.Module, list[Tensor]] = {module: [] for module in layers}
        with _hooks(self._keeper(module) for module in layers):
            self.answers = self._run()
        self.clean = {module: calls[0] for module, calls in self.inputs.items() if len(calls) == 1}

    def called(self) -> list[nn.Module]:
        """Layers that are called exactly once."""
        return list(self.clean)

    def _run(self) -> Answers:
        with torch.no_grad():
            found: Answers = self.model(dict(self.batch))
        return found

    def _keeper(self, module: nn.Module) -> Any:
        def keep(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            if given:
                self.inputs[module].append(given[0].detach())

        return module.register_forward_pre_hook(keep)

    def changed(self, producer: nn.Module, unit: int) -> dict[nn.Module, list[int]]:
        """Layers whose input changes with a unit → the units of that input that change."""
        found: dict[nn.Module, list[int]] = {}

        def compare(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            before, now = self.clean[module], given[0]
            if before.shape == now.shape and module is not producer:
                off = (now != before).movedim(axis_of(module), -1).flatten(0, -2).any(0)
                if bool(off.any()):
                    found[module] = off.nonzero()[:, 0].tolist()

        watched = [m.register_forward_pre_hook(compare) for m in self.clean]
        with _hooks([_noisy(producer, unit), *watched]):
            self._run()
        return found

    def only_through(self, producer: nn.Module, unit: int, consumers: Sequence[nn.Module]) -> bool:
        """Whether the answers stay as they are if the consumers do not see the change."""
        blocked = [
            module.register_forward_pre_hook(lambda m, given: (self.clean[m], *given[1:])) for module in consumers
        ]
        with _hooks([_noisy(producer, unit), *blocked]):
            answers = self._run()
        return all(torch.equal(answers[name], self.answers[name]) for name in answers)


def _noisy(producer: nn.Module, unit: int) -> Any:
    def disturb(module: nn.Module, given: Any, output: Tensor) -> Tensor:
        changed = output.clone()
        place = changed.select(axis_of(module), unit)
        noise = torch.randn(place.shape, generator=torch.Generator().manual_seed(unit))
        place.add_(noise * (NOISE * float(output.std()) + 1e-3))
        return changed

    return producer.register_forward_hook(disturb)


@contextmanager
def _hooks(handles: Any) -> Iterator[None]:
    made = list(handles)
    try:
        yield
    finally:
        for handle in made:
            handle.remove()


def collect(
    model: nn.Module, batches: Sequence[Batch], modules: Sequence[nn.Module], take: Callable[[nn.Module, Tensor], None]
) -> None:
    """Runs batches, and hands `take` the inputs of some layers."""
    handles = [m.register_forward_pre_hook(lambda m, given: take(m, given[0].detach())) for m in modules]
    with _hooks(handles), torch.no_grad():
        for batch in batches:
            model(dict(batch))


class Moments:
    """Mean and second moments of a layer's input units.

    Args:
        units: Number of units.
    """

    def __init__(self, units: int) -> None:
        self.count = 0
        self._sum = torch.zeros(units, dtype=torch.float64)
        self._products = torch.zeros(units, units, dtype=torch.float64)

    def add(self, module: nn.Module, given: Tensor) -> None:
        """Takes in a batch of inputs."""
        flat = given.movedim(axis_of(module), -1).flatten(0, -2).float()
        self.count += len(flat)
        self._sum += flat.sum(0)
        self._products += flat.T @ flat

    @property
    def mean(self) -> Tensor:
        """[units]."""
        return self._sum / max(self.count, 1)

    @property
    def second(self) -> Tensor:
        """Mean products, [units, units]."""
        return self._products / max(self.count, 1)

    @property
    def covariance(self) -> Tensor:
        """[units, units]."""
        return self.second - self.mean[:, None] * self.mean[None, :]


def moments_of(model: nn.Module, batches: Sequence[Batch], modules: Sequence[nn.Module]) -> dict[nn.Module, Moments]:
    """Moments of the inputs of some layers."""
    found = {module: Moments(sizes(module)[0]) for module in modules}
    collect(model, batches, modules, lambda module, given: found[module].add(module, given))
    return found
