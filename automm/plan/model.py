"""The plan: a recipe completed from the data and the plugins, with every default made explicit."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pydantic

from automm.core.profile import Context, InputInfo
from automm.core.space import ComponentSpace, Space


class _Frozen(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PlannedInput(_Frozen):
    """An input with its columns, the reason for its modality, and the encoder group it belongs to.

    Inputs of one group share the choice of encoder, so that four text columns don't quadruple the search space.
    """

    name: str
    slug: str
    modality: str
    columns: tuple[str, ...]
    types: dict[str, str] = {}
    reason: str = ""
    column_reasons: dict[str, str] = {}
    group: str = ""

    @property
    def info(self) -> InputInfo:
        """As components see it."""
        return InputInfo(self.name, self.modality, self.columns, dict(self.types))


class LossChoice(_Frozen):
    """A loss with the way rows are sampled: the two places where imbalance is remedied."""

    key: str
    component: ComponentSpace
    sampling: str = "none"
    remedy: str = "none"


class LearnerChoice(_Frozen):
    """A learner with the way rows are weighted against imbalance.

    Attributes:
        key: What the study calls it.
        component: The learner.
        by_gradient: Whether it is the network, which takes the other candidates.
        sampling: How rows are weighted, in the words of `LossChoice.sampling`.
    """

    key: str
    component: ComponentSpace
    by_gradient: bool = False
    sampling: str = "none"


class Candidates(_Frozen):
    """Everything that a trial chooses from.

    Attributes:
        task: The task with its head.
        encoders: Input group → encoders.
        fusion: Fusions.
        loss: Losses with imbalance remedies.
        objective: Objectives, "none" among them; empty: none.
        train: Training settings.
        learners: What learns; empty: the network only.
        descriptors: Input group → encoders whose fixed descriptors the other learners read.
        aliases: Choice → the name that the study knows it by, where its options are not those of the whole plan.
    """

    task: ComponentSpace
    encoders: dict[str, tuple[ComponentSpace, ...]]
    fusion: tuple[ComponentSpace, ...]
    loss: tuple[LossChoice, ...]
    train: dict[str, Space]
    objective: tuple[ComponentSpace, ...] = ()
    learners: tuple[LearnerChoice, ...] = ()
    descriptors: dict[str, tuple[ComponentSpace, ...]] = {}
    aliases: dict[str, str] = {}


class Plan(_Frozen):
    """What `fit` will do.

    Attributes:
        recipe: Name of the recipe.
        task: Task name.
        task_reason: Why this task.
        target: Target columns.
        inputs: The inputs.
        left_out: Column or component → why it is left out.
        rows: Rows per part ("train", "valid", "test").
        classes: Class (or label) → training rows.
        metric: The metric that decides.
        maximize: Whether larger is better.
        candidates: The search space.
        searching: Whether fields are searched; otherwise defaults are fitted once (per imbalance remedy).
        objectives: What is searched to be small beside the metric: latency_ms, size_mb.
        drop_modalities: Whether trials may do without a modality.
        trials: Most trials; None: as many as the time allows.
        time: Wall-clock seconds; None: no limit.
        seed: Seed of everything.
        data: Digests of the tables.
        warnings: What the analyst should look at.
    """

    recipe: str
    task: str
    task_reason: str
    target: tuple[str, ...]
    inputs: tuple[PlannedInput, ...]
    left_out: dict[str, str]
    rows: dict[str, int]
    classes: dict[str, int]
    metric: str
    maximize: bool
    candidates: Candidates
    searching: bool
    objectives: tuple[str, ...] = ()
    drop_modalities: bool = True
    trials: int | None
    time: float | None
    seed: int
    data: dict[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Hash of everything that gives trials their meaning; the budget may change between runs."""
        content = self.model_dump(mode="json", exclude={"trials", "time", "warnings"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def modalities(self) -> dict[str, tuple[str, ...]]:
        """Modality → slugs of its inputs, in order."""
        found: dict[str, tuple[str, ...]] = {}
        for item in self.inputs:
            found[item.modality] = (*found.get(item.modality, ()), item.slug)
        return found

    def droppable(self) -> tuple[str, ...]:
        """Modalities that a trial may do without: from three on, when searching and not told otherwise.

        With two, leaving one out is a baseline. A costly modality that adds little would else slow down every trial.
        """
        names = tuple(self.modalities())
        return names if self.searching and self.drop_modalities and len(names) > 2 else ()

    def lines(self) -> list[str]:
        """The plan for people."""
        sizes = ", ".join(f"{count:,} {part}" for part, count in self.rows.items() if count)
        out = [
            f"task       {self.task}: {self.task_reason}",
            f"target     {', '.join(self.target)}",
            f"rows       {sizes}",
        ]
        if self.classes:
            counts = [f"{name} {count:,}" for name, count in list(self.classes.items())[:12]]
            out.append(f"classes    {', '.join(counts)}")
        for item in self.inputs:
            columns = f" ({len(item.columns)} columns)" if len(item.columns) > 1 else ""
            reason = f": {item.reason}" if item.reason else ""
            out.append(f"input      {item.name}: {item.modality}{columns}{reason}")
            for column, reason in item.column_reasons.items():
                out.append(f"  column   {column}: {item.types.get(column, item.modality)}: {reason}")
        if self.candidates.learners:
            out.append("learner    " + "; ".join(_described(c.key, c.component) for c in self.candidates.learners))
        for group, encoders in self.candidates.descriptors.items():
            if encoders:
                out.append(f"describe   {group}: {_listed(encoders)}")
        for group, encoders in self.candidates.encoders.items():
            out.append(f"encoder    {group}: {_listed(encoders)}")
        out.append(f"fusion     {_listed(self.candidates.fusion)}")
        if self.droppable():
            out.append(f"without    nothing, {', '.join(self.droppable())}")
        out.append("loss       " + "; ".join(_described(c.key, c.component) for c in self.candidates.loss))
        if self.candidates.objective:
            out.append(f"objective  {_listed(self.candidates.objective)}")
        fixed = ComponentSpace(name="", fields=self.candidates.train)
        out.append(f"train      {_described('', fixed).strip() or 'defaults'}")
        out.append(f"metric     {self.metric} ({'larger' if self.maximize else 'smaller'} is better)")
        out.append(f"budget     {self.budget()}")
        out += [f"left out   {name}: {reason}" for name, reason in self.left_out.items()]
        out += [f"warning    {text}" for text in self.warnings]
        return out

    def budget(self) -> str:
        """The budget in words."""
        if not self.searching:
            fits = "1 fit" if self.trials == 1 else f"{self.trials} fits"
            return f"{fits}, nothing is searched (no `search:` in the recipe)"
        parts = [f"{self.trials} trials"] if self.trials else []
        parts += [f"{self.time:.0f} s"] if self.time else []
        return " or ".join(parts)


def _listed(components: tuple[ComponentSpace, ...]) -> str:
    return "; ".join(_described(component.name, component) for component in components)


def _described(name: str, component: ComponentSpace) -> str:
    fields = ", ".join(f"{field} {_space(space)}" for field, space in component.fields.items())
    return f"{name} ({fields})" if name and fields else name or fields


def _space(space: Space) -> str:
    content: dict[str, Any] = space.model_dump()
    if content["kind"] == "fixed":
        return f"= {content['value']}"
    if content["kind"] == "choices":
        return "in {" + ", ".join(map(str, content["values"])) + "}"
    return f"{content['low']:g}…{content['high']:g}{' log' if content['log'] else ''}"


def context_of(plan_inputs: tuple[PlannedInput, ...], **facts: Any) -> Context:
    """The context that `unsuited` looks at."""
    return Context(inputs=tuple(item.info for item in plan_inputs), **facts)
