"""What a package is written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automm.core.kinds import Exporter, Graph, Task
from automm.core.processor import Processor
from automm.core.profile import InputInfo
from automm.runtime.manifest import Tolerance


@dataclass(frozen=True)
class PackageInput:
    """One input of the model.

    Attributes:
        slug: Prefix of its arrays in the graph.
        info: Name, modality, columns and their types.
        processor: The fitted processor.
        optional: Whether it was ever missing in the training rows.
    """

    slug: str
    info: InputInfo
    processor: Processor
    optional: bool = False


@dataclass(frozen=True)
class PackageContent:
    """Everything a package holds, before it is written.

    Attributes:
        name: What the package is called.
        task: The fitted task.
        target_columns: The columns that training read the target from.
        inputs: The inputs with their fitted processors.
        graph: The trained model with the task's answer at its end, an example batch, and its dynamic sizes.
        exporter: Writes the graph (`makes = "graph"`).
        golden_rows: Raw rows, column → cell, that are run again at every load; two are enough, none is allowed.
        folder: Where the media paths of `golden_rows` start.
        metrics: "valid" and "test" → metrics by name.
        recipe: The recipe's text.
        plan: The plan, plain JSON.
        resolved: The resolved configuration of the model, plain JSON.
        data_digest: Hash of the training tables' content.
        seed: The run's seed.
        task_owner: Distribution and version that offer the task.
        parent: Digest of the package that this one continues.
        tolerance: What deviation counts as agreement.
        extra: Further files, path → content: the drift reference, what an update starts from.
        compression: What was tried to make the model smaller and faster, as in the run's summary; empty: nothing.
    """

    name: str
    task: Task
    target_columns: tuple[str, ...]
    inputs: Sequence[PackageInput]
    graph: Graph
    exporter: Exporter
    golden_rows: Sequence[Mapping[str, Any]] = ()
    folder: Path | None = None
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    recipe: str = ""
    plan: Mapping[str, Any] = field(default_factory=dict)
    resolved: Mapping[str, Any] = field(default_factory=dict)
    data_digest: str = ""
    seed: int = 0
    task_owner: tuple[str, str] = ("automm", "")
    parent: str | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)
    extra: Mapping[str, bytes] = field(default_factory=dict)
    compression: Mapping[str, Any] = field(default_factory=dict)
