"""From a plan's candidates to resolved configurations: first the component, then only its own fields."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from automm.core.config import Config
from automm.core.space import NONE, Choices, ComponentSpace, Fixed, Space
from automm.errors import PluginError
from automm.plan.candidates import declared
from automm.plan.model import LearnerChoice, LossChoice, Plan, PlannedInput
from automm.plugin.blame import blamed
from automm.plugin.registry import Registry
from automm.search.ladder import opening, without
from automm.train.config import TrainConfig


class Trial(Protocol):
    """The part of an Optuna trial that is used here."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of some strings."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number between two bounds."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number between two bounds."""


NOTHING = "nothing"
"""The choice of `without` that keeps every modality."""


class Preferred:
    """Answers every question of `resolve` with the first candidate and the fields' defaults: the default trial.

    Args:
        wanted: Parameter → key to take in place of the first candidate.
    """

    def __init__(self, wanted: Mapping[str, str] | None = None) -> None:
        self._wanted = wanted or {}
        self.params: dict[str, Any] = {}

    def component(self, name: str, keys: Sequence[str], known_as: str) -> str:
        """The first candidate."""
        key = self._wanted[name] if self._wanted.get(name) in keys else keys[0]
        if len(keys) > 1:
            self.params[known_as] = key
        return str(key)


def resolve(plan: Plan, registry: Registry, trial: Any) -> dict[str, Any]:
    """Samples one resolved configuration.

    Args:
        plan: The plan.
        registry: Where configurations are validated.
        trial: An Optuna trial, or `Preferred` for the defaults.

    Returns:
        Plain JSON without choices left.
    """
    c = plan.candidates
    without = _choose("without", {NOTHING: None, **{name: name for name in plan.droppable()}}, trial, c.aliases)
    inputs = [item for item in plan.inputs if item.modality != without]
    named = {choice.key: choice for choice in c.learners}
    learner = _choose("learner", named, trial, c.aliases) if named else None
    if learner is not None and not learner.by_gradient:
        return _described(plan, registry, trial, learner, inputs)
    encoders = {
        group: _component("encoder", f"encoder.{group}", c.encoders[group], registry, trial, c.aliases)
        for group in dict.fromkeys(item.group for item in inputs)
    }
    task = sampled("task", "task", c.task, registry, trial)
    loss = _choose("loss", {choice.key: choice for choice in c.loss}, trial, c.aliases)
    objective = _component(
        "objective", "objective", c.objective or (ComponentSpace(name=NONE),), registry, trial, c.aliases
    )
    return {
        "task": task,
        "encoders": {item.slug: encoders[item.group] for item in inputs},
        "fusion": _component("fusion", "fusion", c.fusion, registry, trial, c.aliases),
        "loss": sampled("loss", f"loss.{loss.key}", loss.component, registry, trial),
        "sampling": loss.sampling,
        **({"objective": objective} if objective else {}),
        "train": _values(TrainConfig, "train", c.train, trial),
        "seed": plan.seed,
    }


def _described(
    plan: Plan, registry: Registry, trial: Any, learner: LearnerChoice, inputs: Sequence[PlannedInput]
) -> dict[str, Any]:
    """A configuration of a learner on fixed descriptors."""
    c = plan.candidates
    groups = [group for group in dict.fromkeys(item.group for item in inputs) if c.descriptors.get(group)]
    if not groups:
        raise PluginError("none of the remaining inputs has fixed descriptors")
    encoders = {
        group: _component("encoder", f"describe.{group}", c.descriptors[group], registry, trial, c.aliases)
        for group in groups
    }
    return {
        "task": sampled(
            "task", "task", c.task, registry, Preferred()
        ),  # its search ranges are those of a network's head
        "encoders": {item.slug: encoders[item.group] for item in inputs if item.group in encoders},
        "learner": sampled("learner", f"learner.{learner.key}", learner.component, registry, trial),
        "sampling": learner.sampling,
        "seed": plan.seed,
    }


def single(resolved: dict[str, Any], slugs: Sequence[str]) -> dict[str, Any]:
    """The same configuration with some of the inputs only."""
    return {**resolved, "encoders": {slug: resolved["encoders"][slug] for slug in slugs}}


def _choose(name: str, options: dict[str, Any], trial: Any, aliases: Mapping[str, str]) -> Any:
    keys = list(options)
    known_as = aliases.get(name, name)
    if isinstance(trial, Preferred):
        return options[trial.component(name, keys, known_as)]
    return options[keys[0] if len(keys) == 1 else trial.suggest_categorical(known_as, keys)]


def _component(
    kind: str, name: str, options: Sequence[ComponentSpace], registry: Registry, trial: Any, aliases: Mapping[str, str]
) -> dict[str, Any]:
    """One of some components with its fields; empty where `none` is chosen."""
    by_key: dict[str, ComponentSpace] = {}
    for option in options:
        by_key[option.name if option.name not in by_key else f"{option.name}#{len(by_key)}"] = option
    chosen = _choose(name, by_key, trial, aliases)
    if chosen.name == NONE:
        return {}
    key = next(key for key, option in by_key.items() if option is chosen)
    return sampled(kind, f"{name}.{key}", chosen, registry, trial)


def sampled(kind: str, prefix: str, space: ComponentSpace, registry: Registry, trial: Any) -> dict[str, Any]:
    """One component with values for its fields.

    Args:
        kind: Its kind.
        prefix: What the names of the trial's parameters begin with.
        space: The component with what is fixed and what is searched.
        registry: Where it is looked up.
        trial: An Optuna trial, or `Preferred` for the defaults.

    Returns:
        "name" and "config", plain JSON.
    """
    cls = registry.get(kind, space.name)
    fields, own = dict(space.fields), {}
    if not isinstance(trial, Preferred):
        with blamed(registry, cls, "Config.suggest"):
            own = cls.Config.suggest(trial, f"{prefix}.")
        if own is not None:  # it stands for the ranges that the component declares, not for what the recipe says
            tunes = cls.Config.tunes()
            fields = {
                name: item for name, item in fields.items() if name not in tunes or not declared(item, tunes[name])
            }
    return {"name": space.name, "config": _values(cls.Config, prefix, fields, trial, own or {})}


def _values(
    config: type[Config], prefix: str, fields: dict[str, Space], trial: Any, own: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    values: dict[str, Any] = dict(own or {})
    for name, space in fields.items():
        if isinstance(space, Fixed):
            values[name] = space.value
        elif isinstance(trial, Preferred):
            value = _preferred(config, name, space)
            values[name] = value
            trial.params[f"{prefix}.{name}"] = _encode(value) if isinstance(space, Choices) else value
        else:
            values[name] = _suggest(trial, f"{prefix}.{name}", space)
    try:
        return config.model_validate(values).model_dump(mode="json")
    except ValueError as problem:
        raise PluginError(f"{prefix}: the search range gives an invalid configuration: {problem}") from problem


def _preferred(config: type[Config], name: str, space: Any) -> Any:
    default = config.model_fields[name].default
    if isinstance(space, Choices):
        return default if default in space.values else space.values[0]
    inside = isinstance(default, int | float) and space.low <= default <= space.high
    value = default if inside else space.low
    return int(value) if space.integer else float(value)


def _suggest(trial: Trial, name: str, space: Any) -> Any:
    if isinstance(space, Choices):
        return json.loads(trial.suggest_categorical(name, [_encode(value) for value in space.values]))
    if space.integer:
        return trial.suggest_int(name, int(space.low), int(space.high), step=int(space.step or 1), log=space.log)
    return trial.suggest_float(name, space.low, space.high, step=space.step, log=space.log)


def _encode(value: Any) -> str:
    """Choices are strings in the study: Optuna takes no lists, and 1 and True would collide."""
    return json.dumps(value, sort_keys=True)


def first_trials(
    plan: Plan, registry: Registry, dear: Sequence[tuple[str, str]] = ()
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The default configurations, with the study's parameters for each; those that need what is too dear are left out.

    The learners on fixed descriptors come first, as they take seconds; then the network, once per imbalance remedy. In
    a search, what can be computed once and stored is not trained there.
    """
    plan = without(opening(plan, registry), dear)
    by_remedy: dict[str, LossChoice] = {}
    for choice in plan.candidates.loss:
        by_remedy.setdefault(choice.remedy, choice)
    learners = plan.candidates.learners
    wanted = [{"learner": choice.key} for choice in learners if not choice.by_gradient]
    for network in [choice.key for choice in learners if choice.by_gradient] if learners else [""]:
        wanted += [{"learner": network, "loss": choice.key} for choice in by_remedy.values()]
    trials = []
    for keys in wanted:
        asked = Preferred(keys)
        resolved = resolve(plan, registry, asked)
        if not any(("encoder", choice["name"]) in dear for choice in resolved["encoders"].values()):
            trials.append((resolved, asked.params))
    return trials
