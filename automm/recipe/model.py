"""The normal form of a recipe: what every shorthand becomes. Nothing in here has been matched with the data yet."""

from __future__ import annotations

import operator
import re
from pathlib import Path
from typing import Literal

import pydantic

from automm.core.space import ComponentSpace, Space


class _Frozen(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSpec(_Frozen):
    """Where the tables are.

    Attributes:
        train: Files, a folder, or one `hf://name[:config]`; several files are read one after the other.
        valid: The same for validation rows; empty: split off.
        test: The same for test rows; empty: no test metrics.
        unlabeled: The same for rows without an answer, from which objectives learn.
        max_bad_rows: Largest share of bad rows before the run stops.
    """

    train: tuple[str, ...]
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    unlabeled: tuple[str, ...] = ()
    max_bad_rows: float = 0.05


class TargetSpec(_Frozen):
    """The target column, or columns (multilabel); with `separator` one column that lists labels."""

    columns: tuple[str, ...]
    separator: str | None = None


class InputSpec(_Frozen):
    """One entry of `inputs:`.

    Attributes:
        name: Input name; "*" stands for all columns not named elsewhere.
        modality: Modality name or one of its types ("number", "category"); None: inferred.
        columns: Columns it reads; by default the one named like the input.
    """

    name: str
    modality: str | None = None
    columns: tuple[str, ...] = ()


class SplitSpec(_Frozen):
    """How validation (and, if asked, test) rows are split off.

    Attributes:
        method: random, group (no group on two sides) or time (the latest rows are held out).
        column: The group or time column.
        valid: Share of rows for validation.
        test: Share of rows for a test split; 0: none. Only if no test file is named.
    """

    method: Literal["random", "group", "time"] = "random"
    column: str | None = None
    valid: float = 0.2
    test: float = 0.0


class ModelSpec(_Frozen):
    """Candidates by kind; empty: all suited components with their defaults (one of them if nothing is searched).

    Attributes:
        encoders: Input name or modality name → candidates.
        fusion: Candidates.
        loss: Candidates.
        objective: Candidates, "none" among them or alone; empty: none.
        learner: Candidates: the network, boosted trees, …
    """

    encoders: dict[str, tuple[ComponentSpace, ...]] = {}
    fusion: tuple[ComponentSpace, ...] = ()
    loss: tuple[ComponentSpace, ...] = ()
    objective: tuple[ComponentSpace, ...] = ()
    learner: tuple[ComponentSpace, ...] = ()


RUNGS = ("probe", "scratch", "adapt")
"""The stages of a search that a recipe may size, from cheap to dear."""


class SearchSpec(_Frozen):
    """The budget of the search.

    Attributes:
        trials: Most trials; None: as many as the time allows.
        time: Wall-clock seconds for everything, export included; None: no limit.
        storage: URL of a database whose study several jobs share; None: a journal file in the run folder.
        study: Name of the shared study; None: that of the recipe and its plan.
        baselines: Train each modality alone as well, and let trials leave one of three or more out.
        ensemble: Average several models where that pays.
        objectives: What is searched to be small beside the metric: latency_ms, size_mb.
        rungs: Stage of the search → its share of the budget; 0 leaves it out.
        parallel: Whether each process trains trials of its own ("trials"), all train the same one ("data"), or small
            trials are trained in the first way and large ones in the second ("auto").
    """

    trials: int | None = None
    time: float | None = None
    storage: str | None = None
    study: str | None = None
    baselines: bool = True
    ensemble: bool = True
    objectives: tuple[str, ...] = ()
    rungs: dict[str, float] = {}
    parallel: Literal["auto", "trials", "data"] = "auto"


class LogSpec(_Frozen):
    """One entry of `log:`.

    Attributes:
        name: tensorboard, wandb or mlflow.
        project: What groups the trials: project (W&B) or experiment (MLflow); None: the recipe's name.
        online: W&B: send to its server; otherwise only the run folder is written to.
        uri: MLflow: URL of a tracking server; None: a file in the run folder.
    """

    name: Literal["tensorboard", "wandb", "mlflow"]
    project: str | None = None
    online: bool = False
    uri: str | None = None


COSTS = ("latency_ms", "size_mb")
"""What a trial costs where it is used: CPU milliseconds of a row, and 10⁶ bytes."""
COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


class GateSpec(_Frozen):
    """One `require:` entry: metric, comparison, bound."""

    metric: str
    operator: Literal[">=", "<=", ">", "<"]
    value: float

    @property
    def text(self) -> str:
        """As it is written."""
        return f"{self.metric} {self.operator} {self.value:g}"

    def met(self, value: float | None) -> bool:
        """Whether a value passes; one that is not defined does not."""
        return value is not None and COMPARE[self.operator](value, self.value)


class UpdateSpec(_Frozen):
    """What the package keeps for `automm update`.

    Attributes:
        rows: Most training rows, with a quarter as many rows that were held out; 0: none.
        weights: The weights of networks; "auto": if they are small.
    """

    rows: int = 2000
    weights: Literal["auto"] | bool = "auto"


class CompressSpec(_Frozen):
    """What `compress:` asks for.

    Attributes:
        chains: Variants to measure, each a chain of compressors; empty: all that suit.
        max_loss: Largest loss of the metric, as a share of it.
        sure: Whether the whole interval of the loss must be within it.
    """

    chains: tuple[tuple[ComponentSpace, ...], ...] = ()
    max_loss: float = 0.005
    sure: bool = False


class Recipe(_Frozen):
    """The recipe in normal form.

    Attributes:
        path: The file it came from.
        name: File name without ending; names the run folder.
        task: None: inferred from the target.
        inputs: None: all columns, modality inferred.
        ignore: Columns left out.
        imbalance: Remedies to consider.
        train: Training settings that are fixed or searched.
        metric: None: the task's default.
        compress: What is tried to make the package smaller and faster; None: nothing.
        export: Exporter names.
        log: Loggers of learning curves; None: TensorBoard, if it is installed.
        plugins: Local plugin files, relative to the recipe.
        update: What the package keeps, so that it can be updated.
        seed: Seed of everything.
    """

    path: Path
    name: str
    data: DataSpec
    target: TargetSpec
    task: ComponentSpace | None = None
    inputs: tuple[InputSpec, ...] | None = None
    ignore: tuple[str, ...] = ()
    split: SplitSpec = SplitSpec()
    imbalance: tuple[str, ...] = ("none",)
    model: ModelSpec = ModelSpec()
    train: dict[str, Space] = {}
    metric: str | None = None
    search: SearchSpec | None = None
    require: tuple[GateSpec, ...] = ()
    compress: CompressSpec | None = None
    export: tuple[str, ...] = ("onnx",)
    log: tuple[LogSpec, ...] | None = None
    plugins: tuple[str, ...] = ()
    update: UpdateSpec = UpdateSpec()
    seed: int = 0

    def public_text(self) -> str:
        """The recipe as it is written, without the password of a database: what is kept and passed on."""
        text = self.path.read_text("utf-8")
        storage = self.search.storage if self.search else None
        found = re.match(r"[^/]*://[^/@:]*:([^/]*)@", storage or "")
        return text.replace(f":{found[1]}@", ":***@") if found and found[1] else text

    @property
    def costs(self) -> tuple[GateSpec, ...]:
        """The gates on what a prediction costs, in place of what it is worth."""
        return tuple(gate for gate in self.require if gate.metric in COSTS)

    @property
    def folder(self) -> Path:
        """The folder that the recipe's paths are relative to."""
        return self.path.resolve().parent
