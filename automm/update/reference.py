"""The drift reference of a package, from a finished run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from automm.answers import kept_answers
from automm.core.figures import Figure
from automm.runtime.drift import (
    Reference,
    field_figures,
    learn,
    refused_figure,
    result_figures,
    target_figures,
)
from automm.runtime.projections import Watched, learn_scale, pooled

if TYPE_CHECKING:
    from automm.package.assembled import Assembled
    from automm.run import Member, Run
    from automm.train.bench import View

ROWS = 4000
"""Rows that are looked at."""
CHUNK = 256


def drift_reference(run: Run, members: Sequence[Member], assembled: Assembled, views: Mapping[str, View]) -> Reference:
    """Histograms of the training rows' fields, and of the winner's features and predictions on validation rows.

    What was fitted to the training rows knows them too well: every word of theirs is in the vocabulary, every
    prediction of theirs is sure. New rows are like validation rows.

    Args:
        run: The run, with the decided task.
        members: The winner's models.
        assembled: The winner, with its inputs.
        views: What it sees of the training and validation rows.
    """
    inputs = [
        Watched(item.info.name, slug, item.info.columns, views["train"].processors[slug])
        for slug, (item, _) in assembled.choices.items()
    ]
    part, train = run.prepared.parts["train"], views["train"]
    # An updated package repeats old rows in training; here each counts once.
    positions = train.positions[np.sort(np.unique(part.rows[train.positions], return_index=True)[1])]
    figures = refused_figure(len(positions), len(np.unique(part.rows)) - len(positions))
    positions = _some(positions, run.plan.seed)
    columns = list(dict.fromkeys(column for item in inputs for column in item.columns))
    for at, arrays in _pieces(train, positions):
        cells = part.table.take(columns, part.rows[at])
        for key, content in field_figures(inputs, cells, arrays, part.table.folder).items():
            figures.setdefault(key, Figure(content.kind, [])).values.extend(content.values)
    figures |= target_figures(run.prepared.task, part.table.take(run.plan.target, part.rows[positions]))
    figures |= result_figures(run.prepared.task.decoder(), validation_answers(run, members)[1])
    scales = {
        slug: learn_scale(vectors[present]) for slug, (vectors, present) in _vectors(train, positions, inputs).items()
    }
    chosen = _some(views["valid"].positions, run.plan.seed)
    return learn(figures, scales, _vectors(views["valid"], chosen, inputs), len(positions))


def _some(positions: np.ndarray, seed: int) -> np.ndarray:
    if len(positions) <= ROWS:
        return positions
    return np.sort(np.random.default_rng(seed).choice(positions, ROWS, replace=False))


def _pieces(view: View, positions: np.ndarray) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Positions, and the arrays of these rows, named as in the graph."""
    for start in range(0, len(positions), CHUNK):
        at = positions[start : start + CHUNK]
        yield (
            at,
            {f"{slug}.{name}": array for slug, store in view.stores.items() for name, array in store.batch(at).items()},
        )


def _vectors(view: View, positions: np.ndarray, inputs: Sequence[Watched]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Slug → what `pooled` gives for some rows, and whether each has the input."""
    found: dict[str, list[np.ndarray]] = {item.slug: [] for item in inputs}
    for _, arrays in _pieces(view, positions):
        for item in inputs:
            found[item.slug].append(pooled(item, arrays))
    return {slug: (np.concatenate(pieces), view.stores[slug].present[positions]) for slug, pieces in found.items()}


def validation_answers(run: Run, members: Sequence[Member]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Row numbers of the validation rows, and the winner's answers from before learners were fitted on these, too."""
    kept = [kept_answers(run, member.name) for member in members]
    answers = kept[0].answers
    if len(members) > 1:
        answers = run.prepared.task.average([one.answers for one in kept], [member.weight for member in members])
    return kept[0].rows.numpy(), {name: tensor.float().numpy() for name, tensor in answers.items()}
