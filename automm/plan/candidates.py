"""What a trial may choose from: the recipe's candidates, or all that suit, with their search ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from automm.core.component import Component
from automm.core.config import Config, Tune
from automm.core.kinds import Encoder, Fusion, Loss, Task
from automm.core.learner import Learner
from automm.core.profile import Context
from automm.core.space import ANY, NONE, Choices, ComponentSpace, Fixed, Range, Space
from automm.errors import RecipeError
from automm.plan.model import LearnerChoice, LossChoice
from automm.plugin.blame import blamed
from automm.plugin.registry import Entry, Registry

PLAIN = "none"
RESAMPLE = "resample"
SAMPLINGS = {"resample_over": "over", "resample_under": "under", "resample_sqrt": "sqrt"}
"""Remedies that draw rows → the method of `sampling_weights`; `resample` is the first, when searching all of them."""
AUTO = "auto"
WEIGHTS = "weights"
FEW = 4
"""So many fusions are searched over if the recipe names none: a dozen would share out the trials too thinly."""
FROZEN = "none"
"""The `adapt` of an encoder that is not trained."""
BALANCED = 1.5
"""Up to this ratio of the largest to the smallest class, `imbalance: auto` tries no remedy."""


def tuned(tune: Tune, integer: bool) -> Space:
    """A component's own search range."""
    if tune.choices is not None:
        return Choices(values=tune.choices)
    assert tune.low is not None
    assert tune.high is not None
    return Range(low=tune.low, high=tune.high, log=tune.log, step=tune.step, integer=integer)


def declared(space: Space, tune: Tune) -> bool:
    """Whether a space is the component's own range and not one that the recipe gives."""
    return space == tuned(tune, isinstance(space, Range) and space.integer)


def ranges(config: type[Config], fields: dict[str, Space], searching: bool) -> dict[str, Space]:
    """The recipe's fields and, when searching, the ranges of the other fields.

    Without a search a list stands for its first value and a range for the field's default.
    """
    if not searching:
        return {name: _first(config, name, space) for name, space in fields.items()}
    own = {
        name: tuned(tune, config.model_fields[name].annotation is int)
        for name, tune in config.tunes().items()
        if name not in fields
    }
    return {**own, **fields}


def _first(config: type[Config], name: str, space: Space) -> Fixed:
    if isinstance(space, Fixed):
        return space
    if isinstance(space, Choices):
        return Fixed(value=space.values[0])
    default = config.model_fields[name].default
    inside = isinstance(default, int | float) and space.low <= default <= space.high
    return Fixed(value=default if inside else (int(space.low) if space.integer else space.low))


def fixed(component: ComponentSpace) -> dict[str, Any]:
    """The fields with one value."""
    return {name: space.value for name, space in component.fields.items() if isinstance(space, Fixed)}


def stored(registry: Registry, component: ComponentSpace) -> ComponentSpace | None:
    """An encoder with `adapt` set so that what it reads is computed once and stored; None if it cannot be.

    The recipe decides where it names one value of `adapt`.
    """
    cls: type[Encoder] = registry.get("encoder", component.name)
    said = component.fields.get("adapt")
    open_ = said is None or (isinstance(said, Choices) and FROZEN in said.values)
    kept = (cls.Config.model_fields["adapt"].default, FROZEN) if open_ else (None,)
    for adapt in kept:
        fields = component.fields if adapt is None else {**component.fields, "adapt": Fixed(value=adapt)}
        own = ComponentSpace(name=component.name, fields=dict(fields))
        try:
            config = cls.Config.model_validate(fixed(own))
        except ValueError:
            continue
        with blamed(registry, cls, "extracts"):
            if cls.extracts(config):
                return own
    return None


class Chooser:
    """Picks candidates of a kind and notes why others are left out.

    Attributes:
        left_out: Component → reason.
    """

    def __init__(self, registry: Registry, context: Context, searching: bool) -> None:
        self._registry, self._context, self._searching = registry, context, searching
        self.left_out: dict[str, str] = {}

    def encoders(self, modality: str, named: Sequence[ComponentSpace]) -> tuple[ComponentSpace, ...]:
        """Candidates for the inputs of a modality."""
        entries = [e for e in self._registry.all("encoder") if _as(Encoder, e).modality == modality]
        return self._pick("encoder", entries, named, f" for {modality}")

    def descriptors(self, modality: str, named: Sequence[ComponentSpace]) -> tuple[ComponentSpace, ...]:
        """Those of the encoders of a modality that give fixed descriptors; of a checkpoint only frozen."""
        entries = [e for e in self._registry.all("encoder") if _as(Encoder, e).modality == modality]
        if not named:
            ordered = sorted(entries, key=lambda e: (-_as(Encoder, e).preference, e.name))
            suited = [e for e in ordered if not self._unsuited(e.cls, {})]
            named = [ComponentSpace(name=self._registry.unique_name(e)) for e in suited]
        found = []
        for component in named:
            cls: type[Encoder] = self._registry.get("encoder", component.name)
            own = stored(self._registry, component)
            if own is not None:
                spaces = ranges(cls.Config, own.fields, self._searching)
                read = {name: space for name, space in spaces.items() if name not in cls.completing}
                found.append(ComponentSpace(name=own.name, fields=read))
        return tuple(found if self._searching else found[:1])

    def learners(
        self,
        named: Sequence[ComponentSpace],
        remedies: Sequence[str],
        imbalance: float,
        *,
        described: bool,
        network: bool,
    ) -> tuple[LearnerChoice, ...]:
        """What learns: all suited learners when searching, else the network.

        Args:
            named: The recipe's learners.
            remedies: The recipe's imbalance remedies; a learner weights rows, or does nothing.
            imbalance: Largest over smallest class.
            described: Whether any input has fixed descriptors.
            network: Whether the recipe chooses parts of the network (fusion, loss, objective), and so the network.

        Raises:
            RecipeError: If a named learner does not fit.
        """
        target = self._context.target
        kind = target.kind if target else ""
        weighted = {WEIGHTS, RESAMPLE, *SAMPLINGS} & set(remedies) or (AUTO in remedies and imbalance >= BALANCED)
        method = "sqrt" if {"resample_sqrt"} == set(remedies) - {PLAIN} else "over"
        samplings = (["none"] if {PLAIN, AUTO} & set(remedies) else []) + ([method] if weighted else [])
        wanted = [component.name for component in named]
        entries = []
        for entry in self._registry.all("learner"):
            cls = _as(Learner, entry)
            reason = None
            if kind not in cls.targets:
                reason = f"the task is {self._context.task}"
            elif not cls.by_gradient and network and not named:
                reason = "model.fusion, model.loss or model.objective chooses the network"
            elif not cls.by_gradient and not described:
                reason = "no input has fixed descriptors"
            elif not cls.by_gradient and not samplings:
                reason = f"it knows no remedy {' or '.join(remedies)}"
            if reason is None:
                entries.append(entry)
            elif entry.name in wanted:
                raise RecipeError(f"model.learner: {entry.name!r} does not fit: {reason}")
            else:
                self.left_out[f"learner {entry.name}"] = reason
        found = []
        for component in self._pick("learner", entries, named):
            cls = self._registry.get("learner", component.name)
            for sampling in ["none"] if cls.by_gradient else samplings:
                key = component.name if sampling == "none" else f"{component.name}+{WEIGHTS}"
                found.append(
                    LearnerChoice(key=key, component=component, by_gradient=cls.by_gradient, sampling=sampling)
                )
        return tuple(found)

    def fusions(self, named: Sequence[ComponentSpace], needs: str, inputs: int) -> tuple[ComponentSpace, ...]:
        """Candidates that give what the task needs; with one input the default, else the preferred few.

        `any` among the named ones stands for all that suit and are not named themselves.
        """
        entries = []
        for entry in self._registry.all("fusion"):
            gives = _as(Fusion, entry).gives
            if needs in gives:
                entries.append(entry)
            else:
                self.left_out[f"fusion {entry.name}"] = f"it gives {' or '.join(sorted(gives))}, the task needs {needs}"
        every = any(component.name == ANY for component in named)
        named = [component for component in named if component.name != ANY]
        chosen = self._pick("fusion", entries, named)
        if every and named and self._searching:
            chosen += self._others("fusion", entries, named)
        if self._searching and not named and not every:
            reason = f"{FEW} others are tried first; `fusion: {ANY}` tries all"
            self.left_out.update({f"fusion {component.name}": reason for component in chosen[FEW:]})
            chosen = chosen[:FEW]
        if inputs == 1 and not named and len(chosen) > 1:
            self.left_out.update({f"fusion {c.name}": "there is one input, nothing to fuse" for c in chosen[1:]})
            chosen = chosen[:1]
        return chosen

    def objectives(self, named: Sequence[ComponentSpace]) -> tuple[ComponentSpace, ...]:
        """The named objectives, and `none` among them if the recipe says so; `any` is all that suit, and none."""
        words = [component for component in named if component.name in (NONE, ANY)]
        own = [component for component in named if component not in words]
        chosen = self._pick("objective", [], own) if own else ()
        every = any(word.name == ANY for word in words)
        if every and (self._searching or not own):
            chosen += self._others("objective", self._registry.all("objective"), own)
        if not words or (chosen and not self._searching and named[0].name != NONE):
            return chosen
        nothing = ComponentSpace(name=NONE)
        return (nothing, *chosen)[: None if self._searching else 1] if named[0].name == NONE else (*chosen, nothing)

    def losses(
        self, named: Sequence[ComponentSpace], remedies: Sequence[str], kind: str, imbalance: float
    ) -> tuple[LossChoice, ...]:
        """Losses with the imbalance remedies of the recipe.

        Raises:
            RecipeError: If a remedy has no loss, or contradicts the named losses.
        """
        for component in named:
            if kind not in self._registry.get("loss", component.name).targets:
                raise RecipeError(f"model.loss: {component.name!r} does not fit task {self._context.task!r}")
        entries = []
        for entry in self._registry.all("loss"):
            if kind in _as(Loss, entry).targets:
                entries.append(entry)
            else:
                self.left_out[f"loss {entry.name}"] = f"the task is {self._context.task}"
        if named:
            choices = self._named_losses(entries, named, remedies, imbalance)
        else:
            choices = self._losses_by_remedy(entries, remedies, imbalance)
        return tuple({choice.key: choice for choice in choices}.values())

    def _named_losses(
        self, entries: list[Entry], named: Sequence[ComponentSpace], remedies: Sequence[str], imbalance: float
    ) -> list[LossChoice]:
        """The recipe's losses, each its own remedy, and on resampled rows if wanted; `auto` resamples plain ones."""
        picked = self._pick("loss", entries, named)
        own = [
            LossChoice(key=c.name, component=c, remedy=self._registry.get("loss", c.name).remedy or PLAIN)
            for c in picked
        ]
        plain = [choice.component for choice in own if choice.remedy == PLAIN]
        drawn = [remedy for remedy in remedies if remedy == RESAMPLE or remedy in SAMPLINGS]
        if AUTO in remedies and self._imbalanced(imbalance):
            drawn = [RESAMPLE]
        losses = plain if AUTO in remedies else picked
        resampled = [choice for remedy in drawn for loss in losses for choice in self._resampled(loss, remedy)]
        return resampled if drawn and not {PLAIN, AUTO} & set(remedies) else [*own, *resampled]

    def _losses_by_remedy(self, entries: list[Entry], remedies: Sequence[str], imbalance: float) -> list[LossChoice]:
        """The suited losses of each remedy; of a remedy the preferred one, of plain losses all when searching."""
        by_remedy: dict[str, list[Entry]] = {}
        for entry in entries:
            cls = _as(Loss, entry)
            if cls.metrics and self._context.metric not in cls.metrics:
                self.left_out[f"loss {entry.name}"] = f"it is for the metric {' or '.join(sorted(cls.metrics))}"
            else:
                by_remedy.setdefault(cls.remedy or PLAIN, []).append(entry)
        if AUTO in remedies:
            others = sorted(set(by_remedy) - {PLAIN})
            remedies = [PLAIN, *others, RESAMPLE] if self._imbalanced(imbalance) else [PLAIN]
        choices: list[LossChoice] = []
        for remedy in remedies:
            if remedy == RESAMPLE or remedy in SAMPLINGS:
                for component in self._pick("loss", by_remedy.get(PLAIN, []))[:1]:
                    choices += self._resampled(component, remedy)
            elif remedy not in by_remedy:
                raise RecipeError(
                    f"imbalance: no loss with remedy {remedy!r} fits task {self._context.task!r} "
                    f"(there are: {', '.join(sorted({*by_remedy, RESAMPLE, *SAMPLINGS}))})"
                )
            else:
                picked = self._pick("loss", by_remedy[remedy])
                picked = picked if remedy == PLAIN else picked[:1]
                choices += [LossChoice(key=c.name, component=c, remedy=remedy) for c in picked]
        return choices

    def _resampled(self, component: ComponentSpace, remedy: str) -> list[LossChoice]:
        """A loss on drawn rows, once per method that the remedy stands for."""
        methods = [SAMPLINGS[remedy]] if remedy in SAMPLINGS else list(SAMPLINGS.values())
        return [
            LossChoice(key=f"{component.name}+{method}", component=component, sampling=method, remedy=remedy)
            for method in (methods if self._searching else methods[:1])
        ]

    def _imbalanced(self, imbalance: float) -> bool:
        if self._context.target is None or not self._context.target.counts:
            return False
        if imbalance < BALANCED:
            self.left_out["imbalance remedies"] = f"the classes are balanced ({imbalance:.1f} : 1)"
            return False
        return True

    def _pick(
        self, kind: str, entries: list[Entry], named: Sequence[ComponentSpace] = (), of: str = ""
    ) -> tuple[ComponentSpace, ...]:
        """The named components, or all suited ones, the preferred first; one of them when nothing is searched."""
        what = f"{kind}{of}"
        if named:
            picked = [(c, self._registry.get(kind, c.name)) for c in named]
            for component, cls in picked:
                reason = self._unsuited(cls, fixed(component))
                if reason:
                    raise RecipeError(f"{what}: {component.name!r} does not fit: {reason}")
        else:
            picked = []
            for entry in sorted(entries, key=lambda e: (-getattr(e.cls, "preference", 0.0), e.name)):
                reason = self._unsuited(entry.cls, {})
                if reason:
                    self.left_out[f"{what} {entry.name}"] = reason
                else:
                    picked.append((ComponentSpace(name=self._registry.unique_name(entry)), entry.cls))
        if not picked:
            reasons = "; ".join(f"{k}: {v}" for k, v in self.left_out.items() if k.startswith(what))
            raise RecipeError(f"no {what} is left ({reasons or 'none is installed'})")
        if not self._searching:
            picked = picked[:1]
        return tuple(
            ComponentSpace(name=c.name, fields=ranges(cls.Config, c.fields, self._searching)) for c, cls in picked
        )

    def _others(self, kind: str, entries: list[Entry], named: Sequence[ComponentSpace]) -> tuple[ComponentSpace, ...]:
        """All that suit and are not named."""
        known = {self._registry.entry(kind, component.name) for component in named}
        rest = [entry for entry in entries if entry not in known]
        return self._pick(kind, rest) if any(not self._unsuited(entry.cls, {}) for entry in rest) else ()

    def _unsuited(self, cls: type[Component], fields: dict[str, Any]) -> str | None:
        try:
            config = cls.Config.model_validate(fields)
        except ValueError as problem:
            return str(problem).splitlines()[-1].strip()
        with blamed(self._registry, cls, "unsuited"):
            return cls.unsuited(self._context, config)


def _as(base: type[Any], entry: Entry) -> Any:
    assert issubclass(entry.cls, base)
    return entry.cls


def task_space(task: Task, named: Mapping[str, Space], searching: bool, registry: Registry) -> ComponentSpace:
    """The task with its head's ranges; what the recipe or the target fixed stays as it is."""
    given = task.config.model_dump(mode="json", exclude_unset=True)
    fields: dict[str, Space] = {name: Fixed(value=value) for name, value in given.items()}
    entry = registry.entry_of(type(task))
    name = registry.unique_name(entry) if entry else task.name
    return ComponentSpace(name=name, fields=ranges(type(task.config), {**fields, **named}, searching))
