"""Single trials in process, on descriptors that are computed once: what `fusions.py` and `missing.py` share."""

from __future__ import annotations

import json
import logging
import os
import statistics
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from automm.data.ledger import Ledger
from automm.model.assemble import AnswerModel, MultimodalModel
from automm.plan import build_plan, prepare
from automm.plan.prepare import Part
from automm.recipe.parse import load_with_plugins
from automm.search.space import Preferred, resolve
from automm.train.bench import Bench
from automm.train.module import evaluate, measure
from automm.train.ranks import Ranks
from automm.train.run import device, evaluation_batches, run_trial

ENCODERS = {
    "image": "image_descriptors",
    "audio": "audio_descriptors",
    "text": "tfidf_svd",
    "tabular": "tabular_mlp",
}
"""Encoders that need no pretrained weights; but for `tabular_mlp` one trained layer on fixed descriptors."""

SETS = {
    "av_digits": ("target: digit", ("image", "audio")),
    "fashion": ("target: season\nignore: [id]", ("image", "text", "tabular")),
    "easy_vqa": ("target: answer", ("image", "text")),
}
"""Set → what its recipe says beside data and metric, and its modalities."""

METRIC = "accuracy"


class Problem(NamedTuple):
    """A set, and how it is trained on.

    Attributes:
        data: Folder of the sets.
        name: The set.
        out: Where arrays are kept.
        rows: Most rows of each part; None: all.
        epochs: Most epochs; None: automm's default for the number of rows.
    """

    data: Path
    name: str
    out: Path
    rows: int | None
    epochs: int | None

    @property
    def folder(self) -> Path:
        """Where the set's arrays are kept."""
        return self.out / self.name


@cache
def open_bench(problem: Problem) -> Bench:
    """The workbench of a set: fitted processors and stored arrays, shared by all trials of this process."""
    quiet()
    says, modalities = SETS[problem.name]
    tables = {part: str((problem.data / problem.name / f"{part}.csv").resolve()) for part in ("train", "test")}
    encoders = ", ".join(f"{modality}: {ENCODERS[modality]}" for modality in modalities)
    chosen = f"learner: network, fusion: any, encoders: {{{encoders}}}"
    lines = [
        f"data: {json.dumps(tables, ensure_ascii=False)}",
        says,
        f"metric: {METRIC}",
        f"model: {{{chosen}}}",
        "search: {trials: 1}",  # with a search every fusion is a candidate; each is taken with its defaults
        *([f"train: {{epochs: {problem.epochs}}}"] if problem.epochs else []),
    ]
    folder = problem.folder
    folder.mkdir(parents=True, exist_ok=True)
    # Processes that open the same set at the same time must not read each other's half-written recipe.
    with tempfile.TemporaryDirectory() as name:
        recipe_file = Path(name) / f"{problem.name}.yaml"
        recipe_file.write_text("\n".join(lines) + "\n", "utf-8")
        recipe, plugins = load_with_plugins(recipe_file)
    registry, ledger = plugins.registry, Ledger()
    prepared = prepare(recipe, registry, folder / "tables", ledger)
    prepared.parts = {part: some(content, problem.rows) for part, content in prepared.parts.items()}
    plan = build_plan(recipe, registry, prepared)
    return Bench(registry, plan, prepared.parts, prepared.task, folder, ledger, Ranks())


def some(part: Part, most: int | None) -> Part:
    """At most so many rows of a part, chosen at random but always the same."""
    if most is None or len(part.rows) <= most:
        return part
    at = np.sort(np.random.default_rng(0).permutation(len(part.rows))[:most])
    return Part(part.table, part.rows[at], part.target[at])


def default(bench: Bench, fusion: str | None = None) -> dict[str, Any]:
    """The configuration with a fusion's defaults; None: the default fusion.

    Raises:
        SystemExit: If there is no such fusion.
    """
    names = [choice.name for choice in bench.plan.candidates.fusion]
    if fusion not in (None, *names):
        raise SystemExit(f"no fusion {fusion!r} (there are: {', '.join(names)})")
    return resolve(bench.plan, bench.registry, Preferred({"fusion": fusion} if fusion else {}))


def train(bench: Bench, resolved: dict[str, Any], seed: int) -> tuple[MultimodalModel | None, dict[str, Any]]:
    """Trains a configuration; returns the model (None if it failed) and what is to be kept of the trial."""
    with tempfile.TemporaryDirectory() as folder:
        report, model = run_trial("benchmark", {**resolved, "seed": seed}, bench, Path(folder))
    kept = {"valid": report.value, "epochs": report.epochs, "seconds": report.seconds, "parameters": report.parameters}
    return model, kept | ({} if model is not None else {"error": report.error})


def score(bench: Bench, model: MultimodalModel, resolved: dict[str, Any], part: str = "test") -> float | None:
    """The metric on a part."""
    batches = evaluation_batches(bench.view(part, resolved), Ranks())
    answers, target, _ = evaluate(AnswerModel(model, bench.task).to(device()), batches, Ranks())
    return measure(bench.task, answers, target)[bench.metric]


class Results:
    """Finished trials in a JSON file, so that a stopped benchmark goes on where it was.

    Args:
        path: The file; a missing one is empty.
        settings: What the trials of this call share (rows, epochs); only trials with the same settings are seen.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self._path, self._settings = path, settings
        self._all: list[dict[str, Any]] = json.loads(path.read_text("utf-8")) if path.exists() else []

    def found(self, **key: Any) -> list[dict[str, Any]]:
        """The finished trials with these values; failed ones are not among them."""
        wanted = {**self._settings, **key}
        return [
            trial
            for trial in self._all
            if "error" not in trial and all(trial.get(name) == value for name, value in wanted.items())
        ]

    def add(self, trial: dict[str, Any]) -> None:
        """Keeps a trial and writes the file."""
        self._all.append({**self._settings, **trial})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(self._all, indent=2, ensure_ascii=False, allow_nan=False), "utf-8")
        partial.replace(self._path)


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation, as far as there are values."""
    if not values:
        return "–"
    mean = f"{statistics.mean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines))


def quiet() -> None:
    """No hints of Lightning between the results."""
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


def share_cores(jobs: int) -> None:
    """Limits the threads of this process, one of several."""
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // jobs))
