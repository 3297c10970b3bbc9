import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from automm_losses import (
    Asymmetric,
    BalancedSoftmax,
    Bce,
    CrossEntropy,
    Focal,
    Huber,
    Ldam,
    LogitAdjustment,
    Mae,
    Mse,
    Quantile,
    SquaredEarthMover,
    WeightedBce,
    WeightedCrossEntropy,
)
from automm_losses.classes import class_weights
from sklearn.metrics import mean_pinball_loss
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


def test_mae_and_quantile_against_scikit_learn():
    output, target = torch.tensor([[0.0], [3.0], [-1.0]]), torch.tensor([0.5, 0.0, -1.0])
    assert loss(Mae, NUMBER)(output, target).tolist() == [0.5, 3.0, 0.0]
    values = loss(Quantile, NUMBER, quantile=0.9)(output, target)
    torch.testing.assert_close(values, torch.tensor([0.45, 0.3, 0.0]))  # 0.9 · 0.5 too low, 0.1 · 3 too high
    expected = mean_pinball_loss(target.numpy(), output[:, 0].numpy(), alpha=0.9)
    assert values.mean().item() == pytest.approx(expected)
    assert loss(Quantile, NUMBER)(output, target).tolist() == [0.25, 1.5, 0.0]  # half the absolute error


def test_quantile_is_what_a_constant_learns():
    y = torch.arange(101.0) / 100
    for quantile in (0.1, 0.5, 0.9):
        costs = [loss(Quantile, NUMBER, quantile=quantile)(torch.full((101, 1), at), y).mean() for at in y.tolist()]
        assert y[int(torch.stack(costs).argmin())].item() == pytest.approx(quantile, abs=0.011)


def test_logit_adjustment_against_hand_computed_numbers():
    # Priors .6, .3, .1 (a little smoothed by half a row); equal logits make the priors the probabilities.
    output = torch.zeros(3, 3)
    values = loss(LogitAdjustment, CLASSES)(output, torch.arange(3))
    torch.testing.assert_close(values, -torch.tensor([60.5, 30.5, 10.5]).div(101.5).log())
    half = loss(LogitAdjustment, CLASSES, tau=0.5)(output, torch.arange(3))
    roots = torch.tensor([60.5, 30.5, 10.5]).sqrt()
    torch.testing.assert_close(half, -(roots / roots.sum()).log())
    torch.testing.assert_close(
        loss(LogitAdjustment, CLASSES, tau=0.0)(output, torch.arange(3)), torch.full((3,), math.log(3))
    )


def test_logit_adjustment_of_labels_is_binary_cross_entropy_at_the_prior():
    values = loss(LogitAdjustment, LABELS)(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    expected = (-math.log(25.5 / 101) - math.log(98.5 / 101)) / 2
    assert values.item() == pytest.approx(expected, rel=1e-6)


def test_logit_adjustment_learns_what_balanced_data_would_teach():
    # One feature, two Gaussians, 19 : 1: with τ = 1 the boundary lies half-way, without it far into the rare class.
    generator = torch.Generator().manual_seed(0)
    y = (torch.arange(4000) % 20 == 0).long()
    x = torch.randn(4000, 1, generator=generator) + 2.0 * y[:, None]
    target = TargetInfo("class", 2, ("no", "yes"), (3800, 200), 4000)
    boundary = {}
    for cls in (CrossEntropy, LogitAdjustment):
        output = train(loss(cls, target), x, y, 2)
        boundary[cls] = x[output.argmax(1) == 1].min().item()
    assert boundary[LogitAdjustment] == pytest.approx(1.0, abs=0.25)
    assert boundary[CrossEntropy] > 1.9  # 1 + log(19) / 2 = 2.47 in the limit


def test_balanced_softmax_by_its_definition():
    torch.manual_seed(0)
    z, y = torch.randn(7, 3), torch.tensor([0, 1, 2, 0, 1, 2, 2])
    weighted = torch.tensor([60.0, 30.0, 10.0]) * z.exp()
    expected = -(weighted[torch.arange(7), y] / weighted.sum(1)).log()
    torch.testing.assert_close(loss(BalancedSoftmax, CLASSES)(z, y), expected)


def test_ldam_margins_and_deferred_weights():
    module = loss(Ldam, CLASSES, margin=2.0, deferred=0.8, beta=0.99)
    expected = [2.0 * (10 / n) ** 0.25 for n in CLASSES.counts]  # Cao et al. 2019: C / n^(1/4), the rarest has most
    torch.testing.assert_close(module.margins, torch.tensor(expected))
    output = torch.zeros(1, 3)
    rare = torch.tensor([2])
    early = -math.log(math.exp(-2) / (math.exp(-2) + 2))
    assert module(output, rare).item() == pytest.approx(early, rel=1e-6)
    module.progress = 0.8
    effective = class_weights(CLASSES.counts, "effective", 0.99)
    assert module(output, rare).item() == pytest.approx(effective[2] * early, rel=1e-6)
    never = loss(Ldam, CLASSES, margin=2.0, deferred=None)
    never.progress = 1.0
    assert never(output, rare).item() == pytest.approx(early, rel=1e-6)


def test_asymmetric_loss_by_its_definition():
    # The formula of Ridnik et al. 2021, with probabilities in the open.
    torch.manual_seed(0)
    z, y = torch.randn(6, 2, dtype=torch.float64), torch.tensor([[0, 1], [1, 0], [0, 0], [1, 1], [0, 1], [0, 0]])
    p = torch.sigmoid(z)
    q = (p - 0.05).clamp(min=0)
    expected = -(y * (1 - p) * p.log() + (1 - y) * q**4 * (1 - q).log()).mean(1)
    values = loss(Asymmetric, LABELS, gamma_positive=1.0)(z, y)
    torch.testing.assert_close(values, expected.float(), rtol=1e-4, atol=1e-7)
    plain = loss(Asymmetric, LABELS, gamma_positive=0.0, gamma_negative=0.0, clip=0.0)(z, y)
    torch.testing.assert_close(plain, loss(Bce, LABELS)(z, y.float()))


def test_bce_smoothing_and_milder_weights():
    smooth = loss(Bce, LABELS, label_smoothing=0.2)(torch.tensor([[2.0, 2.0]]), torch.tensor([[1.0, 0.0]]))
    one, zero = math.log1p(math.exp(-2)), math.log1p(math.exp(2))  # costs of saying "on" when it is on, and off
    assert smooth.item() == pytest.approx((0.9 * one + 0.1 * zero + 0.1 * one + 0.9 * zero) / 2, rel=1e-6)
    root = loss(WeightedBce, LABELS, weighting="sqrt").positive_weight
    torch.testing.assert_close(root, torch.tensor([3.0, 49.0]).sqrt())
    effective = loss(WeightedBce, LABELS, weighting="effective", beta=0.9).positive_weight
    expected = [(1 - 0.9 ** (100 - n)) / (1 - 0.9**n) for n in LABELS.counts]
    torch.testing.assert_close(effective, torch.tensor(expected))


def test_squared_earth_mover_counts_the_distance():
    # P = (1/2, 1/4, 1/4), cumulative (1/2, 3/4). Truth 0 or 1: (1/2)² + (1/4)²; truth 2: (1/2)² + (3/4)².
    output = torch.tensor([[math.log(2), 0.0, 0.0]] * 3)
    values = loss(SquaredEarthMover, CLASSES, cross_entropy=0.0)(output, torch.arange(3))
    torch.testing.assert_close(values, torch.tensor([0.3125, 0.3125, 0.8125]))
    near, far = torch.tensor([[0.0, 9.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.0, 9.0]])
    four = TargetInfo("class", 4, tuple("abcd"), (9, 9, 9, 9), 36, {"ordered": True})
    cost = loss(SquaredEarthMover, four)
    zero = torch.tensor([0])
    assert cost(far, zero).item() > 2.9 * loss(SquaredEarthMover, four, cross_entropy=0.0)(near, zero).item()
    mixed = loss(SquaredEarthMover, CLASSES, cross_entropy=0.5)(output, torch.arange(3))
    torch.testing.assert_close(mixed, values + 0.5 * loss(CrossEntropy, CLASSES)(output, torch.arange(3)))


def test_ordinal_loss_needs_an_order_and_quantile_a_quantile():
    named = TargetInfo("class", 3, ("a", "b", "c"), (60, 30, 10), 100, {"ordered": False})
    ordered = TargetInfo("class", 3, ("1", "2", "3"), (60, 30, 10), 100, {"ordered": True})
    config = SquaredEarthMover.Config()
    reason = SquaredEarthMover.unsuited(Context("classification", (), 100, named), config)
    assert reason == "the classes have no order (they are no numbers, and task.order does not name it)"
    assert SquaredEarthMover.unsuited(Context("classification", (), 100, ordered), config) is None
    assert SquaredEarthMover.unsuited(Context("classification", (), 100, PAIR), config) == "two classes need no order"
    context = Context("regression", (), 100, NUMBER)
    assert Quantile.unsuited(context, Quantile.Config()).startswith("no quantile is asked for")
    assert Quantile.unsuited(context, Quantile.Config(quantile=0.9)) is None


CASES = [
    *(
        (cls, CLASSES)
        for cls in (
            CrossEntropy,
            WeightedCrossEntropy,
            Focal,
            LogitAdjustment,
            BalancedSoftmax,
            Ldam,
            SquaredEarthMover,
        )
    ),
    *((cls, LABELS) for cls in (Bce, WeightedBce, Focal, Asymmetric, LogitAdjustment)),
    *((cls, NUMBER) for cls in (Mse, Huber, Mae, Quantile)),
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
        "logit_adjustment": "logit_adjustment",
        "balanced_softmax": "logit_adjustment",
        "ldam": "logit_adjustment",
        "squared_earth_mover": None,
        "bce": None,
        "weighted_bce": "weights",
        "asymmetric": "focal",
        "mse": None,
        "huber": None,
        "mae": None,
        "quantile": None,
    }
    assert LogitAdjustment.preference > max(BalancedSoftmax.preference, Ldam.preference)  # what the remedy stands for
    assert Focal.preference > Asymmetric.preference
    for kind, default in {"class": "cross_entropy", "labels": "bce", "number": "mse"}.items():
        suited = {cls for cls, target in CASES if target.kind == kind and cls.remedy is None}
        assert max(suited, key=lambda cls: cls.preference).name == default


def train(module, x, y, size):
    torch.manual_seed(0)
    model = torch.nn.Linear(x.shape[1], size)
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    for step in range(150):
        module.progress = step / 150
        optimizer.zero_grad()
        module(model(x), y).mean().backward()
        optimizer.step()
    return model(x).detach()


@pytest.mark.parametrize("cls", [WeightedCrossEntropy, Focal, LogitAdjustment, BalancedSoftmax, Ldam])
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
