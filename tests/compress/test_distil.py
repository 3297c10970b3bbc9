"""Distillation: what a student learns, what is compared, and when it ends."""

from __future__ import annotations

import copy
import time

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from automm.train.distil import Course, difference, distil, recover, taps  # noqa: E402


class Batches(list):
    """Batches as the training loop takes them."""


def batches(rows=32, count=4):
    random = torch.Generator().manual_seed(0)
    made = [torch.randn(rows, 6, generator=random) for _ in range(count)]
    return Batches({"x.values": x, "target": x[:, 0].sign(), "valid": torch.ones(rows).bool()} for x in made)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(3, 6)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, 6)) for _ in range(2))
        self.norm, self.dropout = nn.BatchNorm1d(6), nn.Dropout(0.5)

    def forward(self, batch):
        x = batch["x.values"] + self.words.weight[0]
        for layer in self.layers:
            x = x + layer(x)
        return {"y": self.dropout(self.norm(x))}


def course(epochs=30, deadline=None, stopping=lambda: False):
    return Course(epochs, 1e-2, deadline, stopping, 0)


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    return Net().eval()


def test_recovery_brings_the_student_back(teacher):
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        for layer in student.layers:
            layer[2].weight += 0.3 * torch.randn(6, 24)
    kept = copy.deepcopy(student.words.weight)
    data = batches()
    lesson = recover(student, teacher, data, course())
    assert lesson.epochs == 30 == len(lesson.losses)
    assert lesson.losses[-1] < 0.02 * lesson.losses[0]
    with taps(teacher) as wanted, taps(student) as found, torch.no_grad():
        teacher(data[0]), student(data[0])
    assert set(wanted) == {"layers.0 of 2", "layers.1 of 2"}
    assert all(float(difference(found[name], wanted[name])) < 0.05 for name in wanted)
    assert torch.equal(student.words.weight, kept), "embeddings are not trained"
    assert not student.training
    assert not any(parameter.requires_grad for parameter in student.parameters())
    assert not torch.equal(student.norm.running_mean, teacher.norm.running_mean), "statistics are taken again"


def test_layers_of_another_stack_are_not_compared(teacher):
    student = copy.deepcopy(teacher)
    student.layers = student.layers[:1]
    with taps(student) as found, torch.no_grad():
        student(batches()[0])
    assert set(found) == set()


def test_difference_is_a_share_of_the_variance():
    wanted = torch.tensor([[0.0], [2.0], [float("nan")], [0.0]])
    assert float(difference(wanted, wanted)) == 0.0
    shifted = torch.nan_to_num(wanted) + 1.0
    assert float(difference(shifted, wanted)) == pytest.approx(1.0 / float(torch.nan_to_num(wanted).var()))


def test_it_ends_in_time_and_on_request(teacher):
    for limits in ({"deadline": time.monotonic() - 1}, {"stopping": lambda: True}):
        student = copy.deepcopy(teacher)
        assert recover(student, teacher, batches(), course(**limits)).epochs == 1
        assert torch.equal(student.layers[0][0].weight, teacher.layers[0][0].weight)
    assert recover(copy.deepcopy(teacher), teacher, batches(), course(epochs=0)) == (0, ())


def test_a_student_learns_from_teacher_and_target(teacher):
    torch.manual_seed(1)
    student = nn.Linear(6, 1)
    student.forward = lambda batch: nn.functional.linear(batch["x.values"], student.weight, student.bias)
    before = torch.random.get_rng_state()
    lesson = distil(
        student, lambda batch: batch["x.values"][:, :1] * 3, batches(),
        lambda output, target: (output[:, 0] - 3 * target).square().mean(), course(150),
    )  # fmt: skip
    assert lesson.losses[-1] < 0.4 * lesson.losses[0]
    assert float(student.weight[0, 0].detach()) == pytest.approx(3, abs=0.5)
    assert torch.equal(before, torch.random.get_rng_state()), "the run's random numbers are its own"
