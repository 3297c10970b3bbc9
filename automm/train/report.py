"""What is kept of a trial. Torch-free."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class TrialReport:
    """What is kept of a trial (plain JSON).

    Attributes:
        name: Trial number, or the name of a baseline.
        state: complete, pruned or failed.
        resolved: Its configuration.
        value: The chosen validation metric at the best epoch; None if it failed.
        metrics: All validation metrics at the best epoch.
        epochs: Epochs run.
        best_epoch: Epoch of the kept weights, from 0.
        seconds: Wall-clock time.
        parameters: Number of weights; `trained` of them were trained.
        ended: Why training ended.
        error: What went wrong, if it failed.
        rung: Stage of the search that asked for it.
        asked: The configuration that was asked for, where it was trained with smaller batches after a lack of memory.
        latency_ms: CPU time of one row, from cells to answers, in milliseconds; None unless it completed.
        size_mb: Weights and processors' states in 10⁶ bytes; None unless it completed.
        checkpoints: Input slug → digest of the frozen checkpoint that reads it, which is no part of the trial's files.
        settled: What validation settled for a learner on fixed descriptors (number of trees, say).
        history: One entry per epoch: loss and metrics.
    """

    name: str
    state: str
    resolved: dict[str, Any]
    value: float | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    epochs: int = 0
    best_epoch: int = -1
    seconds: float = 0.0
    parameters: int = 0
    trained: int = 0
    ended: str = ""
    error: str | None = None
    rung: str = ""
    asked: dict[str, Any] = field(default_factory=dict)
    latency_ms: float | None = None
    size_mb: float | None = None
    checkpoints: dict[str, str] = field(default_factory=dict)
    settled: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)
