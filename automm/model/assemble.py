"""The multimodal model: encoders → fusion → head, and what of it is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from automm.core.features import Features
from automm.core.kinds import Encoder, Fusion, Graph, Task
from automm.core.objective import Objective
from automm.core.processor import Processor
from automm.core.profile import Context
from automm.errors import PluginError
from automm.model.frozen import is_only_frozen, make_encoder
from automm.model.lora import add_adapters, rank_of
from automm.plugin.blame import blamed, who
from automm.plugin.registry import Registry

TOKENS, MASK = "extracted.tokens", "extracted.mask"
"""Arrays that stand for an encoder's own ones once its `extract` has been computed and stored."""


def extracted(arrays: Mapping[str, Tensor]) -> Features:
    """Stored features as `extract` gives them."""
    return Features(arrays[TOKENS].float(), arrays[MASK])


class MultimodalModel(nn.Module):
    """Encodes every input, masks what is missing, fuses, and applies the task's head.

    Args:
        encoders: Input slug → encoder.
        fusion: Joins the inputs.
        head: Joint features → output [batch, size]; `Decisions` for a fusion that gives decisions.
        registry: To name the owner of a component that raises.
    """

    def __init__(self, encoders: Mapping[str, Encoder], fusion: Fusion, head: nn.Module, registry: Registry) -> None:
        super().__init__()
        self._registry = registry
        self.encoders = nn.ModuleDict(encoders)
        self.fusion = fusion
        self.head = head
        self._tried: set[str] = set()
        self._slugs = tuple(encoders)
        self._aside: dict[str, Encoder] = {}

    @contextmanager
    def frozen_aside(self, where: torch.device) -> Iterator[None]:
        """Takes frozen checkpoints out of the modules, and to the device: each step walks over thousands fewer."""
        encoders = cast(dict[str, Encoder], dict(self.encoders.items()))
        self._aside = {slug: encoder.eval().to(where) for slug, encoder in encoders.items() if is_only_frozen(encoder)}
        for slug in self._aside:
            del self.encoders[slug]
        try:
            yield
        finally:
            self._aside = {}
            self.encoders = nn.ModuleDict(encoders)

    def features(self, batch: Mapping[str, Tensor]) -> dict[str, Features]:
        """Encodes a batch; a missing cell is an all-False mask over zero tokens.

        Args:
            batch: "slug.array" → [batch, …], and "slug.present" → bool [batch].
        """
        found = {}
        for slug in self._slugs:
            encoder = self._aside[slug] if slug in self._aside else cast(Encoder, self.encoders[slug])
            prefix = f"{slug}."
            arrays = {key.removeprefix(prefix): value for key, value in batch.items() if key.startswith(prefix)}
            present = arrays.pop("present")
            with blamed(self._registry, type(encoder), "forward"):
                given = encoder.complete(extracted(arrays)) if TOKENS in arrays else encoder(arrays)
            tokens, mask = self._first(slug, encoder, _checked(encoder, given))
            mask = mask & present[:, None]  # [batch, time]
            found[slug] = Features(torch.where(mask[:, :, None], tokens, torch.zeros_like(tokens)), mask)
        return found

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """A batch → output [batch, size]."""
        return self.decide(self.features(batch))

    def decide(self, features: Mapping[str, Features]) -> Tensor:
        """The features of a batch → output [batch, size]."""
        joint = self._fused(features)
        given = (joint, self._weights(joint)) if self.fusion.decisions else (joint,)
        return self.head(*given)  # type: ignore[no-any-return]

    def vector(self, features: Mapping[str, Features]) -> Tensor:
        """The features of a batch → joint vectors [batch, width]; decisions as they are weighed."""
        joint = self._fused(features)
        return (joint.tokens * self._weights(joint)[:, :, None]).sum(1) if self.fusion.decisions else joint.mean()

    def _fused(self, features: Mapping[str, Features]) -> Features:
        with blamed(self._registry, type(self.fusion), "forward"):
            joint = self.fusion(features)
        return self._first("", self.fusion, _checked(self.fusion, joint))

    def _weights(self, joint: Features) -> Tensor:
        with blamed(self._registry, type(self.fusion), "weigh"):
            return self.fusion.weigh(joint)

    def _first(self, slug: str, component: Encoder | Fusion, given: Features) -> Features:
        """Looks for NaN in what a component gives for the first training batch; later it would only be the loss's."""
        if self.training and slug not in self._tried:
            self._tried.add(slug)
            if not bool(given.tokens[given.mask].isfinite().all()):
                where = f" for the input {slug!r}" if slug else ""
                raise PluginError(f"{who(type(component))} gives NaN or infinity{where} in the first training batch")
        return given

    def train(self, mode: bool = True) -> MultimodalModel:
        """As `nn.Module.train`; frozen encoders stay in eval mode (their dropout and statistics are frozen too)."""
        super().train(mode)
        for encoder in self.encoders.values():
            if not any(parameter.requires_grad for parameter in encoder.parameters()):
                encoder.eval()
        return self


class Decisions(nn.Module):
    """One head per decision of the fusion; their outputs are averaged."""

    def __init__(self, heads: Iterable[nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, joint: Features, weights: Tensor) -> Tensor:
        """Joint features [batch, decisions, width] and weights [batch, decisions] → output [batch, size]."""
        tokens = joint.tokens.unbind(1)
        outputs = [head(Features.vector(token)) for head, token in zip(self.heads, tokens, strict=True)]
        return (torch.stack(outputs, 1) * weights[:, :, None]).sum(1)


class AnswerModel(nn.Module):
    """The graph of a package: the model with the task's answer (softmax, inverse transform) at its end."""

    def __init__(self, model: nn.Module, task: Task) -> None:
        super().__init__()
        self.model = model
        self._task = task

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A batch → answers by name, [batch, …] each."""
        return self._task.answer(self.model(batch))


class EnsembleModel(nn.Module):
    """Several models whose answers are averaged, in one graph.

    Args:
        members: The models.
        weights: One weight per model, adding to 1.
        names: Per model: its slug → the slug in the batch. Two models share an input only if they read it alike.
        task: Averages the answers.
    """

    def __init__(
        self, members: Sequence[AnswerModel], weights: Sequence[float], names: Sequence[Mapping[str, str]], task: Task
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self._weights, self._names, self._task = list(weights), list(names), task

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A batch → averaged answers by name, [batch, …] each."""
        answers = []
        for member, names in zip(self.members, self._names, strict=True):
            own = {
                f"{slug}{key.removeprefix(outer)}": value
                for slug, outer in names.items()
                for key, value in batch.items()
                if key.startswith(f"{outer}.")
            }
            answers.append(member(own))
        return self._task.average(answers, self._weights)


def build_model(
    resolved: Mapping[str, Any], processors: Mapping[str, Processor], task: Task, registry: Registry,
    make: Callable[[Mapping[str, Any], Processor], Encoder] | None = None,
) -> MultimodalModel:  # fmt: skip
    """Makes the model of a resolved configuration.

    Args:
        resolved: Plain JSON; `resolved["encoders"]` has one entry per slug.
        processors: Input slug → fitted processor.
        task: The fitted task.
        registry: Where components are looked up.
        make: Makes an encoder of its choice and its processor; by default anew.

    Raises:
        PluginError: If a component raises, or forgets to set its width.
    """
    encoders = build_encoders(resolved, processors, registry, make)
    widths = {slug: _width(encoder) for slug, encoder in encoders.items()}
    fusion_cls: type[Fusion] = registry.get("fusion", resolved["fusion"]["name"])
    with blamed(registry, fusion_cls, "__init__"):
        fusion = fusion_cls(fusion_cls.Config.model_validate(resolved["fusion"]["config"]), widths)
    fusion.needs = task.needs
    own = type(task)(type(task).Config.model_validate(resolved["task"]["config"]), task.state)
    with blamed(registry, type(task), "head"):
        heads = [own.head(_width(fusion)) for _ in range(fusion.decisions or 1)]
    head = Decisions(heads) if fusion.decisions else heads[0]
    return MultimodalModel(encoders, fusion, head, registry)


def build_objective(
    resolved: Mapping[str, Any], model: MultimodalModel, context: Context, registry: Registry
) -> Objective | None:
    """The objective of a resolved configuration; None without one, or where it cannot be used with these inputs."""
    if "objective" not in resolved:
        return None
    cls: type[Objective] = registry.get("objective", resolved["objective"]["name"])
    config = cls.Config.model_validate(resolved["objective"]["config"])
    with blamed(registry, cls, "unsuited"):
        if cls.unsuited(context, config):
            return None
    encoders = cast(Iterable[tuple[str, Encoder]], model.encoders.items())
    with blamed(registry, cls, "__init__"):
        return cls(config, {slug: _width(encoder) for slug, encoder in encoders}, _width(model.fusion))


def build_encoders(
    resolved: Mapping[str, Any], processors: Mapping[str, Processor], registry: Registry,
    make: Callable[[Mapping[str, Any], Processor], Encoder] | None = None,
) -> dict[str, Encoder]:  # fmt: skip
    """Makes the encoders of a resolved configuration, frozen as it says; `make` as in `build_model`."""
    encoders: dict[str, Encoder] = {}
    for slug, choice in resolved["encoders"].items():
        processor = processors[slug]
        encoders[slug] = make(choice, processor) if make else make_encoder(choice, processor, registry)
        adapt(encoders[slug], choice["config"]["adapt"])
    return encoders


def _width(component: Encoder | Fusion) -> int:
    width = getattr(component, "width", None)
    if not isinstance(width, int) or width < 1:
        raise PluginError(f"{who(type(component))} must set self.width in __init__, it is {width!r}")
    return width


def _checked(component: Encoder | Fusion, given: Any) -> Features:
    if not isinstance(given, Features):
        raise PluginError(f"{who(type(component))} must give Features, it gave {type(given).__name__}")
    tokens, mask = given
    if tokens.ndim != 3 or mask.ndim != 2 or tokens.shape[2] != component.width:
        raise PluginError(
            f"{who(type(component))} must give tokens [batch, time, {component.width}] (its width) and a "
            f"mask [batch, time]; it gave {list(tokens.shape)} and {list(mask.shape)}"
        )
    decisions = component.decisions if isinstance(component, Fusion) else 0
    if decisions and tokens.shape[1] != decisions:
        raise PluginError(
            f"{who(type(component))} must give one token per decision ({decisions}); it gave {list(tokens.shape)}"
        )
    return given


def adapt(encoder: Encoder, how: str) -> None:
    """Freezes what `adapt` says: `none` everything, `last_N` all but the last N layers, `full` nothing.

    `lora` and `lora_R` freeze everything too, and add adapters that are trained. What the encoder calls fresh is
    trained in any case.
    """
    if how == "full":
        return
    encoder.requires_grad_(False)
    if rank := rank_of(how):
        add_adapters(encoder, rank)
    layers = encoder.layers()[-int(how.removeprefix("last_")) :] if how.startswith("last_") else []
    for layer in [*layers, *encoder.fresh()]:
        layer.requires_grad_(True)


def parameter_groups(
    model: MultimodalModel, resolved: Mapping[str, Any], registry: Registry, *beside: nn.Module | None
) -> list[dict[str, Any]]:
    """Optimiser groups: pretrained weights learn slower; biases, norms and embeddings of one axis don't decay.

    Args:
        model: The model.
        resolved: Its configuration.
        registry: Where components are looked up.
        beside: What is trained beside it: the loss, the objective.
    """
    train = resolved["train"]
    pretrained: set[int] = set()
    for slug, choice in resolved["encoders"].items():
        cls = registry.get("encoder", choice["name"])
        # Adapters are new: beside frozen weights all that is trained learns at the full rate.
        if rank_of(choice["config"]["adapt"]) is None and cls.pretrained(cls.Config.model_validate(choice["config"])):
            encoder = cast(Encoder, model.encoders[slug])
            fresh = {id(parameter) for module in encoder.fresh() for parameter in module.parameters()}
            pretrained |= {id(parameter) for parameter in encoder.parameters()} - fresh
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for parameter in _trained(model, *(module for module in beside if module is not None)):
        groups.setdefault((id(parameter) in pretrained, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": train["pretrained_learning_rate"] if slow else train["learning_rate"],
            "weight_decay": train["weight_decay"] if decay else 0.0,
        }
        for (slow, decay), parameters in sorted(groups.items())
    ]


def _trained(*modules: nn.Module) -> Iterator[Tensor]:
    for module in modules:
        yield from (parameter for parameter in module.parameters() if parameter.requires_grad)


def answer_graph(module: nn.Module, processors: Mapping[str, Processor], example: dict[str, Tensor]) -> Graph:
    """What an exporter is given: a module from batch to answers, an example batch and the sizes that vary.

    Sizes of 1 in the example would be taken for constants (every text short enough for one window, say): they are
    padded to 2.
    """
    dynamic: dict[str, dict[int, str]] = {}
    padded = dict(example)
    for slug, processor in processors.items():
        for name, spec in processor.specs().items():
            axes = {i + 1: f"{slug}_{size}" for i, size in enumerate(spec.shape) if isinstance(size, str)}
            key = f"{slug}.{name}"
            dynamic[key] = {0: "batch", **axes}
            for axis in axes:
                if padded[key].shape[axis] == 1:
                    filling = torch.full_like(padded[key], spec.pad)
                    padded[key] = torch.cat([padded[key], filling], axis)
        dynamic[f"{slug}.present"] = {0: "batch"}
    return Graph(module.eval(), {key: padded[key] for key in dynamic}, dynamic)
