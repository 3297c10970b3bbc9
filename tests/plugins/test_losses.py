import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from automm_losses import Bce, CrossEntropy, Focal, Huber, Mse, WeightedBce, WeightedCrossEntropy
from automm_losses.classes import class_weights
from sklearn.utils.class_weight import compute_class_weight

from automm.api import Context, TargetInfo

CLASSES = TargetInfo("class", 3, ("a", "b", "c"), (60, 30, 10), 100)
PAIR = TargetInfo("class", 2, ("no", "yes"), (80, 20), 100)
LABELS = TargetInfo("labels", 2, ("x", "y"), (25, 2), 100)
NUMBER = TargetInfo("number", 1, rows=100)


def loss(cls, target, **config):
    return cls(cls.Config(**config), target)


def test_cross_entropy_against_hand_computed_numbers():
    output = torch.tensor([[0.0, 0.0, 0.0], [math.log(2), 0.0, 0.0]])
    values = loss(CrossEntropy, CLASSES)(output, torch.tensor([1, 0]))
    torch.testing.assert_close(values, torch.tensor([math.log(3), math.log(2)]))  # p = 1/3; 2/4
    smooth = loss(CrossEntropy, CLASSES, label_smoothing=0.3)(output, torch.tensor([1, 0]))
    expected = 0.8 * math.log(2) + 0.2 * math.log(4)  # 0.3 spread over three classes: 0.8, 0.1, 0.1
    assert smooth[1].item() == pytest.approx(expected, rel=1e-6)


def test_balanced_weights_are_those_of_scikit_learn():
    y = np.repeat([0, 1, 2], CLASSES.counts)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=y)
    np.testing.assert_allclose(class_weights(CLASSES.counts), expected)
    np.testing.assert_allclose(loss(WeightedCrossEntropy, CLASSES).weight.numpy(), expected, rtol=1e-6)


def test_effective_number_weights():
    # Cui et al. 2019: E(n) = (1 - b^n) / (1 - b); weights are proportional to 1 / E(n).
    counts, beta = (1000, 10), 0.99
    effective = [(1 - beta**n) / (1 - beta) for n in counts]
    weights = class_weights(counts, "effective", beta)
    assert weights[1] / weights[0] == pytest.approx(effective[0] / effective[1])
    assert sum(n * w for n, w in zip(counts, weights, strict=True)) == pytest.approx(sum(counts))
    assert weights[1] / weights[0] < 100 * 0.2  # milder than inverse frequency


def test_weighted_cross_entropy_against_torch():
    torch.manual_seed(0)
    output, target = torch.randn(8, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])
    weight = torch.tensor([100 / 180, 100 / 90, 100 / 30])
    expected = F.cross_entropy(output, target, weight=weight, reduction="none")
    torch.testing.assert_close(loss(WeightedCrossEntropy, CLASSES)(output, target), expected)


def test_empty_class_keeps_weights_finite():
    assert all(map(math.isfinite, class_weights((5, 0, 3))))


def test_focal_against_hand_computed_numbers():
    # p = (1/2, 1/4, 1/4): (1 - p)^2 * -log p.
    output = torch.tensor([[math.log(2), 0.0, 0.0]] * 2)
    values = loss(Focal, CLASSES, alpha="none")(output, torch.tensor([0, 1]))
    torch.testing.assert_close(values, torch.tensor([0.25 * math.log(2), 0.5625 * math.log(4)]))
    balanced = loss(Focal, CLASSES)(output, torch.tensor([0, 1]))
    torch.testing.assert_close(balanced, values * torch.tensor([100 / 180, 100 / 90]))


def test_focal_without_gamma_is_cross_entropy():
    output, target = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    plain = loss(Focal, CLASSES, gamma=0.0, alpha="none")(output, target)
    torch.testing.assert_close(plain, loss(CrossEntropy, CLASSES)(output, target))


def sigmoid_focal(x, y, alpha, gamma):
    """The formula of torchvision.ops.sigmoid_focal_loss."""
    p = torch.sigmoid(x)
    p_t = p * y + (1 - p) * (1 - y)
    ce = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    return (alpha * y + (1 - alpha) * (1 - y)) * ce * (1 - p_t) ** gamma


def test_focal_of_two_classes_and_of_labels_is_the_sigmoid_focal_loss():
    torch.manual_seed(0)
    x, y = torch.randn(8), torch.tensor([0, 1, 0, 1, 1, 0, 0, 0])
    expected = sigmoid_focal(x, y.float(), 0.25, 2.0)
    two = loss(Focal, PAIR, alpha=0.25)(torch.stack([torch.zeros(8), x], 1), y)
    torch.testing.assert_close(two, expected)
    labels = loss(Focal, LABELS, alpha=0.25)(torch.stack([x, x], 1), torch.stack([y, y], 1).float())
    torch.testing.assert_close(labels, expected)


def test_focal_balances_each_label():
    output, positive = torch.zeros(1, 2), torch.ones(1, 2)
    easy = 0.25 * math.log(2)
    values = loss(Focal, LABELS)(output, positive)
    assert values.item() == pytest.approx(easy * (100 / 50 + 100 / 4) / 2, rel=1e-5)
    negatives = loss(Focal, LABELS)(output, 1 - positive)
    assert negatives.item() == pytest.approx(easy * (100 / 150 + 100 / 196) / 2, rel=1e-5)


def test_bce_and_its_weights():
    output, target = torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(loss(Bce, LABELS)(output, target), torch.full((2,), math.log(2)))
    weighted = loss(WeightedBce, LABELS)
    torch.testing.assert_close(weighted.positive_weight, torch.tensor([3.0, 49.0]))
    expected = torch.tensor([(3 + 1) / 2, (1 + 49) / 2]) * math.log(2)
    torch.testing.assert_close(weighted(output, target), expected)
    assert loss(WeightedBce, LABELS, largest_weight=10).positive_weight.tolist() == [3.0, 10.0]


def test_mse_and_huber():
    output, target = torch.tensor([[0.0], [3.0]]), torch.tensor([0.5, 0.0])
    assert loss(Mse, NUMBER)(output, target).tolist() == [0.25, 9.0]
    assert loss(Huber, NUMBER)(output, target).tolist() == [0.125, 2.5]  # 1 * (3 - 1 / 2)
    assert loss(Huber, NUMBER, delta=2.0)(output, target)[1].item() == 4.0  # 2 * (3 - 2 / 2)


CASES = [
    *((cls, CLASSES) for cls in (CrossEntropy, WeightedCrossEntropy, Focal)),
    *((cls, LABELS) for cls in (Bce, WeightedBce, Focal)),
    *((cls, NUMBER) for cls in (Mse, Huber)),
]


@pytest.mark.parametrize(("cls", "target"), CASES)
@pytest.mark.parametrize("gamma", [0.5, 1.0, 4.0])
def test_finite_in_bfloat16_and_with_extreme_logits(cls, target, gamma):
    module = loss(cls, target, gamma=gamma) if cls is Focal else loss(cls, target)
    output = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e-3]])[:, : target.size].bfloat16().requires_grad_()
    y = {"class": torch.tensor([0, 0]), "labels": torch.tensor([[1.0, 0.0], [1.0, 0.0]]), "number": torch.zeros(2)}
    values = module(output, y[target.kind])
    assert values.shape == (2,)
    assert values.dtype == torch.float32
    assert values.isfinite().all()
    values.sum().backward()
    assert output.grad.isfinite().all()


def test_unsuited_names_the_task():
    regression = Context("regression", (), 100, NUMBER)
    assert Focal.unsuited(regression, Focal.Config()) == (
        "it needs one class per row or several labels per row as target, the task is regression"
    )
    assert Mse.unsuited(regression, Mse.Config()) is None
    assert Mse.unsuited(Context("classification", (), 100, CLASSES), Mse.Config()).endswith("task is classification")
    three = Context("classification", (), 100, CLASSES)
    assert Focal.unsuited(three, Focal.Config(alpha=0.25)) == (
        "alpha: 0.25 is for two classes, there are 3; write balanced or none"
    )
    assert Focal.unsuited(Context("classification", (), 100, PAIR), Focal.Config(alpha=0.25)) is None


def test_remedies_and_defaults():
    assert {cls.name: cls.remedy for cls, _ in CASES} == {
        "cross_entropy": None,
        "weighted_cross_entropy": "weights",
        "focal": "focal",
        "bce": None,
        "weighted_bce": "weights",
        "mse": None,
        "huber": None,
    }
    for kind, default in {"class": "cross_entropy", "labels": "bce", "number": "mse"}.items():
        suited = {cls for cls, target in CASES if target.kind == kind}
        assert max(suited, key=lambda cls: cls.preference).name == default


def train(module, x, y, size):
    torch.manual_seed(0)
    model = torch.nn.Linear(x.shape[1], size)
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    for _ in range(150):
        optimizer.zero_grad()
        module(model(x), y).mean().backward()
        optimizer.step()
    return model(x).detach()


@pytest.mark.parametrize("cls", [WeightedCrossEntropy, Focal])
def test_remedies_raise_the_recall_of_a_rare_class(cls):
    torch.manual_seed(1)
    y = torch.tensor([0] * 190 + [1] * 10)
    x = torch.randn(200, 2) + y[:, None] * 1.5
    target = TargetInfo("class", 2, ("no", "yes"), (190, 10), 200)

    def recall(module):
        return (train(module, x, y, 2).argmax(1)[y == 1] == 1).double().mean().item()

    assert recall(loss(cls, target)) >= recall(loss(CrossEntropy, target)) + 0.2


def test_huber_shrugs_off_an_outlier():
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 50)[:, None]
    y = 2 * x[:, 0]
    y[0] = 60.0
    slope = {}
    for cls in (Mse, Huber):
        output = train(loss(cls, NUMBER), x, y, 1)[:, 0]
        slope[cls] = (output[-1] - output[0]).item() / 2
    assert abs(slope[Huber] - 2) < 0.5 < abs(slope[Mse] - 2)
