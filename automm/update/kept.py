"""What a package keeps so that it can be updated: some rows, the trained weights, and how it was trained."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pydantic

from automm.core.cells import is_null
from automm.errors import PackageError
from automm.runtime import strictjson
from automm.runtime.media import resolve_cells
from automm.runtime.rows import decode_rows, encode_rows
from automm.runtime.state import read_npz, write_npz

if TYPE_CHECKING:
    from torch import Tensor

    from automm.package.assembled import Assembled
    from automm.run import Member, Run
    from automm.runtime.package import Package
    from automm.train.bench import View

FILE = "resume/resume.json"
ROWS, HELD, ANSWERS = "resume/rows.json", "resume/held.json", "resume/answers.npz"
WEIGHTS = "resume/weights.safetensors"
SMALL = 16 * 2**20
"""Bytes of weights up to which `weights: auto` keeps them."""
ROOM = 8 * 2**20
"""Most bytes of rows, their media among them."""
HELD_SHARE = 0.25
"""Held-out rows, as a share of the training rows that are kept."""
EACH = 5
"""So many rows of every class are kept first."""
LARGEST = 16 * 2**20


class Resume(pydantic.BaseModel):
    """The content of `resume/resume.json`.

    Attributes:
        format: Version of the file.
        recipe: The recipe in normal form.
        members: The models: name, weight, resolved configuration.
        rows: Training rows that are kept.
        stand_for: Training rows for which they stand.
        held: Rows kept that no model was trained on, or chosen by if there was a test table.
        answers: Whether the answers on the held rows are kept: learners were fitted on these rows afterwards.
        weights: Whether the weights of the networks are kept.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal[1] = 1
    recipe: dict[str, Any]
    members: tuple[tuple[str, float, dict[str, Any]], ...]
    rows: int
    stand_for: int
    held: int
    answers: bool
    weights: bool


def resume_files(
    run: Run, members: Sequence[Member], assembled: Assembled, train: View, side: str, shown: View
) -> dict[str, bytes]:
    """The files below `resume/`; none if the recipe says `update: none`.

    Args:
        run: The run.
        members: The winner's models.
        assembled: The winner, with its inputs.
        train: What the winner sees of the training rows.
        side: "test", or "valid" if there are no test rows.
        shown: What it sees of that part.
    """
    wanted = run.recipe.update
    if not wanted.rows and wanted.weights is False:
        return {}
    sample = _Sample(run, assembled, train)
    files: dict[str, bytes] = {}
    chosen = sample.training(train, wanted.rows)
    files |= sample.files(ROWS, "train", chosen)
    held = sample.held(side, shown, int(HELD_SHARE * wanted.rows))
    files |= sample.files(HELD, side, held)
    answered = side == "valid" and len(held) > 0
    if answered:
        from automm.update.reference import validation_answers

        rows, answers = validation_answers(run, members)
        at = np.searchsorted(rows, held)
        files[ANSWERS] = write_npz({name: array[at] for name, array in answers.items()})
    weights = _weights(run, members) if wanted.weights is not False else {}
    size = sum(tensor.nbytes for tensor in weights.values())
    if weights and (wanted.weights is True or size <= SMALL):
        from safetensors.torch import save

        files[WEIGHTS] = save(weights)
    resume = Resume(
        # The URL of a study may hold a password, and paths of this machine help nobody.
        recipe={**run.recipe.model_dump(mode="json"), "search": None, "path": run.recipe.path.name},
        members=tuple((member.name, member.weight, member.resolved) for member in members),
        rows=len(chosen),
        stand_for=sample.stand_for(train),
        held=len(held),
        answers=answered,
        weights=WEIGHTS in files,
    )
    files[FILE] = strictjson.dumps(resume.model_dump(mode="json"))
    total = sum(map(len, files.values()))
    left_out = f"weights of {size / 1e6:.0f} MB are left out" if weights and WEIGHTS not in files else ""
    run.event("kept", rows=len(chosen), held=len(held), weights=WEIGHTS in files, megabytes=total / 1e6, note=left_out)
    return files


class _Sample:
    """Draws rows and stores their raw cells."""

    def __init__(self, run: Run, assembled: Assembled, train: View) -> None:
        self._run = run
        self._random = np.random.default_rng(run.plan.seed)
        column = run.recipe.split.column
        split = [column] if column and column in run.prepared.parts["train"].table.columns else []
        inputs = [column for item in run.plan.inputs for column in item.columns]
        self._columns = list(dict.fromkeys([*inputs, *run.plan.target, *split]))
        self._readers = {
            column: train.processors[slug]
            for slug, (item, _) in assembled.choices.items()
            if train.processors[slug].media
            for column in item.columns
        }

    def training(self, train: View, most: int) -> np.ndarray:
        """Row numbers of training rows: a few of every class, then at random, each by how many rows it stands for."""
        from automm.data.split import strata

        part = self._run.prepared.parts["train"]
        rows, first = np.unique(part.rows[train.positions], return_index=True)
        classes = np.zeros(len(rows), np.int64)
        if self._run.prepared.task.stratified:
            classes = strata(part.target[train.positions[first]])
        # Exponential keys give a sample without replacement in proportion to the weights (Efraimidis & Spirakis 2006).
        keys = -np.log(self._random.random(len(rows))) / self._stand_for(rows)
        order = np.argsort(keys)
        rank = np.empty(len(rows), np.int64)
        for number in np.unique(classes):
            own = order[classes[order] == number]
            rank[own] = np.arange(len(own))
        order = order[np.argsort(rank[order] >= EACH, kind="stable")]
        return self._fitting("train", rows[order][:most], ROOM)

    def held(self, side: str, shown: View, most: int) -> np.ndarray:
        """Row numbers of rows that were held out, at random."""
        rows = np.unique(self._run.prepared.parts[side].rows[shown.positions])
        return np.sort(self._fitting(side, self._random.permutation(rows)[:most], int(HELD_SHARE * ROOM)))

    def stand_for(self, train: View) -> int:
        """How many training rows there were, those of earlier runs among them."""
        rows = np.unique(self._run.prepared.parts["train"].rows[train.positions])
        return round(float(self._stand_for(rows).sum()))

    def _stand_for(self, rows: np.ndarray) -> np.ndarray:
        continued = self._run.continued
        return np.ones(len(rows)) if continued is None else continued.stand_for[rows]

    def _fitting(self, side: str, rows: np.ndarray, room: int) -> np.ndarray:
        """As many of the rows as there is room for."""
        kept = 0
        for cells in self._cells(side, rows):
            room -= sum(len(cell) if isinstance(cell, str | bytes) else 8 * np.size(cell) for cell in cells.values())
            if room < 0:
                break
            kept += 1
        return rows[:kept]

    def _cells(self, side: str, rows: np.ndarray) -> list[dict[str, Any]]:
        """Raw cells; media as their bytes, so that they travel with the package."""
        table = self._run.prepared.parts[side].table
        cells = table.take(self._columns, rows)
        for column, processor in self._readers.items():
            cells[column] = [_content(processor, cell, table.folder) for cell in cells[column]]
        return [{column: cells[column][at] for column in self._columns} for at in range(len(rows))]

    def files(self, name: str, side: str, rows: np.ndarray) -> dict[str, bytes]:
        """The rows as a file, and their media as another."""
        media: dict[str, np.ndarray] = {}

        def keep(data: bytes) -> str:
            inner = f"m{len(media)}"
            media[inner] = np.frombuffer(data, np.uint8)
            return inner

        encoded = encode_rows(self._cells(side, rows), keep)
        return {name: encoded, **({_media(name): write_npz(media)} if media else {})}


def _content(processor: Any, cell: Any, folder: Path) -> Any:
    if is_null(cell):
        return None
    path = resolve_cells(processor, [cell], folder)[0]
    return path.read_bytes() if isinstance(path, Path) else path


def _weights(run: Run, members: Sequence[Member]) -> dict[str, Tensor]:
    """The networks' tensors, "<number of the member>.<name>". What stays frozen is read from its checkpoint again."""
    from automm.model.learned import restore
    from automm.report.folder import trial_folder
    from automm.train.weights import load_weights

    found: dict[str, Tensor] = {}
    make = run.bench.checkpoints.encoder
    for at, member in enumerate(members):
        if "learner" in member.resolved:
            continue
        weights = load_weights(trial_folder(run.folder, member.name) / "weights.safetensors")
        choices = member.resolved["encoders"].items()
        processors = {slug: run.bench.processor(slug, choice) for slug, choice in choices}
        model = restore(member.resolved, processors, run.prepared.task, run.plugins.registry, weights, make)
        frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        found |= {f"{at}.{name}": tensor for name, tensor in weights.items() if name not in frozen}
    return found


def read_resume(package: Package) -> Resume:
    """How a package was trained.

    Raises:
        PackageError: If it does not say, or the file is damaged.
    """
    if FILE not in package.files.listing:
        raise PackageError(
            f"{package.path}: the package keeps nothing to be updated from (its recipe says `update: none`, or an "
            "older automm made it); fit again with the new rows among the training rows"
        )
    data = package.files.read(FILE)
    strictjson.loads(data, FILE, most=LARGEST)
    try:
        return Resume.model_validate_json(data)
    except pydantic.ValidationError as problem:
        first = problem.errors()[0]
        raise PackageError(f"{FILE}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def read_rows(package: Package, name: str) -> list[dict[str, Any]]:
    """Kept rows, column → cell, media as bytes."""
    if name not in package.files.listing:
        return []
    with tempfile.TemporaryDirectory(prefix="automm-update-") as folder:
        if _media(name) in package.files.listing:
            for inner, data in read_npz(package.files.read(_media(name)), _media(name)).items():
                (Path(folder) / Path(inner).name).write_bytes(data.tobytes())
        return decode_rows(package.files.read(name), Path(folder), name)


def _media(name: str) -> str:
    """The file with the media of kept rows."""
    return name.removesuffix(".json") + ".npz"


def read_answers(package: Package) -> dict[str, np.ndarray]:
    """The kept answers on the held rows."""
    return read_npz(package.files.read(ANSWERS), ANSWERS)


def read_weights(package: Package, member: int) -> dict[str, Tensor]:
    """The kept tensors of a member; empty if there are none."""
    from safetensors.torch import load

    if WEIGHTS not in package.files.listing:
        return {}
    prefix = f"{member}."
    tensors: Mapping[str, Tensor] = load(package.files.read(WEIGHTS))
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
