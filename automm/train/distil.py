"""Distillation: a smaller model learns to answer as the full one does (Hinton et al. 2015)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from automm.core.features import Features
from automm.model.assemble import AnswerModel, MultimodalModel
from automm.model.learned import LearnedModel
from automm.train.run import TensorBatches, device

WARMUP = 0.1
"""Share of the steps with a rising learning rate."""
CLIP = 1.0
"""Largest gradient norm."""
LEAST = 1e-6
"""Smallest variance that a difference is divided by."""

Batch = dict[str, Tensor]
Loss = Callable[[Batch, Tensor], Tensor]


@dataclass(frozen=True)
class Course:
    """How a student is taught.

    Attributes:
        epochs: Most passes over the batches.
        learning_rate: Peak.
        deadline: `time.monotonic()` at which it ends; None: never.
        stopping: Asks whether the user wants the run to end.
        seed: Of dropout and augmentation.
    """

    epochs: int
    learning_rate: float
    deadline: float | None
    stopping: Callable[[], bool]
    seed: int


class Lesson(NamedTuple):
    """What became of it.

    Attributes:
        epochs: Passes over the training rows, the last one perhaps not to its end.
        losses: Mean difference from the teacher per pass, as a share of the variance of what is compared.
    """

    epochs: int
    losses: tuple[float, ...]


def recover(student: nn.Module, teacher: nn.Module, batches: TensorBatches, course: Course) -> Lesson:
    """Trains a model from which parts were taken to give what the full model gives.

    Compared are the outputs, the features of every input, and what each layer of a stack gives, where both models have
    it in the same shape. Everything but embeddings is trained, also what was frozen before; there is no dropout and no
    augmentation, so that both see the same.

    Args:
        student: From batch to answers; a copy of the teacher without some parts. Changed in place, on the CPU again
            afterwards.
        teacher: The full model.
        batches: The training rows.
        course: Time and rates.
    """
    where = device()
    teacher.to(where).eval()
    student.to(where).eval()
    for module in student.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    trained = _trained(student)

    def loss(batch: Batch, _: Tensor) -> Tensor:
        with torch.no_grad(), taps(teacher) as wanted:
            teacher(dict(batch))
        with taps(student) as found:
            student(dict(batch))
        terms = [
            difference(found[name], wanted[name])
            for name in wanted
            if name in found and found[name].shape == wanted[name].shape and found[name].requires_grad
        ]
        return torch.stack(terms).mean()

    try:
        return _teach(trained, batches, loss, course)
    finally:
        student.eval().cpu().requires_grad_(False)
        teacher.cpu()


def distil(
    student: nn.Module, answer: Callable[[Batch], Tensor], batches: TensorBatches, loss: Loss, course: Course
) -> Lesson:
    """Trains another model on the teacher's outputs and on the target.

    Args:
        student: From batch to output [batch, size]. Changed in place, on the CPU again afterwards.
        answer: The teacher's output for a batch, [batch, size].
        batches: The training rows, with the arrays of both.
        loss: (output, target) → the student's own loss.
        course: Time and rates.
    """
    student.to(device()).train()

    def both(batch: Batch, target: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = answer(batch)
        output = student(batch)
        return difference(output, wanted) + loss(output, target)

    try:
        return _teach(_trained(student), batches, both, course)
    finally:
        student.eval().cpu().requires_grad_(False)


def difference(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference as a share of the wanted values' variance over the batch."""
    found, wanted = torch.nan_to_num(found.float()), torch.nan_to_num(wanted.float())
    return (found - wanted).square().mean() / wanted.var().clamp(min=LEAST)


def _trained(student: nn.Module) -> list[nn.Parameter]:
    """All parameters but embeddings: a few rows tell little about most words."""
    student.requires_grad_(True)
    for module in student.modules():
        if isinstance(module, nn.Embedding):
            module.requires_grad_(False)
    return [parameter for parameter in student.parameters() if parameter.requires_grad]


def _teach(parameters: list[nn.Parameter], batches: TensorBatches, loss: Loss, course: Course) -> Lesson:
    """AdamW with warm-up and a cosine over the steps, or over the time if that ends first."""
    if not course.epochs or not parameters:
        return Lesson(0, ())
    optimizer = torch.optim.AdamW(parameters, course.learning_rate, weight_decay=0.0)
    steps, began = course.epochs * len(batches), time.monotonic()
    warm = max(1, round(WARMUP * steps))
    losses: list[float] = []
    step = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(course.seed)
        for epoch in range(course.epochs):
            total, count = 0.0, 0
            for batch in batches:
                used = _used(began, course.deadline)
                if used >= 1.0 or course.stopping():
                    return Lesson(epoch + 1, (*losses, total / max(count, 1)))
                rate = (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * max(step / steps, used)))
                for group in optimizer.param_groups:
                    group["lr"] = course.learning_rate * rate
                target = batch["target"]
                value = loss({key: tensor for key, tensor in batch.items() if "." in key}, target)
                optimizer.zero_grad()
                value.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(parameters, CLIP)
                optimizer.step()
                step, total, count = step + 1, total + float(value.detach()), count + 1
            losses.append(total / max(count, 1))
    return Lesson(course.epochs, tuple(losses))


def _used(began: float, deadline: float | None) -> float:
    """Share of the time that is used."""
    return 0.0 if deadline is None else (time.monotonic() - began) / max(deadline - began, 1e-6)


@contextmanager
def taps(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collects what is compared while a model runs: name → tensor."""
    found: dict[str, Tensor] = {}
    handles = []

    def outputs(name: str) -> Any:
        def keep(module: nn.Module, given: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) and output else output
            if isinstance(first, Tensor) and first.is_floating_point():
                found[name] = first

        return keep

    def fused(name: str) -> Any:
        def keep(module: nn.Module, given: tuple[Mapping[str, Features]]) -> None:
            found.update({f"{name}.{slug}": features.tokens for slug, features in given[0].items()})

        return keep

    def described(name: str) -> Any:
        def keep(module: nn.Module, given: tuple[Tensor]) -> None:
            found[name] = given[0]

        return keep

    for name, module in model.named_modules():
        if isinstance(module, AnswerModel):
            handles.append(module.model.register_forward_hook(outputs(f"{name}.output")))
        elif isinstance(module, MultimodalModel):
            handles.append(module.fusion.register_forward_pre_hook(fused(f"{name}.features")))
        elif isinstance(module, LearnedModel):
            handles.append(module.learner.register_forward_pre_hook(described(f"{name}.described")))
        elif isinstance(module, nn.ModuleList) and len(module) > 1:
            layers = list(module)
            handles += [
                layer.register_forward_hook(outputs(f"{name}.{at} of {len(layers)}")) for at, layer in enumerate(layers)
            ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
