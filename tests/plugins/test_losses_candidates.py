"""Which losses and ways of drawing rows a plan tries for a remedy."""

import pytest

from automm.api import Context, TargetInfo
from automm.core.space import ComponentSpace, Fixed
from automm.errors import RecipeError
from automm.plan.candidates import Chooser
from automm.testing.subject import installed

CLASSES = TargetInfo("class", 3, ("1", "2", "3"), (60, 30, 10), 100, {"ordered": True})
LABELS = TargetInfo("labels", 2, ("x", "y"), (25, 2), 100)
NUMBER = TargetInfo("number", 1, rows=100)


def chosen(target, remedies, *named, metric="accuracy", searching=False):
    chooser = Chooser(installed(), Context("some task", (), 100, target, metric=metric), searching)
    return [(c.key, c.sampling, c.remedy) for c in chooser.losses(named, remedies, target.kind, target.imbalance)]


def named(name, **fields):
    return ComponentSpace(name=name, fields={key: Fixed(value=value) for key, value in fields.items()})


def test_ways_of_drawing_rows():
    assert chosen(CLASSES, ["resample"]) == [("cross_entropy+over", "over", "resample")]
    assert chosen(CLASSES, ["none", "resample_sqrt"]) == [
        ("cross_entropy", "none", "none"),
        ("cross_entropy+sqrt", "sqrt", "resample_sqrt"),
    ]
    searched = [sampling for _, sampling, _ in chosen(CLASSES, ["resample"], searching=True)]
    assert searched == ["over", "under", "sqrt"]
    assert chosen(LABELS, ["resample_under"]) == [("bce+under", "under", "resample_under")]


def test_auto_tries_every_remedy_of_classes_and_labels():
    assert [remedy for _, _, remedy in chosen(CLASSES, ["auto"])] == [
        "none", "focal", "logit_adjustment", "weights", "resample",
    ]  # fmt: skip
    assert [key for key, _, _ in chosen(LABELS, ["auto"])] == [
        "bce", "focal", "logit_adjustment", "weighted_bce", "bce+over",
    ]  # fmt: skip
    even = TargetInfo("class", 2, ("a", "b"), (50, 50), 100)
    assert chosen(even, ["auto"]) == [("cross_entropy", "none", "none")]


def test_named_losses_on_drawn_rows():
    assert chosen(CLASSES, ["resample_over"], named("focal")) == [("focal+over", "over", "resample_over")]
    both = chosen(CLASSES, ["none", "resample_sqrt"], named("ldam"))
    assert both == [("ldam", "none", "logit_adjustment"), ("ldam+sqrt", "sqrt", "resample_sqrt")]


def test_losses_for_some_metrics_are_tried_for_these():
    def keys(target, metric):
        return [key for key, _, _ in chosen(target, ["none"], metric=metric, searching=True)]

    assert keys(CLASSES, "quadratic_kappa") == ["cross_entropy", "squared_earth_mover"]
    assert keys(CLASSES, "accuracy") == ["cross_entropy"]
    assert keys(NUMBER, "r2") == ["mse", "huber"]
    assert keys(NUMBER, "mae") == ["mse", "huber", "mae"]
    assert chosen(CLASSES, ["none"], named("squared_earth_mover"))[0][0] == "squared_earth_mover"


def test_quantile_wants_to_be_asked_for():
    assert chosen(NUMBER, ["none"], named("quantile", quantile=0.9))[0][0] == "quantile"
    with pytest.raises(RecipeError, match=r"'quantile' does not fit: no quantile is asked for"):
        chosen(NUMBER, ["none"], named("quantile"))


def test_remedy_without_a_loss():
    with pytest.raises(RecipeError, match=r"no loss with remedy 'weights' fits .*there are: none, resample"):
        chosen(NUMBER, ["weights"])
