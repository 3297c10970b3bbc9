"""Readers of the keys about the model: `task`, `imbalance`, `model`, `train`, `metric`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from automm.core.space import ANY, NONE, ComponentSpace, Fixed, Space
from automm.plugin.registry import Registry
from automm.recipe.components import Misfit, read_component, read_components, read_fields
from automm.recipe.keys_data import REST
from automm.recipe.model import ModelSpec
from automm.recipe.problems import unknown
from automm.recipe.walk import Walk
from automm.recipe.yaml import Node
from automm.train.config import TrainConfig

OWN_REMEDIES = ("none", "auto", "resample", "resample_over", "resample_under", "resample_sqrt")
"""What `imbalance:` takes beside the remedies that losses bring."""


def read_task(walk: Walk, node: Node) -> ComponentSpace | None:
    """`task:` a name or {name, fields}; what follows is checked against it."""
    if isinstance(node.value, list):
        walk.add(node, "a recipe has one task, not a list")
        return None
    space = read_component(walk, node, "task", lambda cls: None)
    if space is not None:
        walk.task = walk.registry.get("task", space.name)
    return space


def read_imbalance(walk: Walk, node: Node) -> tuple[str, ...]:
    """`imbalance:` one remedy or a list of them."""
    names = remedies(walk.registry)
    found = walk.choices(node, "imbalance remedy", names)
    if "auto" in found and len(found) > 1:
        walk.add(node, "auto tries all remedies already: leave the others out")
    return found


def remedies(registry: Registry) -> list[str]:
    """What `imbalance:` takes: what automm does itself, and the remedies that losses bring."""
    losses: list[Any] = [entry.cls for entry in registry.all("loss")]
    return [*OWN_REMEDIES, *sorted({loss.remedy for loss in losses if loss.remedy})]


def read_model(walk: Walk, node: Node) -> ModelSpec:
    """`model:` {encoders, fusion, loss, objective, learner}."""
    parts = walk.mapping(node, ("encoders", "fusion", "loss", "objective", "learner"), "{fusion: gated}")
    task = walk.task

    def fusion_misfit(cls: Any) -> str | None:
        if task is None or task.needs in cls.gives:
            return None
        return f"fusion {cls.name!r} gives {_or(cls.gives)}, but the task {task.name} needs {task.needs}"

    def loss_misfit(cls: Any) -> str | None:
        if task is None or task.target_kind in cls.targets:
            return None
        kind = task.target_kind
        return f"loss {cls.name!r} takes targets of the kind {_or(cls.targets)}, but the task {task.name} has {kind}"

    def learner_misfit(cls: Any) -> str | None:
        if task is None or task.target_kind in cls.targets:
            return None
        return f"learner {cls.name!r} does not learn targets of the kind {task.target_kind}"

    return ModelSpec(
        encoders=_encoders(walk, parts["encoders"]) if "encoders" in parts else {},
        fusion=_named(walk, parts["fusion"], "fusion", fusion_misfit, (ANY,)) if "fusion" in parts else (),
        loss=read_components(walk, parts["loss"], "loss", loss_misfit) if "loss" in parts else (),
        objective=_objectives(walk, parts["objective"]) if "objective" in parts else (),
        learner=read_components(walk, parts["learner"], "learner", learner_misfit) if "learner" in parts else (),
    )


def _objectives(walk: Walk, node: Node) -> tuple[ComponentSpace, ...]:
    """Objectives by name; `none` stands for training without one."""
    return _named(walk, node, "objective", lambda cls: None, (NONE, ANY))


def _named(walk: Walk, node: Node, kind: str, misfit: Misfit, words: tuple[str, ...]) -> tuple[ComponentSpace, ...]:
    """Components by name, and words that stand for other than one: `any` for all (others) that suit, `none`."""
    items = walk.items(node)
    named = [item for item in items if isinstance(item.value, list | dict) or item.text not in words]
    found = read_components(walk, dataclasses.replace(node, value=named), kind, misfit) if named else ()
    said = [item.text for item in items if item not in named]
    spaces = tuple(ComponentSpace(name=word) for word in words if word in said)
    first = bool(items) and items[0] not in named  # without a search the first of a list counts
    return (*spaces, *found) if first else (*found, *spaces)


def _or(names: Iterable[str]) -> str:
    return " or ".join(sorted(names))


def _encoders(walk: Walk, node: Node) -> dict[str, tuple[ComponentSpace, ...]]:
    """Encoders by input or modality; an unknown name can only be told where `inputs:` names all inputs."""
    found = {}
    modalities = walk.registry.names("modality")
    inputs = walk.inputs
    for name, value in walk.mapping(node, None, "{title: hf_text}").items():
        modality: Any = None
        if inputs is not None and name in inputs and name != REST:
            modality = inputs[name]
        elif name in modalities:
            modality = walk.registry.get("modality", name)
        elif name == REST:
            walk.add(value, 'write the name of a modality in place of "*"')
            continue
        elif inputs is not None and REST not in inputs:
            walk.add(value, unknown("input or modality", name, [*inputs, *modalities]))
            continue

        def misfit(cls: Any, name: str = name, modality: Any = modality) -> str | None:
            if modality is None or cls.modality == modality.name:
                return None
            return f"encoder {cls.name!r} is for the modality {cls.modality}, but {name!r} is {modality.name}"

        found[name] = read_components(walk, value, "encoder", misfit)
    return found


def read_train(walk: Walk, node: Node) -> dict[str, Space]:
    """`train:` fields of `TrainConfig`, fixed or searched."""
    return read_fields(walk, node, "train", TrainConfig, walk.mapping(node, None, "{epochs: 20}"))


def read_metric(walk: Walk, node: Node) -> str | None:
    """`metric:` the one metric that is optimised."""
    return walk.choice(node, metric_word(walk), list(walk.metrics()))


def metric_word(walk: Walk) -> str:
    """What metrics are called in messages."""
    return f"metric of the task {walk.task.name}" if walk.task else "metric"


def check_objective(walk: Walk, nodes: Mapping[str, Node], values: Mapping[str, Any]) -> None:
    """Notes rows and epochs that only an objective would use."""
    model, train = (nodes[key].value if key in nodes else None for key in ("model", "train"))
    if isinstance(model, dict) and "objective" in model and model["objective"].text != NONE:
        return
    example = next(iter(walk.registry.names("objective")), "...")
    hint = f"name an objective, such as model: {{objective: {example}}}"
    if "data" in values and values["data"].unlabeled:
        walk.add(walk.mapping(nodes["data"], None, "")["unlabeled"], f"nothing learns from these rows; {hint}")
    if isinstance(train, dict) and values.get("train", {}).get("pretrain", Fixed(value=0)) != Fixed(value=0):
        walk.add(train["pretrain"], f"there is nothing to begin with; {hint}")


def check_remedy(walk: Walk, nodes: Mapping[str, Node], values: Mapping[str, Any]) -> None:
    """Notes an `imbalance:` that chooses another loss than `model.loss` does."""
    brought = [remedy for remedy in values.get("imbalance", ()) if remedy not in OWN_REMEDIES]
    if brought and "model" in values and (losses := values["model"].loss):
        message = f"{brought[0]!r} chooses the loss, but model.loss names {losses[0].name!r}: leave one of them out"
        walk.add(nodes["imbalance"], message)
