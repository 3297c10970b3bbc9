"""The winner as one module, and the rows that it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from automm.core.kinds import Task
from automm.core.processor import Processor
from automm.data.arrays import ArrayStore
from automm.errors import DataError
from automm.model.assemble import AnswerModel, EnsembleModel
from automm.model.learned import restore
from automm.model.lora import merge_adapters
from automm.plan.model import PlannedInput
from automm.plan.prepare import Part
from automm.report.folder import read_report, trial_folder
from automm.run import Member, Run
from automm.search.difference import Answered
from automm.train.bench import View
from automm.train.learn import AGAIN
from automm.train.module import evaluate
from automm.train.run import device, evaluation_batches
from automm.train.weights import load_weights

VERIFY_ROWS = 16
"""Rows that the written package is verified on, and exported with."""


@dataclass
class Assembled:
    """The winner as one module, with the inputs it reads.

    Attributes:
        module: From batch to answers.
        choices: Slug in the batch → the planned input and the encoder choice whose processor feeds it.
    """

    module: torch.nn.Module
    choices: dict[str, tuple[PlannedInput, dict[str, Any]]]


def assemble(run: Run, members: Sequence[Member]) -> Assembled:
    """Rebuilds the chosen models with their weights; inputs that two models read alike are shared."""
    inputs = {item.slug: item for item in run.plan.inputs}
    choices: dict[str, tuple[PlannedInput, dict[str, Any]]] = {}
    keys: dict[str, Processor] = {}
    models, names = [], []
    for member in members:
        outer: dict[str, str] = {}
        processors = {}
        for slug, choice in member.resolved["encoders"].items():
            processor = processors[slug] = run.bench.processor(slug, choice)
            same = [o for o, known in keys.items() if known is processor and choices[o][0].slug == slug]
            outer[slug] = same[0] if same else _free(slug, {*keys, *(inputs.keys() - {slug})})
            keys[outer[slug]], choices[outer[slug]] = processor, (inputs[slug], choice)
        folder = trial_folder(run.folder, member.name)
        weights = load_weights(folder / (AGAIN if (folder / AGAIN).exists() else "weights.safetensors"))
        own = partial(run.bench.checkpoints.encoder, own=True)
        model = restore(member.resolved, processors, run.prepared.task, run.plugins.registry, weights, own)
        _check_checkpoints(run, member, processors)
        merge_adapters(model)
        models.append(AnswerModel(model, run.prepared.task))
        names.append(outer)
    if len(models) == 1:
        return Assembled(models[0].eval(), choices)
    ensemble = EnsembleModel(models, [member.weight for member in members], names, run.prepared.task)
    return Assembled(ensemble.eval(), choices)


def _check_checkpoints(run: Run, member: Member, processors: Mapping[str, Processor]) -> None:
    """Refuses a model whose frozen part is not the one that it was trained with: another job's, of a shared study.

    Raises:
        DataError: Naming trial and input.
    """
    report = read_report(trial_folder(run.folder, member.name)) or {}
    here = run.bench.checkpoints.digests(member.resolved, processors)
    for slug, digest in report.get("checkpoints", {}).items():
        if here.get(slug, digest) != digest:
            raise DataError(
                f"trial {member.name} was trained with another checkpoint for the input {slug!r} than the one that the "
                "recipe names here: jobs that share a study must read the same one"
            )


def _free(slug: str, taken: set[str]) -> str:
    number, found = 2, slug
    while found in taken:
        found, number = f"{slug}_{number}", number + 1
    return found


def view(run: Run, part: str, assembled: Assembled) -> View:
    """What the winner sees of a part."""
    stores: dict[str, ArrayStore] = {}
    processors: dict[str, Processor] = {}
    bad = np.zeros(len(run.prepared.parts[part].rows), bool)
    for outer, (item, choice) in assembled.choices.items():
        stores[outer] = run.bench.store(part, item.slug, choice)
        processors[outer] = run.bench.processor(item.slug, choice)
        bad |= stores[outer].bad
    return View(stores, processors, run.prepared.parts[part].target, np.flatnonzero(~bad))


def tested_answers(run: Run, assembled: Assembled, shown: View, task: Task) -> Answered:
    """The answers on the rows of a view."""
    assembled.module.to(device())
    answers, target, rows = evaluate(assembled.module, evaluation_batches(shown, run.ranks), run.ranks)
    assembled.module.cpu()
    return Answered(task.metrics()[run.plan.metric], answers, rows, target)


def raw_rows(run: Run, part: Part, positions: np.ndarray) -> list[dict[str, Any]]:
    """Raw cells of some rows, column → cell, as a user would send them."""
    columns = list(dict.fromkeys(column for item in run.plan.inputs for column in item.columns))
    cells = part.table.take(columns, part.rows[positions])
    return [{column: cells[column][i] for column in columns} for i in range(len(positions))]


def example_batch(shown: View, positions: np.ndarray) -> dict[str, torch.Tensor]:
    """The same rows as tensors; a single row comes twice, because exporters need two."""
    at = positions if len(positions) > 1 else np.repeat(positions, 2)
    batch = {}
    for slug, store in shown.stores.items():
        batch.update({f"{slug}.{name}": torch.from_numpy(array) for name, array in store.batch(at).items()})
        batch[f"{slug}.present"] = torch.from_numpy(store.present[at])
    return batch
