"""The loss passes automm's conformance kit, and does what its paper says."""

import pytest
import torch
from automm_robust_loss.generalized import GeneralizedCrossEntropy

from automm.api import TargetInfo
from automm.testing import parametrize

TARGET = TargetInfo("class", 2, ("no", "yes"), (50, 50), 100)


@parametrize(GeneralizedCrossEntropy)
def test_conformance(check):
    check()


def loss(q, p):
    """The loss of one row whose true class has probability p, and the slope of its logit."""
    module = GeneralizedCrossEntropy(GeneralizedCrossEntropy.Config(q=q), TARGET)
    logits = torch.stack([torch.zeros(1), torch.logit(torch.tensor([p]))], 1).requires_grad_()
    value = module(logits, torch.tensor([1]))
    value.sum().backward()
    return value.item(), logits.grad[0, 1].item()


def test_values():
    assert loss(1.0, 0.25)[0] == pytest.approx(0.75)
    assert loss(0.5, 0.25)[0] == pytest.approx(1.0)  # (1 − √0.25) / 0.5
    assert loss(1e-4, 0.25)[0] == pytest.approx(1.3863, rel=1e-3)  # −log 0.25


def test_an_impossible_label_pulls_less_than_a_doubtful_one():
    assert abs(loss(0.7, 0.001)[1]) < 0.05 * abs(loss(0.7, 0.5)[1])
    assert abs(loss(1e-4, 0.001)[1]) > abs(loss(1e-4, 0.5)[1])  # the cross-entropy: the other way round
