"""The kinds of components a plugin can add: what an author inherits from and fills in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from pydantic import Field

from automm.core.component import Component, ModuleComponent
from automm.core.compressor import Compressor
from automm.core.decoder import Decoder
from automm.core.features import Features
from automm.core.figures import Figure, names, numbers
from automm.core.learner import Learner
from automm.core.objective import Objective
from automm.core.processor import Processor
from automm.core.profile import Claim, ColumnProfile, InputInfo, TargetInfo

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch


class Examples(NamedTuple):
    """Made-up cells of a modality, for the conformance kit.

    Attributes:
        info: The input they belong to.
        cells: A list of cells as a processor gets them (media as `bytes`); for an input of many columns a mapping from
            column to its list of cells.
        groups: 0 or 1 per row: two kinds of cells that any working encoder learns to tell apart.
    """

    info: InputInfo
    cells: Any
    groups: tuple[int, ...]


ADAPT = r"^(none|full|last_[1-9][0-9]{0,3}|lora(_[1-9][0-9]{0,3})?)$"
"""What `adapt:` may say: `none`, `last_N`, `lora`, `lora_R` or `full`."""


class Modality(Component, abstract=True):
    """Recognises the columns of one modality. Torch-free.

    Attributes:
        many_columns: True if all its columns together form one input (tabular); else every column is an input.
        types: Finer types that recipes may write in place of the modality's name ("number", "category", …).
    """

    kind = "modality"
    many_columns: ClassVar[bool] = False
    types: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def claim(cls, column: ColumnProfile) -> Claim | None:
        """How surely the column belongs to this modality; None if it does not."""
        raise NotImplementedError

    @classmethod
    def claim_family(cls, prefix: str, columns: Sequence[ColumnProfile]) -> Claim | None:
        """The same for numbered columns (`t_0 … t_127`) taken together as one input named `prefix`."""
        del prefix, columns
        return None

    @classmethod
    def examples(cls, count: int, seed: int) -> Examples | None:
        """`count` made-up rows, so that the conformance kit can try every encoder of this modality; None: no kit."""
        del count, seed
        return None


class Encoder(ModuleComponent, abstract=True):
    """Turns a processor's arrays into `Features`.

    The author writes `processor`, `__init__(config, processor)`, `forward(arrays)` and sets `self.width`. Missing cells
    need no care: the processor puts its blank cell there and automm masks the row's features.

    An encoder that begins with something never trained (fixed descriptors, random convolutions, a frozen checkpoint)
    writes `extract(arrays)` and `complete(features)` in place of `forward`, and `extracts(config)`. What `extract`
    gives is computed once per cell; learners that are no networks (boosted trees) read its mean.

    Attributes:
        modality: Name of the modality it encodes.
        preference: Without a choice in the recipe the suited encoder with the highest preference is the default.
        width: Width of the features it gives (set in `__init__`).
        completing: Configuration fields that only `complete` reads: they change nothing for a learner on what `extract`
            gives, and are not searched there.
    """

    kind = "encoder"
    completing: ClassVar[frozenset[str]] = frozenset()
    modality: ClassVar[str]
    preference: ClassVar[float] = 0.0
    width: int

    class Config(Component.Config):
        """Fields of every encoder."""

        adapt: Annotated[str, Field(pattern=ADAPT)] = "full"
        """What is trained: `none`, `last_N` (the last N layers), `lora` (adapters; `lora_R`: of rank R) or `full`."""

    @classmethod
    def processor(cls, config: Any, info: InputInfo) -> Processor:
        """The unfitted processor that feeds this encoder."""
        raise NotImplementedError

    def __init__(self, config: Any, processor: Processor) -> None:
        del processor
        super().__init__()
        self.config = config

    def forward(self, arrays: Mapping[str, torch.Tensor]) -> Features:
        """Encodes a batch.

        Args:
            arrays: The processor's arrays by name, [batch, …] each.
        """
        return self.complete(self.extract(arrays))

    @classmethod
    def extracts(cls, config: Any) -> bool:
        """Whether nothing before `complete` is trained under this configuration; False if there is no `extract`."""
        del config
        return False

    def extract(self, arrays: Mapping[str, torch.Tensor]) -> Features:
        """The part that is never trained: arrays [batch, …] → tokens [batch, time, any width]; NaN is "unknown"."""
        raise NotImplementedError

    def complete(self, features: Features) -> Features:
        """The trained part: what `extract` gives → features of `self.width`."""
        raise NotImplementedError

    def layers(self) -> list[torch.nn.Module]:
        """Its layers from input to output, for `adapt: last_N`; by default its direct children."""
        return list(self.children())

    def fresh(self) -> list[torch.nn.Module]:
        """What is new on top of pretrained layers: trained whatever `adapt` says, at the full learning rate.

        Under `adapt: none` all else is read from the checkpoint again, and is in no trial's file.
        """
        return []

    def adopt(self, weights: dict[str, torch.Tensor], before: Processor) -> dict[str, torch.Tensor]:
        """Weights of an older model of the same configuration, arranged for this one; by default as they are.

        Needed only by an encoder whose processor's `extend` makes room between what was there.

        Args:
            weights: The older encoder's tensors by name.
            before: The processor that it was trained with.
        """
        del before
        return weights

    @classmethod
    def pretrained(cls, config: Any) -> bool:
        """Whether this configuration starts from trained weights (then it gets the smaller learning rate)."""
        del config
        return False


class Fusion(ModuleComponent, abstract=True):
    """Joins the features of all inputs.

    The author writes `__init__(config, widths)`, `forward(inputs)` and sets `self.width`. Any subset of the inputs may
    be missing in a row: its mask is all False there, and its tokens are zeros.

    Attributes:
        gives: What it can give: "vector" (time = 1), "tokens", "aligned".
        needs: Which of them the task needs; automm sets it before the first `forward`.
        width: Width of the joint features (set in `__init__`).
        decisions: For decision-level fusion, how many tokens `forward` gives (set in `__init__`): the task makes a head
            for each, and the heads' outputs are averaged by `weigh`. 0: one head reads the joint features.
    """

    kind = "fusion"
    gives: ClassVar[frozenset[str]] = frozenset({"vector"})
    preference: ClassVar[float] = 0.0
    needs: str = "vector"
    width: int
    decisions: int = 0

    def __init__(self, config: Any, widths: Mapping[str, int]) -> None:
        del widths
        super().__init__()
        self.config = config

    def forward(self, inputs: Mapping[str, Features]) -> Features:
        """Joins a batch: input name → features, to joint features."""
        raise NotImplementedError

    def weigh(self, joint: Features) -> torch.Tensor:
        """What each decision counts, [batch, decisions]: a row adds to 1, with 0 where the mask is False.

        Args:
            joint: What `forward` gave, [batch, decisions, width]; every row has a real token.
        """
        mask = joint.mask.to(joint.tokens.dtype)
        return mask / mask.sum(1, keepdim=True)


class Loss(ModuleComponent, abstract=True):
    """Compares output and target, one value per row; weights and reduction belong to automm.

    Attributes:
        targets: The target kinds it accepts ("class", "labels", "number", …).
        remedy: The imbalance remedy it is ("weights", "focal", …), None for a plain loss.
        metrics: A loss that the recipe does not name is only tried where one of these decides; empty: for any metric.
        progress: Share of the training that is over, 0 to 1; automm sets it before every step.
    """

    kind = "loss"
    targets: ClassVar[frozenset[str]] = frozenset()
    remedy: ClassVar[str | None] = None
    metrics: ClassVar[frozenset[str]] = frozenset()
    preference: ClassVar[float] = 0.0
    progress: float = 0.0

    def __init__(self, config: Any, target: TargetInfo) -> None:
        del target
        super().__init__()
        self.config = config

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """One loss per row.

        Args:
            output: The head's output, [batch, size].
            target: "class": int64 [batch]; "labels": float [batch, size]; "number": float [batch].

        Returns:
            Float tensor [batch].
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Metric:
    """A figure of merit.

    Attributes:
        maximize: True if larger is better.
        compute: (answers by name, target) → value. Answers are what `Task.answer` gives, over all rows; the target is
            what `Task.encode_target` gives, in the target's own units.
        guide: For a metric that counts whole rows: a smooth one of the same task, by which ensembles are put together.
            On a few hundred rows it tells models apart that a count cannot.
    """

    maximize: bool
    compute: Callable[[Mapping[str, torch.Tensor], torch.Tensor], float]
    guide: str | None = None


class Task(Component, abstract=True):
    """What is predicted: the target's coding, the head, the metrics, and how outputs are read.

    Not a module itself; it makes one (`head`). Everything but `head`, `answer` and `Metric.compute` is torch-free.

    Attributes:
        needs: What it needs of the fusion: "vector", "tokens" or "aligned".
        target_kind: The `TargetInfo.kind` it makes.
        stratified: Whether a random split keeps the target's proportions.
    """

    kind = "task"
    needs: ClassVar[str] = "vector"
    target_kind: ClassVar[str]
    stratified: ClassVar[bool] = False

    def __init__(self, config: Any, state: Mapping[str, Any] | None = None) -> None:
        self.config = config
        self.state: dict[str, Any] = dict(state or {})

    @classmethod
    def claim(cls, columns: Sequence[ColumnProfile]) -> Claim | None:
        """How surely the target columns ask for this task; None if they cannot."""
        raise NotImplementedError

    @classmethod
    def metric_names(cls) -> dict[str, bool]:
        """Metric name → larger is better. The first is the default."""
        raise NotImplementedError

    @classmethod
    def examples(cls, count: int, seed: int) -> dict[str, list[Any]] | None:
        """`count` made-up rows of target column → cells, for the conformance kit; None: no kit."""
        del count, seed
        return None

    def fit(self, cells: Mapping[str, Sequence[Any]]) -> None:
        """Learns the coding from the training rows and stores it in `self.state` (plain JSON).

        Args:
            cells: Target column → cells.

        Raises:
            DataError: If the target cannot be used (one class, all null, not a number).
        """
        raise NotImplementedError

    def encode(self, cells: Mapping[str, Sequence[Any]]) -> np.ndarray:
        """Codes target cells, [rows] or [rows, size].

        Raises:
            BadCells: For rows whose target is missing or unknown.
        """
        raise NotImplementedError

    def figures(self, cells: Mapping[str, Sequence[Any]]) -> dict[str, Figure]:
        """What is watched of the target when data may drift: target column → its values.

        By default names where the target has names, else numbers.

        Args:
            cells: Target column → cells; None is a missing one.
        """
        read = names if self.target().names else numbers
        return {column: read(values) for column, values in cells.items()}

    def target(self) -> TargetInfo:
        """What heads and losses need to know."""
        raise NotImplementedError

    def head(self, width: int) -> torch.nn.Module:
        """A module from joint `Features` to the output tensor [batch, size]."""
        raise NotImplementedError

    def model_target(self, target: torch.Tensor) -> torch.Tensor:
        """The coded target as the loss sees it (a standardised number, say); default: unchanged."""
        return target

    def answer(self, output: torch.Tensor) -> dict[str, torch.Tensor]:
        """Output → named answers (probabilities, a number in the target's units). Part of the exported graph."""
        raise NotImplementedError

    def average(
        self, answers: Sequence[Mapping[str, torch.Tensor]], weights: Sequence[float]
    ) -> dict[str, torch.Tensor]:
        """The joint answers of several models; by default the weighted mean. Part of the exported graph.

        Args:
            answers: One mapping per model, as `answer` gives it.
            weights: One weight per model, adding to 1.
        """
        pairs = [(one, weight) for one, weight in zip(answers, weights, strict=True) if weight > 0]
        found = {name: tensor * pairs[0][1] for name, tensor in pairs[0][0].items()}
        for one, weight in pairs[1:]:
            found = {name: tensor + one[name] * weight for name, tensor in found.items()}
        return found

    def metrics(self) -> dict[str, Metric]:
        """The metrics by name, the default first; computed with `state["decision"]`, if there is one."""
        raise NotImplementedError

    def decide(self, answers: Mapping[str, np.ndarray], target: np.ndarray, metric: str, seed: int) -> dict[str, Any]:
        """How the winner's answers are best read for a metric: thresholds, say. The answers stay as they are.

        automm stores what it gives as `state["decision"]`; from then on `metrics` and `decoder` go by it.

        Args:
            answers: The winner's answers on the validation rows.
            target: Their coded targets.
            metric: The metric that chose the winner.
            seed: Of random splits.

        Returns:
            Plain JSON; empty (the default) to read answers in the usual way. `gain` is by how much the metric rose on
            validation rows that did not tune it.
        """
        del answers, target, metric, seed
        return {}

    def by_class(self, answers: Mapping[str, np.ndarray], target: np.ndarray) -> dict[str, dict[str, float]]:
        """Class (or label) → "rows", "precision", "recall" and "f1", for the report on imbalance; empty: none."""
        del answers, target
        return {}

    def decoder(self) -> Decoder:
        """The torch-free operation that turns answers into what the user reads."""
        raise NotImplementedError


@dataclass(frozen=True)
class Graph:
    """What an exporter is given.

    Attributes:
        module: `forward(batch: dict[str, Tensor]) -> dict[str, Tensor]` in eval mode.
        example: A batch of at least two rows.
        dynamic: Array name → {axis: dimension name}; equal names are equal sizes.
    """

    module: torch.nn.Module
    example: dict[str, torch.Tensor]
    dynamic: dict[str, dict[int, str]]


class Exporter(Component, abstract=True):
    """Writes a trained model, or a finished package, in some format.

    Attributes:
        makes: "graph" (the graph that the package runs) or "folder" (a foreign format made from the finished package).
    """

    kind = "exporter"
    makes: ClassVar[str] = "folder"

    def __init__(self, config: Any) -> None:
        self.config = config

    def export_graph(self, graph: Graph, path: Path) -> None:
        """Writes the graph (`makes = "graph"`)."""
        raise NotImplementedError

    def export_package(self, package: Path, folder: Path) -> None:
        """Writes the package in the foreign format (`makes = "folder"`).

        Args:
            package: The package; it is only read (`automm.api.read_manifest`, `copy_package`, `load_package`).
            folder: An empty folder, which gets its name when this returns.
        """
        raise NotImplementedError

    def load(self, folder: Path) -> Callable[[Sequence[Mapping[str, Any]]], list[dict[str, Any]]] | None:
        """What predicts from an exported folder, so that the conformance kit can compare it with the package.

        Returns:
            A function from rows (column → cell, media as `bytes`) to results as `Predictions.rows` has them; None (the
            default) if the format runs only elsewhere.
        """
        del folder
        return None


KINDS: dict[str, type[Component]] = {
    base.kind: base
    for base in (Modality, Encoder, Fusion, Learner, Loss, Objective, Task, Compressor, Exporter, Processor, Decoder)
}
"""Kind name → base class; what `register` accepts."""
