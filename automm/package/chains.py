"""The variants that `compress:` asks for: chains of compressors, and the students that some of them begin with."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from automm.core.compressor import STAGES, Compressor
from automm.core.profile import Context
from automm.core.space import Fixed
from automm.errors import AutommError
from automm.package.assembled import Assembled, view
from automm.plan.candidates import Chooser
from automm.plan.model import PlannedInput, context_of
from automm.plugin.blame import blamed
from automm.search.space import Preferred, resolve
from automm.train.bench import View

if TYPE_CHECKING:
    from automm.run import Member, Run


@dataclass(frozen=True)
class Step:
    """One compressor of a chain, with what the recipe says of its fields."""

    cls: type[Compressor]
    name: str
    fields: dict[str, Any]

    @property
    def key(self) -> str:
        """Equal keys do the same."""
        return json.dumps([self.name, self.fields], sort_keys=True)

    @property
    def shown(self) -> str:
        """Name and fields for people."""
        fields = ", ".join(f"{name} {value}" for name, value in self.fields.items())
        return f"{self.name} ({fields})" if fields else self.name


Chain = tuple[Step, ...]


def shown(chain: Chain) -> str:
    """A chain for people."""
    return " → ".join(step.shown for step in chain)


def chains(run: Run) -> list[Chain]:
    """The variants of the recipe; under `auto` every compressor, those of models also with the first of graphs."""
    registry, asked = run.plugins.registry, run.recipe.compress
    if asked is None:
        return []
    if asked.chains:
        return [
            tuple(
                Step(
                    registry.get("compressor", step.name),
                    step.name,
                    {name: space.value for name, space in step.fields.items() if isinstance(space, Fixed)},
                )
                for step in chain
            )
            for chain in asked.chains
        ]
    steps = {
        stage: [
            Step(registry.get("compressor", registry.unique_name(entry)), registry.unique_name(entry), {})
            for entry in sorted(registry.all("compressor"), key=lambda e: (-e.cls.preference, e.name))  # type: ignore[attr-defined]
            if entry.cls.stage == stage  # type: ignore[attr-defined]
        ]
        for stage in STAGES
    }
    found: list[Chain] = [(step,) for step in steps["graph"]]
    for step in (*steps["model"], *steps["student"]):
        found += [(step,), *([(step, steps["graph"][0])] if steps["graph"] else [])]
    return found


@dataclass(frozen=True)
class Seen:
    """What a model reads.

    Attributes:
        choices: Slug → planned input and encoder choice.
        views: "train", "valid" and, if there are rows, "test".
    """

    choices: dict[str, tuple[PlannedInput, dict[str, Any]]]
    views: dict[str, View]


def seen(run: Run, assembled: Assembled) -> Seen:
    """What a model reads of every part. All ranks together: arrays may have to be made."""
    parts = [part for part in ("train", "valid", "test") if run.plan.rows[part]]
    return Seen(assembled.choices, {part: view(run, part, assembled) for part in parts})


@dataclass(frozen=True)
class Pupil:
    """A student before it is trained; without `seen` there is none, for a reason."""

    resolved: dict[str, Any] = field(default_factory=dict)
    seen: Seen | None = None
    reason: str = ""


def pupils(run: Run, members: Sequence[Member]) -> dict[str, Pupil]:
    """The students of all chains, by the key of their step. All ranks together."""
    found: dict[str, Pupil] = {}
    for step in (step for chain in chains(run) for step in chain if step.cls.stage == "student"):
        if step.key not in found:
            found[step.key] = _pupil(run, members, step)
    return found


def _pupil(run: Run, members: Sequence[Member], step: Step) -> Pupil:
    ordered = [(m.weight, copy.deepcopy(m.resolved)) for m in sorted(members, key=lambda m: -m.weight)]
    try:
        with blamed(run.plugins.registry, step.cls, "student"):
            cls: Any = step.cls
            resolved = cls(cls.Config(**step.fields)).student(ordered, _small(run))
        choices = {
            item.slug: (item, resolved["encoders"][item.slug])
            for item in run.plan.inputs
            if item.slug in resolved["encoders"]
        }
        return Pupil(resolved, seen(run, Assembled(None, choices)))  # type: ignore[arg-type]
    except AutommError as problem:
        return Pupil(reason=str(problem))


def _small(run: Run) -> dict[str, Any]:
    """The default network, over the encoders that the plan takes where the recipe names none: without checkpoints."""
    plan, registry = run.plan, run.plugins.registry
    chooser = Chooser(registry, context(run), False)
    encoders = {item.group: chooser.encoders(item.modality, ()) for item in plan.inputs}
    candidates = plan.candidates.model_copy(update={"encoders": encoders, "learners": ()})
    return resolve(plan.model_copy(update={"candidates": candidates}), registry, Preferred())


def context(run: Run) -> Context:
    """What `unsuited` looks at."""
    plan, task = run.plan, run.prepared.task
    rows, target = plan.rows["train"], task.target()
    return context_of(plan.inputs, task=plan.task, rows=rows, target=target, needs=task.needs, metric=plan.metric)
