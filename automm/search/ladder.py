"""The ladder of the search: what is cheap for all candidates, what is dear for the best ones only.

Rungs, from cheap to dear: `probe` trains on what is computed once and stored (fixed descriptors, frozen checkpoints);
`scratch` gives encoders that are trained in every trial a few epochs; `adapt` trains the finalists in full: all epochs,
and checkpoints whole or in part; `open` searches everything with what is left of the budget. The default configurations
and each modality alone come before the first rung.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from automm.core.config import Config
from automm.core.kinds import Encoder
from automm.core.space import Choices, ComponentSpace, Fixed
from automm.plan.candidates import FROZEN, stored
from automm.plan.model import Candidates, Plan
from automm.plugin.registry import Registry
from automm.recipe.model import RUNGS
from automm.report.folder import asked_for

PROBE, SCRATCH, ADAPT = RUNGS
OPEN = "open"
SHARES = {PROBE: 0.5, SCRATCH: 0.2, ADAPT: 0.3}
"""Share of the budget of each rung; that of a rung which does not apply falls to the others."""
STALL = 16
"""So many trials in a row without a new best end a rung."""
FAILED = 3
"""So many failed trials in a row end a rung: what is too dear for the budget stays so."""
FINALISTS = 3
"""Most networks that are promoted to `adapt`."""
FEW_EPOCHS = 0.25
"""Share of the epochs of a trial in `scratch`, at least `LEAST_EPOCHS`."""
LEAST_EPOCHS = 3
DEPTHS = ("last_2", "lora", "full")
"""How a checkpoint is adapted if the recipe does not say, from cheap to dear."""

Report = Mapping[str, Any]


class Rung(NamedTuple):
    """A stage of the search.

    Attributes:
        name: What reports call it.
        plan: The plan with the candidates that its trials are sampled from.
        until: Share of the budget at which it ends at the latest, 0 to 1.
    """

    name: str
    plan: Plan
    until: float


class Ladder:
    """The rungs of a plan.

    Args:
        plan: The plan.
        registry: The components.
        sizes: Rung → share of the budget, as the recipe gives it; 0 leaves the rung out.

    Attributes:
        rungs: Those that apply, from cheap to dear; the last one is `open`.
        first: The plan of the default configurations: checkpoints are frozen where they can be.
    """

    def __init__(self, plan: Plan, registry: Registry, sizes: Mapping[str, float] | None = None) -> None:
        self._plan, self._registry = plan, registry
        self.first = opening(plan, registry)
        plans: dict[str, Plan] = {}
        if plan.searching:
            cheap = _stored(plan, registry)
            few = _few_epochs(plan, cheap, registry)
            probe = _probe(plan, cheap)
            if probe is not None and (few is not None or self._adaptable()):
                plans[PROBE] = probe
            if few is not None:
                plans[SCRATCH] = few
            if plans and (few is not None or self._adaptable()):
                plans[ADAPT] = plan
        given = dict(sizes or {})
        shares = {name: given.get(name, SHARES[name]) for name in plans}
        total = sum(shares.values())
        scale = 1 / total if total > 1 or (total and not given) else 1.0
        self.rungs, until = [], 0.0
        for name, share in shares.items():
            until += share * scale
            if share > 0:
                self.rungs.append(Rung(name, plans[name], until))
        self.rungs.append(Rung(OPEN, plan, math.inf))

    def plan(self, rung: str) -> Plan:
        """The plan of a rung; that of the default configurations for any other name."""
        return next((own.plan for own in self.rungs if own.name == rung), self.first)

    def at(
        self,
        reports: Sequence[Report],
        used: float,
        promoted: Callable[[Sequence[Report]], Sequence[Report]],
        exhausted: Collection[str] = (),
    ) -> tuple[Rung, dict[str, Any] | None]:
        """Where the search stands.

        Args:
            reports: All trials so far, in order.
            used: Share of the budget that is used.
            promoted: From networks, the best first, to those that are worth adapting.
            exhausted: Rungs whose samples are all known.

        Returns:
            The rung, and the next finalist's configuration if it is `adapt`; else its trials are sampled.
        """
        for rung in self.rungs:
            own = [report for report in reports if report.get("rung") == rung.name]
            if rung.name == ADAPT and used < rung.until:
                following = next(self._finals(reports, promoted), None)
                if following is not None:
                    return rung, following
            going = rung.name not in exhausted and used < rung.until and not self._stalled(own)
            if rung.name == OPEN or (going and rung.name != ADAPT):
                return rung, None
        raise AssertionError("the last rung is always open")

    def _stalled(self, reports: Sequence[Report]) -> bool:
        """Whether the last trials of a rung brought no new best, or failed."""
        if len(reports) >= FAILED and all(report["state"] == "failed" for report in reports[-FAILED:]):
            return True
        sign = 1.0 if self._plan.maximize else -1.0
        best, since = -math.inf, 0
        for report in reports:
            value = sign * report["value"] if report["state"] == "complete" else -math.inf
            since = 0 if value > best else since + 1
            best = max(best, value)
        return since >= STALL

    def _finals(
        self, reports: Sequence[Report], promoted: Callable[[Sequence[Report]], Sequence[Report]]
    ) -> Iterator[dict[str, Any]]:
        """The finalists' configurations that were not tried yet, the cheapest of each first."""
        sign = 1.0 if self._plan.maximize else -1.0
        networks = [
            report
            for report in reports
            if report["state"] == "complete" and report.get("rung") != ADAPT and self.variants(report["resolved"])
        ]
        networks.sort(key=lambda report: -sign * report["value"])
        tried = [asked_for(report) for report in reports]
        variants = [self.variants(report["resolved"]) for report in promoted(networks)[:FINALISTS]]
        for level in zip_longest(*variants):
            for resolved in level:
                if resolved is not None and resolved not in tried:
                    yield resolved

    def variants(self, resolved: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What a finalist may be trained with more effort, from cheap to dear; nothing for what is final already."""
        if "train" not in resolved:
            return []
        full = self._plan.candidates.train.get("epochs")
        train = dict(resolved["train"])
        if isinstance(full, Fixed) and isinstance(full.value, int) and train["epochs"] < full.value:
            train["epochs"] = full.value
        found = [{**resolved, "train": train}] if train != resolved["train"] else []
        levels = {slug: self._depths(slug, choice) for slug, choice in resolved["encoders"].items()}
        for depth in dict.fromkeys(depth for depths in levels.values() for depth in depths):
            encoders = {
                slug: {**choice, "config": {**choice["config"], "adapt": depth}} if depth in levels[slug] else choice
                for slug, choice in resolved["encoders"].items()
            }
            found.append({**resolved, "encoders": encoders, "train": train})
        return found

    def _depths(self, slug: str, choice: Mapping[str, Any]) -> list[str]:
        """How a frozen checkpoint may be adapted; nothing if the recipe holds it frozen."""
        cls: type[Encoder] = self._registry.get("encoder", choice["name"])
        config = cls.Config.model_validate(choice["config"])
        group = next(item.group for item in self._plan.inputs if item.slug == slug)
        spaces = [space for space in self._plan.candidates.encoders[group] if space.name == choice["name"]]
        if not spaces or not cls.pretrained(config) or choice["config"].get("adapt") != FROZEN:
            return []
        said = spaces[0].fields.get("adapt")
        if isinstance(said, Choices):
            return [str(value) for value in said.values if value != FROZEN]
        return [] if said is not None else list(DEPTHS)

    def _adaptable(self) -> bool:
        """Whether any encoder is a checkpoint that may be frozen first and adapted later."""
        for spaces in self._plan.candidates.encoders.values():
            for space in spaces:
                said = space.fields.get("adapt")
                open_ = said is None or (isinstance(said, Choices) and len(said.values) > 1)
                if open_ and _pretrained(self._registry, space) and stored(self._registry, space) is not None:
                    return True
        return False


def opening(plan: Plan, registry: Registry) -> Plan:
    """The plan of the default configurations: in a search, what can be stored is not trained there."""
    if not plan.searching:
        return plan
    return _narrowed(plan, {**plan.candidates.encoders, **_stored(plan, registry)}, "first")


def _pretrained(registry: Registry, space: ComponentSpace) -> bool:
    cls: type[Encoder] = registry.get("encoder", space.name)
    return cls.pretrained(_config(cls.Config, space))


def _config(config: type[Config], space: ComponentSpace) -> Any:
    return config.model_validate({name: s.value for name, s in space.fields.items() if isinstance(s, Fixed)})


def _stored(plan: Plan, registry: Registry) -> dict[str, tuple[ComponentSpace, ...]]:
    """Of each group that has any, the encoders whose features are computed once and stored."""
    found = {}
    for group, spaces in plan.candidates.encoders.items():
        kept = tuple(space for space in (stored(registry, space) for space in spaces) if space is not None)
        if kept:
            found[group] = kept
    return found


def _probe(plan: Plan, cheap: Mapping[str, tuple[ComponentSpace, ...]]) -> Plan | None:
    """The plan of `probe`: networks where every input's features can be stored, and the other learners."""
    learners = plan.candidates.learners
    if set(cheap) == set(plan.candidates.encoders):
        return _narrowed(plan, cheap, PROBE)
    own = tuple(choice for choice in learners if not choice.by_gradient)
    return _narrowed(plan, plan.candidates.encoders, PROBE, learners=own) if own else None


def _few_epochs(plan: Plan, cheap: Mapping[str, tuple[ComponentSpace, ...]], registry: Registry) -> Plan | None:
    """The plan of `scratch`: networks with few epochs; None if all encoders are stored, or none is a network."""
    learners = tuple(choice for choice in plan.candidates.learners if choice.by_gradient)
    if plan.candidates.learners and not learners:
        return None
    encoders = {
        group: tuple(stored(registry, space) or space for space in spaces)
        for group, spaces in plan.candidates.encoders.items()
    }
    if all(len(cheap.get(group, ())) == len(spaces) for group, spaces in encoders.items()):
        return None
    train = dict(plan.candidates.train)
    full = train.get("epochs")
    if isinstance(full, Fixed) and isinstance(full.value, int):
        train["epochs"] = Fixed(value=min(full.value, max(LEAST_EPOCHS, math.ceil(FEW_EPOCHS * full.value))))
    return _narrowed(plan, encoders, SCRATCH, learners=learners, train=train)


def _narrowed(plan: Plan, encoders: Mapping[str, tuple[ComponentSpace, ...]], rung: str, **changes: Any) -> Plan:
    """The plan with other candidates; the study knows a shortened list of choices by a name of its own."""
    candidates = plan.candidates.model_copy(update={"encoders": dict(encoders), **changes})
    return renamed(plan, candidates, rung)


def renamed(plan: Plan, candidates: Candidates, suffix: str) -> Plan:
    """The plan with other candidates, and a name of its own for every choice that has other options now.

    A study refuses a choice whose options change. What is named alike is learned from over all rungs.
    """
    before = plan.candidates
    aliases = dict(candidates.aliases)
    pairs: dict[str, tuple[Sequence[Any], Sequence[Any]]] = {
        "learner": (before.learners, candidates.learners),
        "fusion": (before.fusion, candidates.fusion),
        "loss": (before.loss, candidates.loss),
    }
    for field, name in (("encoders", "encoder"), ("descriptors", "describe")):
        old, new = getattr(before, field), getattr(candidates, field)
        pairs |= {f"{name}.{group}": (old[group], new[group]) for group in new}
    for name, (old, new) in pairs.items():
        keys = [[getattr(item, "key", getattr(item, "name", "")) for item in items] for items in (old, new)]
        if keys[0] != keys[1]:
            aliases[name] = f"{aliases.get(name, name)}@{suffix}"
    return plan.model_copy(update={"candidates": candidates.model_copy(update={"aliases": aliases})})


def without(plan: Plan, failing: Iterable[tuple[str, str]]) -> Plan:
    """The plan without components that fail again and again; the last one of a kind stays.

    Args:
        plan: The plan of a rung.
        failing: Kind and name of each.
    """
    for kind, name in failing:
        c = plan.candidates
        changes: dict[str, Any] = {}
        if kind == "encoder":
            for field in ("encoders", "descriptors"):
                groups = {g: tuple(s for s in spaces if s.name != name) for g, spaces in getattr(c, field).items()}
                changes[field] = {g: kept or getattr(c, field)[g] for g, kept in groups.items()}
        elif kind == "fusion":
            changes["fusion"] = tuple(space for space in c.fusion if space.name != name) or c.fusion
        elif kind in ("loss", "learner"):
            field = "loss" if kind == "loss" else "learners"
            changes[field] = tuple(o for o in getattr(c, field) if o.component.name != name) or getattr(c, field)
        if changes:
            plan = renamed(plan, c.model_copy(update=changes), f"without-{name}")
    return plan
