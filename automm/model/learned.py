"""A learner on fixed descriptors, as a module like the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from automm.core.kinds import Encoder, Task
from automm.core.learner import Learner
from automm.core.processor import Processor
from automm.model.assemble import TOKENS, build_encoders, build_model, extracted
from automm.model.frozen import frozen_names
from automm.plugin.blame import blamed
from automm.plugin.registry import Registry


def pooled(encoder: Encoder, arrays: Mapping[str, Tensor], present: Tensor, registry: Registry) -> Tensor:
    """The mean of an encoder's fixed descriptors.

    Args:
        encoder: An encoder with `extract`.
        arrays: Its processor's arrays, [batch, …] each.
        present: Bool [batch].
        registry: To name the owner of an encoder that raises.

    Returns:
        [batch, width]; NaN where the input is missing.
    """
    with blamed(registry, type(encoder), "extract"):
        tokens, mask = extracted(arrays) if TOKENS in arrays else encoder.extract(arrays)
    weight = mask.to(tokens.dtype)[:, :, None]  # [batch, time, 1]
    mean = torch.where(mask[:, :, None], tokens, torch.zeros_like(tokens)).sum(1) / weight.sum(1).clamp(min=1.0)
    return torch.where(present[:, None], mean, torch.full_like(mean, torch.nan))


class Averaged(nn.Module):
    """The mean output of learners that were fitted on different rows (bagging, Breiman 1996).

    Args:
        learners: Fitted, or to be loaded; all read the same columns.
    """

    def __init__(self, learners: Sequence[Learner]) -> None:
        super().__init__()
        self.learners = nn.ModuleList(learners)
        self.widths = learners[0].widths

    def forward(self, features: Tensor) -> Tensor:
        """Features [batch, width] → output [batch, size]."""
        return torch.stack([learner(features) for learner in self.learners]).mean(0)


class LearnedModel(nn.Module):
    """Describes every input, puts the descriptors side by side, and applies a fitted learner.

    Only the learner's weights are part of its state: the descriptors are never trained.

    Args:
        encoders: Input slug → encoder with `extract`.
        learner: Fitted, or to be loaded; one, or several that were fitted on different rows.
        registry: To name the owner of a component that raises.
    """

    def __init__(self, encoders: Mapping[str, Encoder], learner: Learner | Averaged, registry: Registry) -> None:
        super().__init__()
        self._registry = registry
        self.encoders = nn.ModuleDict(encoders)
        self.learner = learner

    def describe(self, batch: Mapping[str, Tensor]) -> Tensor:
        """A batch → descriptors of all inputs side by side, [batch, width]."""
        found = []
        for slug, encoder in cast(Iterable[tuple[str, Encoder]], self.encoders.items()):
            prefix = f"{slug}."
            arrays = {key.removeprefix(prefix): value for key, value in batch.items() if key.startswith(prefix)}
            present = arrays.pop("present")
            found.append(pooled(encoder, arrays, present, self._registry))
        return torch.cat(found, 1)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """A batch → output [batch, size]."""
        features = self.describe(batch)
        owner: Any = self.learner.learners[0] if isinstance(self.learner, Averaged) else self.learner
        with blamed(self._registry, type(owner), "forward"):
            return self.learner(features)  # type: ignore[no-any-return]

    def weights(self) -> dict[str, Tensor]:
        """What `restore` takes."""
        return {WIDTHS: torch.tensor(list(self.learner.widths.values())), **self.learner.state_dict()}


WIDTHS = "descriptors"
"""Among the weights: how many columns the learner reads of each input."""


def build_learned(
    resolved: Mapping[str, Any], processors: Mapping[str, Processor], task: Task, registry: Registry,
    make: Callable[[Mapping[str, Any], Processor], Encoder] | None = None,
) -> tuple[dict[str, Encoder], Callable[[Mapping[str, int]], Learner]]:  # fmt: skip
    """Makes the parts of a learner's model; `make` as in `build_model`.

    Returns:
        The encoders, and what makes the learner once the widths of their descriptors are known.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(resolved["seed"])  # the same encoders again when the weights of the learner are loaded
        encoders = build_encoders(resolved, processors, registry, make)
    cls: type[Learner] = registry.get("learner", resolved["learner"]["name"])

    def learner(widths: Mapping[str, int]) -> Learner:
        with blamed(registry, cls, "__init__"):
            return cls(cls.Config.model_validate(resolved["learner"]["config"]), widths, task.target())

    return encoders, learner


def restore(
    resolved: Mapping[str, Any],
    processors: Mapping[str, Processor],
    task: Task,
    registry: Registry,
    weights: Mapping[str, Tensor],
    make: Callable[[Mapping[str, Any], Processor], Encoder] | None = None,
) -> nn.Module:
    """The model of a resolved configuration with the weights of its trial; `make` as in `build_model`."""
    if "learner" not in resolved:
        model = build_model(resolved, processors, task, registry, make)
        left_out = frozen_names(cast(Mapping[str, Encoder], model.encoders))
        frozen = {name: tensor for name, tensor in model.state_dict().items() if name in left_out}
        model.load_state_dict({**frozen, **weights})
        return model
    encoders, learner_of = build_learned(resolved, processors, task, registry, make)
    widths = dict(zip(encoders, weights[WIDTHS].tolist(), strict=True))
    kept = {name: tensor for name, tensor in weights.items() if name != WIDTHS}
    several = {int(name.split(".")[1]) for name in kept if name.startswith("learners.")}
    learner = Averaged([learner_of(widths) for _ in several]) if several else learner_of(widths)
    learner.load_state_dict(kept)
    return LearnedModel(encoders, learner, registry)
