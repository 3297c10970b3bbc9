"""Making the variants: students are trained, parts are taken out and the rest learns again, graphs are rewritten."""

from __future__ import annotations

import copy
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch

from automm.core.compressor import NotCompressible, Recovery
from automm.core.kinds import Exporter, Graph
from automm.data.batches import Batches
from automm.errors import AutommError
from automm.model.assemble import AnswerModel, answer_graph, build_model
from automm.package.assembled import VERIFY_ROWS, example_batch
from automm.package.chains import Chain, Pupil, Seen, Step, context, shown
from automm.package.frontier import Loss, Speed, arrays_of
from automm.plugin.blame import blamed
from automm.train.distil import Course, distil, recover, taps
from automm.train.run import TensorBatches, device

if TYPE_CHECKING:
    from automm.run import Member, Run

CALIBRATION = 128
"""Training rows that compressors see."""
BATCH = 32
"""Rows per step of recovery, and of the batches that compressors see."""
LEAST_SECONDS = 5.0
"""With less time left no variant is begun."""
STUDENT = "student/"
"""Prefix of a student's arrays in the batches that it shares with its teacher."""


class Made(NamedTuple):
    """What a chain, or the beginning of one, gave.

    Attributes:
        seen: What it reads.
        module: The model, as long as it is one.
        graph: The exported graph, once it is one.
        resolved: The configuration of a student.
        rounded: Whether a compressor changed the numbers of the exported graph.
    """

    seen: Seen
    module: torch.nn.Module | None
    graph: bytes | None
    resolved: dict[str, Any] | None = None
    rounded: bool = False


@dataclass
class Variant:
    """One line of the table."""

    name: str
    state: str = "failed"
    reason: str = ""
    made: Made | None = None
    answers: dict[str, np.ndarray] = field(default_factory=dict)
    value: float | None = None
    loss: Loss | None = None
    speed: Speed | None = None
    speedup: float = 1.0
    size_mb: float = 0.0
    best: bool = False
    seconds: float = 0.0

    def json(self) -> dict[str, Any]:
        """Plain JSON."""
        loss, low, high = (_finite(number) for number in self.loss or (None,) * 3)
        return {
            "name": self.name, "state": self.state, "reason": self.reason, "value": self.value, "loss": loss,
            "interval": None if low is None or high is None else [low, high],
            "latency_ms": self.speed.json() if self.speed else None, "speedup": round(self.speedup, 3),
            "size_mb": round(self.size_mb, 3), "frontier": self.best, "seconds": round(self.seconds, 1),
        }  # fmt: skip


def _finite(number: float | None) -> float | None:
    return None if number is None or not math.isfinite(number) else round(float(number), 6)


class Maker:
    """Makes variants; what two chains begin with is made once.

    Args:
        run: The run.
        graph: The exported graph of the full model.
        module: The full model.
        members: The models in it.
        own: What it reads.
        students: The students by the key of their step.
        exporter: Writes graphs.
        deadline: `time.monotonic()` at which it must be over.
    """

    def __init__(
        self, run: Run, graph: bytes, module: torch.nn.Module, members: Sequence[Member], own: Seen,
        students: dict[str, Pupil], exporter: Exporter, deadline: float,
    ) -> None:  # fmt: skip
        self.run, self.graph, self.module, self.members = run, graph, module, members
        self.own, self.students, self.exporter, self.deadline = own, students, exporter, deadline
        self.done: dict[str, Made | Exception] = {}

    def make(self, chain: Chain, ahead: Sequence[Chain]) -> Variant:
        """One chain, made step by step; what another chain has in common is not made again."""
        began, variant = time.monotonic(), Variant(shown(chain))
        try:
            made = Made(self.own, None, None)
            for at, step in enumerate(chain):
                made = self._after(made, chain[: at + 1], step, ahead)
            variant.made = self._exported(made, chain)
        except NotCompressible as problem:
            variant.state, variant.reason = "left out", str(problem)
        except Exception as problem:  # a compressor is anybody's code, and the package exists already
            variant.reason = (
                str(problem) if isinstance(problem, AutommError) else f"{type(problem).__name__}: {problem}"
            )
        variant.seconds = time.monotonic() - began
        return variant

    def _after(self, made: Made, chain: Chain, step: Step, ahead: Sequence[Chain]) -> Made:
        key = " ".join(part.key for part in chain)
        if key not in self.done:
            try:
                if self.run.stopping():
                    raise NotCompressible("stopped on request")
                if time.monotonic() + LEAST_SECONDS > self.deadline:
                    raise NotCompressible("no time is left")
                if reason := step.cls.unsuited(context(self.run), self._config(step)):
                    raise NotCompressible(reason)
                self.done[key] = getattr(self, f"_{step.cls.stage}")(made, chain, step, ahead)
            except Exception as problem:
                self.done[key] = problem
        found = self.done[key]
        if isinstance(found, Exception):
            raise found
        return found

    def _config(self, step: Step) -> Any:
        return step.cls.Config(**step.fields)

    def _course(self, step: Step, ahead: Sequence[Chain]) -> Course:
        """The training that follows a step: an equal share of the time for each that is still to come."""
        config = cast(Recovery, self._config(step))
        trained = {part.key for chain in ahead for part in chain if part.cls.stage != "graph"}
        now = time.monotonic()
        share = now + (self.deadline - now) / max(len(trained), 1)
        return Course(config.epochs, config.learning_rate, share, self.run.stopping, self.run.plan.seed)

    def _student(self, made: Made, chain: Chain, step: Step, ahead: Sequence[Chain]) -> Made:
        """Trains another network on the full model's outputs and on the target."""
        pupil = self.students[step.key]
        if pupil.seen is None:
            raise NotCompressible(pupil.reason)
        run, resolved, view = self.run, pupil.resolved, pupil.seen.views["train"]
        task, registry = run.prepared.task, run.plugins.registry
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.plan.seed)
            model = build_model(resolved, view.processors, task, registry)
        loss_cls = registry.get("loss", resolved["loss"]["name"])
        with blamed(registry, loss_cls, "__init__"):
            loss = loss_cls(loss_cls.Config.model_validate(resolved["loss"]["config"]), task.target()).to(device())
        stores = {**self.own.views["train"].stores, **{STUDENT + slug: store for slug, store in view.stores.items()}}
        positions = np.intersect1d(view.positions, self.own.views["train"].positions)
        batches = self._batches(stores, view.target, positions, resolved["train"]["batch_size"])
        weights = [member.weight for member in self.members]

        def split(batch: dict[str, torch.Tensor], mine: bool) -> dict[str, torch.Tensor]:
            kept = {key: tensor for key, tensor in batch.items() if key.startswith(STUDENT) == mine}
            return {key.removeprefix(STUDENT): tensor for key, tensor in kept.items()}

        def teacher(batch: dict[str, torch.Tensor]) -> torch.Tensor:
            with taps(self.module) as found:
                self.module(split(batch, False))
            outputs = [tensor for name, tensor in found.items() if name.endswith(".output")]
            return torch.stack([w * output for w, output in zip(weights, outputs, strict=True)]).sum(0)

        class Mine(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
                return self.model(split(batch, True))  # type: ignore[no-any-return]

        self.module.to(device()).eval()
        try:
            distil(
                Mine(), teacher, batches,
                lambda output, target: loss(output, task.model_target(target)).mean(), self._course(step, ahead),
            )  # fmt: skip
        finally:
            self.module.cpu()
        return Made(pupil.seen, AnswerModel(model, task).eval(), None, resolved)

    def _model(self, made: Made, chain: Chain, step: Step, ahead: Sequence[Chain]) -> Made:
        """Takes parts out, and has the rest learn again."""
        teacher = made.module or self.module
        smaller = copy.deepcopy(teacher).cpu().eval()
        train = made.seen.views["train"]
        at = train.positions[:: max(1, len(train.positions) // CALIBRATION)][:CALIBRATION]
        batches = [
            {name: torch.from_numpy(array) for name, array in arrays_of(train, at[i : i + BATCH]).items()}
            for i in range(0, len(at), BATCH)
        ]
        with blamed(self.run.plugins.registry, step.cls, "shrink"):
            cast(Any, step.cls)(self._config(step)).shrink(smaller, batches)
        course = self._course(step, ahead)
        recover(smaller, teacher, self._batches(train.stores, train.target, train.positions, BATCH), course)
        return made._replace(module=smaller)

    def _batches(self, stores: Any, target: np.ndarray, positions: np.ndarray, size: int) -> TensorBatches:
        batches = Batches(
            stores, target, size, positions=positions, shuffle=True, seed=self.run.plan.seed, by_length=True
        )
        return TensorBatches(batches, device())

    def _graph(self, made: Made, chain: Chain, step: Step, ahead: Sequence[Chain]) -> Made:
        """Rewrites the exported graph."""
        made = self._exported(made, chain[:-1])
        train = made.seen.views["train"]
        at = train.positions[:: max(1, len(train.positions) // CALIBRATION)][:CALIBRATION]
        rows = [arrays_of(train, one[None]) for one in at]
        assert made.graph is not None
        with blamed(self.run.plugins.registry, step.cls, "compress"):
            graph = cast(Any, step.cls)(self._config(step)).compress(made.graph, rows)
        return made._replace(graph=graph, rounded=True)

    def _exported(self, made: Made, chain: Chain) -> Made:
        """The graph of what a chain gave; once for all chains that begin like this."""
        if made.graph is not None:
            return made
        if made.module is None:
            return made._replace(graph=self.graph)
        key = "exported " + " ".join(part.key for part in chain)
        if key not in self.done:
            with tempfile.TemporaryDirectory(prefix="automm-compress-") as folder:
                path = Path(folder) / "graph.onnx"
                self.exporter.export_graph(self._answer_graph(made), path)
                self.done[key] = made._replace(graph=path.read_bytes())
        return cast(Made, self.done[key])

    def _answer_graph(self, made: Made) -> Graph:
        assert made.module is not None
        view = made.seen.views["valid"]
        return answer_graph(made.module, view.processors, example_batch(view, view.positions[:VERIFY_ROWS]))
