"""The LightningModule: one optimisation step, one evaluation, and agreement between ranks."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor, nn

from automm.core.features import Features
from automm.core.kinds import Loss, Task
from automm.core.objective import Objective
from automm.errors import AutommError, PluginError
from automm.model.assemble import MultimodalModel
from automm.plugin.blame import blamed, who
from automm.plugin.registry import Registry
from automm.train.ranks import Ranks
from automm.train.standing import Standing

TAG = "automm."
"""Prefix of what travels with the answers."""


class TrialFailed(AutommError):
    """A trial cannot go on, because its loss is not finite."""


class OtherRankFailed(AutommError):
    """A trial cannot go on, because another rank failed; that rank says why."""

    def __init__(self) -> None:
        super().__init__("another rank failed")


class TrialModule(L.LightningModule):
    """Trains a multimodal model.

    Optimisation is manual: on small models Lightning's automatic loop costs more than the step itself. Under DDP an
    exception in one rank's forward pass is caught there, the rank takes part in the gradient exchange with zeros and a
    raised alarm, and every rank sees the alarm and fails the trial together.

    Args:
        model: The model.
        loss: One value per row.
        task: Gives the loss its target and turns outputs into answers.
        groups: Optimiser groups.
        steps: Optimisation steps in all, for the schedule.
        train: The resolved `train` block.
        ranks: The processes of the job.
        registry: To name the owner of a component that raises.
        objective: What is learned from rows alone, beside the loss.
        unlabeled: Batches without answers for the objective, one a step, without end.
        alone: Steps in the beginning that train on the objective alone.
    """

    def __init__(
        self,
        model: MultimodalModel,
        loss: Loss,
        task: Task,
        groups: list[dict[str, Any]],
        steps: int,
        train: Mapping[str, Any],
        ranks: Ranks,
        registry: Registry,
        objective: Objective | None = None,
        unlabeled: Iterator[dict[str, Tensor]] | None = None,
        alone: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.loss, self.objective = model, loss, objective
        self._unlabeled, self._alone = unlabeled, alone
        self.alarm = nn.Parameter(torch.zeros(()))
        self._task, self._groups, self._steps, self._train = task, groups, max(steps, 1), train
        self._ranks, self._registry = ranks, registry
        self._trained = [parameter for group in groups for parameter in group["params"]]
        self._steps_counted = 0
        self._total: Tensor | float = 0.0
        self.time_used = 0.0

    @property
    def alone(self) -> bool:
        """Whether the objective is trained without the loss; it may take half of a trial's time at most."""
        step = self._schedule.last_epoch if hasattr(self, "_schedule") else 0
        return step < self._alone and self.time_used < 0.5

    def configure_optimizers(self) -> Any:
        """AdamW with linear warm-up and cosine decay (Loshchilov & Hutter 2017, 2019); twice, if the objective begins.

        The decay follows the steps, or the share of the trial's time that is used, whichever is further: training that
        the clock ends early still ends with a small learning rate.
        """
        idle = {"params": [self.alarm], "lr": 0.0, "weight_decay": 0.0}
        self._optimizer = torch.optim.AdamW([*self._groups, idle], fused=True)

        def factor(step: int) -> float:
            begin, end = (0, self._alone) if step < self._alone else (self._alone, self._steps)
            step, steps = step - begin, end - begin
            warm = max(1, round(self._train["warmup"] * steps))
            if step < warm:
                return float((step + 1) / warm)
            done = max((step - warm) / max(1, steps - warm), self.time_used)
            return float(0.5 * (1.0 + math.cos(math.pi * min(1.0, done))))

        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, factor)
        return self._optimizer

    def training_step(self, batch: dict[str, Tensor], index: int) -> None:
        """Forward, backward, clip, step.

        Raises:
            Exception: On every rank, if one rank's forward pass failed; `OtherRankFailed` on the others.
        """
        problem: Exception | None = None
        try:
            loss = self._loss(batch)
        except Exception as raised:
            if self._ranks.world == 1:
                raise
            problem = raised
            loss = self.alarm + 0.0 * sum(p.sum() for p in self.parameters() if p.requires_grad)
        self._optimizer.zero_grad()
        self.manual_backward(loss)
        if self._ranks.world > 1 and bool(self.alarm.grad != 0.0):
            raise problem or OtherRankFailed()
        if self._train["gradient_clip"] > 0:
            nn.utils.clip_grad_norm_(self._trained, self._train["gradient_clip"])
        self._optimizer.step()
        self._schedule.step()
        self._total = self._total + loss.detach()
        self._steps_counted += 1

    def _loss(self, batch: dict[str, Tensor]) -> Tensor:
        features = self.model.features(batch)
        total = 0.0 * self.alarm
        if self.objective is not None:
            total = total + self._learned(self.objective, features)
        return total if self.alone else total + self._judged(self.model.decide(features), batch["target"])

    def _learned(self, objective: Objective, features: dict[str, Features]) -> Tensor:
        """What the objective says of the rows, those without an answer included."""
        seen = [features]
        if self._unlabeled is not None:
            seen.append(self.model.features(next(self._unlabeled)))
        found = []
        for one in seen:
            rows = len(next(iter(one.values())).mask)
            with blamed(self._registry, type(objective), "forward"):
                values = objective(one, self.model.vector)
            self._check_rows(objective, values, rows)
            found.append(values.float())
        if self._schedule.last_epoch == 0 and not all(bool(values.isfinite().all()) for values in found):
            raise PluginError(f"{who(type(objective))} gives NaN or infinity in the first training batch")
        weighted: Tensor = objective.config.weight * torch.cat(found).mean()
        return weighted

    def _judged(self, output: Tensor, target: Tensor) -> Tensor:
        """The mean loss of a batch."""
        target = self._task.model_target(target)
        steps = max(1, self._steps - self._alone)
        self.loss.progress = min(1.0, max((self._schedule.last_epoch - self._alone) / steps, self.time_used))
        with blamed(self._registry, type(self.loss), "forward"):
            rows: Tensor = self.loss(output.float(), target)  # [batch]
        self._check_rows(self.loss, rows, len(target))
        if self._schedule.last_epoch in (0, self._alone) and not bool(rows.isfinite().all()):
            finite = bool(output.isfinite().all())
            raiser = type(self.loss) if finite else type(self._task)
            raise PluginError(f"{who(raiser)} gives NaN or infinity in the first training batch")
        return rows.mean()

    def _check_rows(self, component: Loss | Objective, values: Any, rows: int) -> None:
        if not isinstance(values, Tensor) or values.shape != (rows,):
            gave = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise PluginError(f"{who(type(component))} must give one value per row, [{rows}]; it gave {gave}")

    def standing(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Where training stands after an epoch: "module.…" and "optimizer.…" tensors, and plain facts."""
        tensors = {f"module.{name}": tensor for name, tensor in self.state_dict().items()}
        for number, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in state.items()}
        rates = [group["lr"] for group in self._optimizer.param_groups]
        return tensors, {"step": self._schedule.last_epoch, "rates": rates}

    def go_on(self, standing: Standing) -> None:
        """Goes on from there, once the optimiser is made."""
        self.load_state_dict({**self.state_dict(), **standing.part("module")})
        states: dict[int, dict[str, Tensor]] = {}
        for name, tensor in standing.part("optimizer").items():
            number, _, key = name.partition(".")
            states.setdefault(int(number), {})[key] = tensor
        whole = self._optimizer.state_dict()
        for group, rate in zip(whole["param_groups"], standing.facts["rates"], strict=True):
            group["lr"] = rate
        self._optimizer.load_state_dict({**whole, "state": states})
        self._schedule.last_epoch = standing.facts["step"]

    def take_loss(self) -> float:
        """The mean training loss since the last call, over all ranks.

        Raises:
            TrialFailed: On every rank, if it is not finite.
        """
        own = float(self._total) / max(1, self._steps_counted)
        self._total, self._steps_counted = 0.0, 0
        mean: float = sum(self._ranks.gather(own)) / self._ranks.world
        if not math.isfinite(mean):
            raise TrialFailed(f"the training loss became {mean}; a smaller learning rate may help")
        return mean


@torch.no_grad()
def evaluate(
    model: nn.Module, batches: Iterable[dict[str, Tensor]], ranks: Ranks, autocast: Any = None
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Answers for all rows, gathered over the ranks and ordered by row.

    Args:
        model: From batch to answers by name; it is put into eval mode and back.
        batches: This rank's batches, with "target", "row" and "valid" (False for rows that only pad).
        ranks: The processes of the job.
        autocast: A context manager for mixed precision.

    Returns:
        Answers by name, targets, and row numbers, on the CPU.

    Raises:
        Exception: On every rank, if one failed; `OtherRankFailed` on the others.
    """
    was_training = model.training
    model.eval()
    found: list[dict[str, Tensor]] = []
    problem: Exception | None = None
    try:
        for batch in batches:
            with autocast or contextlib.nullcontext():
                answers = model({key: value for key, value in batch.items() if "." in key})
            keep = batch["valid"]
            facts = {f"{TAG}target": batch["target"], f"{TAG}row": batch["row"]}
            found.append({name: tensor[keep].cpu() for name, tensor in {**answers, **facts}.items()})
    except Exception as raised:
        problem = raised
    finally:
        model.train(was_training)
    if any(ranks.gather(problem is not None)):
        raise problem or OtherRankFailed()
    parts: list[Any] = [found]
    if ranks.world > 1:
        parts = [None] * ranks.world
        dist.all_gather_object(parts, found, group=ranks.control)
    batched = [answers for part in parts for answers in part]
    joint = {name: torch.cat([answers[name] for answers in batched]) for name in batched[0]}
    order = joint[f"{TAG}row"].argsort(stable=True)
    joint = {name: tensor[order] for name, tensor in joint.items()}
    target, row = joint.pop(f"{TAG}target"), joint.pop(f"{TAG}row")
    return joint, target, row


def measure(task: Task, answers: Mapping[str, Tensor], target: Tensor) -> dict[str, float | None]:
    """All metrics of a task; None where one is not defined on these rows."""
    found: dict[str, float | None] = {}
    for name, metric in task.metrics().items():
        value = float(metric.compute(answers, target))
        found[name] = value if math.isfinite(value) else None
    return found
