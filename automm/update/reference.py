"""The drift reference of a package, from a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from automm.answers import kept_answers
from automm.core.figures import Figure
from automm.runtime.drift import (
    Key,
    Reference,
    field_figures,
    learn,
    refused_figure,
    result_figures,
    target_figures,
)
from automm.runtime.projections import Watched, pooled

if TYPE_CHECKING:
    from automm.package.deliver import Assembled
    from automm.run import Member, Run
    from automm.train.bench import View

ROWS = 4000
"""Training rows that are looked at."""
CHUNK = 256


def drift_reference(run: Run, members: Sequence[Member], assembled: Assembled, train: View) -> Reference:
    """Histograms of the training rows, and of the winner's predictions on validation rows.

    Training rows would be too easy to predict: the model was fitted to them. So the predictions are those that chose
    the winner.

    Args:
        run: The run, with the decided task.
        members: The winner's models.
        assembled: The winner, with its inputs.
        train: What it sees of the training rows.
    """
    part = run.prepared.parts["train"]
    inputs = [
        Watched(item.info.name, slug, item.info.columns, train.processors[slug])
        for slug, (item, _) in assembled.choices.items()
    ]
    # An updated package repeats old rows in training; here each counts once.
    positions = train.positions[np.sort(np.unique(part.rows[train.positions], return_index=True)[1])]
    read = refused_figure(len(positions), len(np.unique(part.rows)) - len(positions))
    if len(positions) > ROWS:
        positions = np.sort(np.random.default_rng(run.plan.seed).choice(positions, ROWS, replace=False))
    columns = list(dict.fromkeys(column for item in inputs for column in item.columns))
    figures: dict[Key, Figure] = {}
    vectors: dict[str, list[np.ndarray]] = {item.slug: [] for item in inputs}
    for start in range(0, len(positions), CHUNK):
        at = positions[start : start + CHUNK]
        cells = part.table.take(columns, part.rows[at])
        arrays = {f"{slug}.{name}": a for slug, store in train.stores.items() for name, a in store.batch(at).items()}
        for key, content in field_figures(inputs, cells, arrays, part.table.folder).items():
            figures.setdefault(key, Figure(content.kind, [])).values.extend(content.values)
        for item in inputs:
            vectors[item.slug].append(pooled(item, arrays))
    joined = {slug: (np.concatenate(pieces), train.stores[slug].present[positions]) for slug, pieces in vectors.items()}
    figures |= read
    figures |= target_figures(run.prepared.task, part.table.take(run.plan.target, part.rows[positions]))
    figures |= result_figures(run.prepared.task.decoder(), validation_answers(run, members)[1])
    return learn(inputs, figures, joined, len(positions))


def validation_answers(run: Run, members: Sequence[Member]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Row numbers of the validation rows, and the winner's answers from before learners were fitted on these, too."""
    kept = [kept_answers(run, member.name) for member in members]
    answers = kept[0].answers
    if len(members) > 1:
        answers = run.prepared.task.average([one.answers for one in kept], [member.weight for member in members])
    return kept[0].rows.numpy(), {name: tensor.float().numpy() for name, tensor in answers.items()}
