"""From recipe, data and plugins to the plan."""

from __future__ import annotations

from automm.core.cells import slugs
from automm.core.kinds import Task
from automm.core.space import NONE, Fixed, Space
from automm.errors import RecipeError
from automm.plan.candidates import Chooser, ranges, task_space
from automm.plan.model import Candidates, Plan, PlannedInput, context_of
from automm.plan.prepare import Prepared
from automm.plugin.registry import Registry
from automm.recipe.model import Recipe
from automm.train.config import TrainConfig


def build_plan(recipe: Recipe, registry: Registry, prepared: Prepared) -> Plan:
    """Completes a recipe.

    Args:
        recipe: The recipe.
        registry: The components.
        prepared: The data side.

    Raises:
        RecipeError: If the recipe and the data (or two keys of the recipe) contradict each other.
    """
    task, searching = prepared.task, recipe.search is not None
    inputs = _inputs(recipe, prepared)
    target = task.target()
    rows = {part: len(content.rows) for part, content in prepared.parts.items()}
    metric, maximize = _metric(recipe, task)
    context = context_of(inputs, task=task.name, rows=rows["train"], target=target, needs=task.needs, metric=metric)
    chooser = Chooser(registry, context, searching)
    encoders = {}
    for item in inputs:
        if item.group not in encoders:
            named = recipe.model.encoders.get(item.group, ())
            encoders[item.group] = chooser.encoders(item.modality, named)
    descriptors = {
        item.group: chooser.descriptors(item.modality, recipe.model.encoders.get(item.group, ())) for item in inputs
    }
    objectives = {component.name for component in recipe.model.objective}
    losses = chooser.losses(recipe.model.loss, recipe.imbalance, target.kind, target.imbalance)
    candidates = Candidates(
        task=task_space(task, recipe.task.fields if recipe.task else {}, searching, registry),
        encoders=encoders,
        fusion=chooser.fusions(recipe.model.fusion, task.needs, len(inputs)),
        loss=losses,
        objective=chooser.objectives(recipe.model.objective) if recipe.model.objective else (),
        train=_train(recipe, rows["train"], searching),
        learners=chooser.learners(
            recipe.model.learner,
            recipe.imbalance,
            target.imbalance,
            described=any(descriptors.values()),
            network=bool(recipe.model.fusion or recipe.model.loss or objectives - {NONE}),
        ),
        descriptors=descriptors,
    )
    remedies = len({choice.remedy for choice in losses})
    learners = candidates.learners
    first = sum(remedies if choice.by_gradient else 1 for choice in learners)
    return Plan(
        recipe=recipe.name,
        task=task.name,
        task_reason=prepared.task_reason,
        target=recipe.target.columns,
        inputs=inputs,
        left_out={**prepared.inference.left_out, **chooser.left_out},
        rows=rows,
        classes=dict(zip(target.names, target.counts, strict=True)) if target.counts else {},
        metric=metric,
        maximize=maximize,
        candidates=candidates,
        searching=searching,
        objectives=recipe.search.objectives if recipe.search else (),
        drop_modalities=recipe.search is not None and recipe.search.baselines,
        trials=_trials(recipe, first),
        time=recipe.search.time if recipe.search else None,
        seed=recipe.seed,
        data={part: content.table.digest for part, content in prepared.parts.items()},
        warnings=tuple(prepared.warnings),
    )


def _inputs(recipe: Recipe, prepared: Prepared) -> tuple[PlannedInput, ...]:
    infos = prepared.inference.inputs
    named = slugs([info.name for info in infos])
    for key in recipe.model.encoders:
        if key not in {info.name for info in infos} | {info.modality for info in infos}:
            raise RecipeError(
                f"model.encoders: {key!r} is neither an input nor a modality of the data "
                f"(there are: {', '.join(f'{info.name} ({info.modality})' for info in infos)})"
            )
    return tuple(
        PlannedInput(
            name=info.name,
            slug=named[info.name],
            modality=info.modality,
            columns=info.columns,
            types=info.types,
            reason=prepared.inference.reasons.get(info.name, ""),
            column_reasons={
                column: prepared.inference.reasons[column]
                for column in info.columns
                if column != info.name and column in prepared.inference.reasons
            },
            group=info.name if info.name in recipe.model.encoders else info.modality,
        )
        for info in infos
    )


STEPS = 3000
"""About as many optimisation steps as a trial may take at most, on tables of usual size."""
BATCH_SIZES = ((500, 16), (2_000, 32), (10_000, 64), (100_000, 128))
"""Up to so many training rows → rows per step; 256 beyond."""


def _train(recipe: Recipe, rows: int, searching: bool) -> dict[str, Space]:
    """The recipe's settings; batch size, epochs and patience follow the number of rows where it says nothing."""
    batch = next((size for most, size in BATCH_SIZES if rows <= most), 256)
    epochs = min(max(STEPS * batch // rows, 10), 60)
    named = recipe.train.get("epochs")
    most = named.value if isinstance(named, Fixed) and isinstance(named.value, int) else epochs
    sized = {
        "batch_size": Fixed(value=batch),
        "epochs": Fixed(value=epochs),
        "patience": Fixed(value=max(4, most // 5)),
    }
    return ranges(TrainConfig, {**sized, **recipe.train}, searching)


def _metric(recipe: Recipe, task: Task) -> tuple[str, bool]:
    names = type(task).metric_names()
    metric = recipe.metric or next(iter(names))
    for name in (metric, *(gate.metric for gate in recipe.require)):
        if name not in names and name not in ("latency_ms", "size_mb"):
            raise RecipeError(f"metric {name!r} is not one of task {task.name!r}: {', '.join(names)}")
    if metric not in names:
        raise RecipeError(f"metric: {metric!r} can be required, but it cannot choose the model")
    return metric, names[metric]


DEFAULT_TRIALS = 20


def _trials(recipe: Recipe, first: int) -> int | None:
    if recipe.search is None:
        return first
    return recipe.search.trials or (None if recipe.search.time else DEFAULT_TRIALS)
