"""What happens after each epoch: measuring, keeping the best weights, and deciding whether to go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import lightning as L
from torch import Tensor

from automm.errors import StorageError, TooDearError
from automm.train.ranks import Ranks
from automm.train.standing import Standing, Standings

MODEL = "module.model."
"""Before the names of the model's weights, where a trial stands."""
AGREE_EVERY = 16
"""Steps between agreements on stopping within an epoch, when there are several ranks."""
PATIENCE = 2.0
"""Seconds after which the first steps tell how long an epoch takes."""


class Watch(L.Callback):
    """Measures after every epoch, keeps the best weights, stops early, prunes, and keeps the deadline.

    Args:
        measure: Gives the validation metrics of the model as it is, and its answers.
        metric: Name of the chosen metric.
        maximize: Whether larger is better.
        patience: Epochs without improvement before training stops.
        on_epoch: Called on rank 0 with (epoch, value, all metrics); returns True to prune the trial.
        deadline: `time.monotonic()` value at which training ends; None: never.
        stopping: Asks whether the user wants the run to end.
        ranks: The processes of the job.
        least: Epochs that must be possible before the deadline: less is not worth its time.
        frozen: Names of weights that are never trained, and not kept.
        standings: Where it writes now and then how far it is.
        standing: What an earlier attempt left there.
        on_past: Called on rank 0 with epoch and value of what that attempt measured.
    """

    def __init__(
        self,
        measure: Callable[[], tuple[dict[str, float | None], dict[str, Tensor]]],
        metric: str,
        maximize: bool,
        patience: int,
        on_epoch: Callable[[int, float, dict[str, Any]], bool],
        deadline: float | None,
        stopping: Callable[[], bool],
        ranks: Ranks,
        least: int = 0,
        frozen: frozenset[str] = frozenset(),
        standings: Standings | None = None,
        standing: Standing | None = None,
        on_past: Callable[[int, float], None] = lambda *_: None,
    ) -> None:
        self._standings, self._on_past = standings, on_past
        self.earlier = 0.0  # seconds of earlier attempts
        self._standing = standing
        self.offset: int = self._standing.facts["epoch"] if self._standing else 0
        self._frozen = frozen
        self._measure, self._metric, self._sign = measure, metric, 1.0 if maximize else -1.0
        self._patience, self._on_epoch, self._deadline = patience, on_epoch, deadline
        self._stopping, self._ranks, self._least = stopping, ranks, least
        self.best: dict[str, float | None] = {}
        self.best_epoch = -1
        self.best_weights: dict[str, Tensor] = {}
        self.best_answers: dict[str, Tensor] = {}
        self.history: list[dict[str, Any]] = []
        self.pruned = False
        self.ended = "all epochs done"
        self._began = time.monotonic()
        self._first: int | None = None  # the first epoch with the loss; an objective may come before it

    def on_train_epoch_start(self, trainer: L.Trainer, module: Any) -> None:
        """Notes when the loss joins in: before that there is nothing to measure."""
        if self._first is None and not module.alone:
            self._first = self._epoch(trainer)

    def _epoch(self, trainer: L.Trainer) -> int:
        """The epoch of the trial, from 0."""
        return trainer.current_epoch + self.offset

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        """Goes on where an earlier attempt stood."""
        if self._standing is None or self._standings is None:
            return
        facts = self._standing.facts
        module.go_on(self._standing)
        self.best, self.best_epoch, self.history = facts["best"], facts["best_epoch"], facts["history"]
        self.best_weights, self.best_answers = self._standing.part("best"), self._standing.part("answers")
        self._first, self.earlier = facts["first"], facts["seconds"]
        module.time_used = self._time_used()
        for entry in self.history if self._ranks.main else ():
            if entry.get(self._metric) is not None:
                self._on_past(entry["epoch"] - (self._first or 0), entry[self._metric])
        self._standings.go_on(self._standing)
        self._standing = None

    def _keep_standing(self, trainer: L.Trainer, module: Any) -> None:
        """Writes where the trial stands, if it is time and there is more to come."""
        last = trainer.current_epoch + 1 >= (trainer.max_epochs or 0)
        if trainer.should_stop or last or self._standings is None or not self._standings.due():
            return
        tensors, facts = module.standing()
        tensors = {key: tensor for key, tensor in tensors.items() if key.removeprefix(MODEL) not in self._frozen}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best_weights.items()}
        tensors |= {f"answers.{name}": tensor for name, tensor in self.best_answers.items()}
        own = {
            "epoch": self._epoch(trainer) + 1,
            "seconds": self.earlier + time.monotonic() - self._began,
            "first": self._first,
        }
        found = {"best": self.best, "best_epoch": self.best_epoch, "history": self.history}
        try:
            self._standings.write(tensors, {**facts, **own, **found})
        except StorageError:  # what the trial ends with may still find room
            self._standings = None

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        """Ends the epoch when the time is up."""
        if self._ranks.world == 1 or index % AGREE_EVERY == AGREE_EVERY - 1:
            reason, module.time_used, dear = self._ranks.broadcast(
                [self._out_of_time(), self._time_used(), self._too_dear(trainer, index)]
            )
            if dear:
                raise TooDearError(dear)
            if reason:
                self.ended = reason
                trainer.should_stop = True

    def on_train_epoch_end(self, trainer: L.Trainer, module: Any) -> None:
        """Measures and decides; every rank comes to the same decision."""
        self._decide(trainer, module)
        self._keep_standing(trainer, module)

    def _decide(self, trainer: L.Trainer, module: Any) -> None:
        epoch, loss = self._epoch(trainer), module.take_loss()
        self._ranks.share(module.model.buffers())
        if self._first is None and not trainer.should_stop:
            self.history.append({"epoch": epoch, "loss": loss})
            return
        first = epoch if self._first is None else self._first
        metrics, answers = self._measure()
        value = metrics[self._metric]
        self.history.append({"epoch": epoch, "loss": loss, **metrics})
        if value is not None and (self.best_epoch < 0 or self._sign * (value - (self.best[self._metric] or 0.0)) > 0):
            self.best, self.best_epoch, self.best_answers = metrics, epoch, answers
            self.best_weights = {
                key: tensor.detach().cpu().clone()
                for key, tensor in module.model.state_dict().items()
                if key not in self._frozen
            }
        pruned, late = self._ranks.first(lambda: self._tell(trainer, epoch, first, value, {"loss": loss, **metrics}))
        if pruned:
            self.pruned, self.ended = True, "pruned"
        elif late:
            self.ended = late
        elif epoch - max(self.best_epoch, first - 1) >= self._patience:
            self.ended = f"no better {self._metric} for {self._patience} epochs"
        else:
            return
        trainer.should_stop = True

    def _tell(
        self, trainer: L.Trainer, epoch: int, first: int, value: float | None, figures: dict[str, float | None]
    ) -> tuple[bool, str | None]:
        """Logs the epoch; gives whether the trial is pruned, and why it must end otherwise. Rank 0 only."""
        if trainer.logger is not None:
            known = {name: figure for name, figure in figures.items() if figure is not None}
            trainer.logger.log_metrics(known, step=epoch)
        pruned = value is not None and self._on_epoch(epoch - first, value, figures)
        took = (time.monotonic() - self._began) / (trainer.current_epoch + 1)
        return pruned, self._out_of_time(took)

    def _too_dear(self, trainer: L.Trainer, index: int) -> str | None:
        """Says so when the first steps tell that too few epochs are possible."""
        now = time.monotonic()
        if self._deadline is None or self._epoch(trainer) or now - self._began < PATIENCE:
            return None
        epoch = (now - self._began) / (index + 1) * float(trainer.num_training_batches)
        if self._began + self._least * epoch <= self._deadline:
            return None
        left = self._deadline - self._began
        return f"an epoch would take about {epoch:.0f} s, the trial may take {left:.0f} s; give search.time more"

    def _time_used(self) -> float:
        """Share of the trial's time that is used; 0 without a deadline."""
        if self._deadline is None:
            return 0.0
        began = self._began - self.earlier
        return min(1.0, (time.monotonic() - began) / max(self._deadline - began, 1e-6))

    def _out_of_time(self, more: float = 0.0) -> str | None:
        if self._stopping():
            return "stopped on request"
        if self._deadline is not None and time.monotonic() + more > self._deadline:
            return "the time is up"
        return None


def no_callbacks(given: Any) -> str | None:
    """What is wrong with what a plugin gave as callbacks; None if nothing is."""
    fine = isinstance(given, list) and all(isinstance(item, L.Callback) for item in given)
    return None if fine else "must give a list of Lightning callbacks"
