"""How probabilities are read as classes and labels, and how that is tuned."""

import json

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from automm_tasks import Classification, Multilabel, decisions, scores
from automm_tasks.decoders import Classes, Labels
from pydantic import ValidationError

from automm.api import DataError


def task(cls, cells, **config):
    made = cls(cls.Config(**config))
    made.fit(cells if isinstance(cells, dict) else {"y": cells})
    return made


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return (e / e.sum(1, keepdims=True)).astype(np.float32)


def rare_pair(rows, seed):
    """Calibrated probabilities of two classes, the second in one of twelve rows."""
    random = np.random.default_rng(seed)
    y = (random.random(rows) < 1 / 12).astype(np.int64)
    x = random.normal(1.2 * y, 1)
    logit = 1.2 * x - 0.72 - np.log(11)
    return softmax(np.stack([np.zeros(rows), logit], 1)), y


def ordered_five(rows, seed):
    """Weakly informed probabilities of five ordered classes, as a cross-entropy gives them."""
    random = np.random.default_rng(seed)
    share = np.array([0.35, 0.1, 0.1, 0.1, 0.35])
    y = random.choice(5, rows, p=share)
    seen = y + random.normal(0, 2.0, rows)
    return softmax(-((seen[:, None] - np.arange(5)) ** 2) / 8.0 + np.log(share)), y


EXPECTED = {
    "accuracy": sk.accuracy_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
    "macro_f1": lambda y, p: sk.f1_score(y, p, average="macro"),
    "micro_f1": lambda y, p: sk.f1_score(y, p, average="micro"),
    "quadratic_kappa": lambda y, p: sk.cohen_kappa_score(y, p, weights="quadratic"),
    "mcc": sk.matthews_corrcoef,
}


@pytest.mark.parametrize("metric", EXPECTED)
def test_scores_are_those_of_scikit_learn_for_many_decisions_at_once(metric):
    random = np.random.default_rng(0)
    y, said = random.integers(0, 4, 60), random.integers(0, 4, (5, 60))
    found = scores.CLASS_SCORES[metric](scores.confusion(said, y, 4))
    np.testing.assert_allclose(found, [EXPECTED[metric](y, one) for one in said])


def test_label_scores_and_figures_by_class_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    on, said = random.random((50, 3)) < 0.3, random.random((50, 3)) < 0.4
    said[:, 2] = False
    for metric in ("micro_f1", "macro_f1"):
        expected = sk.f1_score(on, said, average=metric[:5], zero_division=0)
        assert scores.label_score(metric, said, on) == pytest.approx(expected)
    assert scores.label_score("accuracy", said, on) == sk.accuracy_score(on, said)
    found = scores.by_class(("a", "b", "c"), said, on)
    precision, recall, f1, rows = sk.precision_recall_fscore_support(on, said, zero_division=0)
    for at, figures in enumerate(found.values()):
        assert figures["rows"] == rows[at]
        assert [figures["precision"], figures["recall"], figures["f1"]] == pytest.approx(
            [precision[at], recall[at], f1[at]], abs=1e-6
        )


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "mcc"])
def test_best_threshold_is_the_best_of_all_thresholds(metric):
    p, y = rare_pair(300, 0)
    score = decisions.class_score(metric)
    (tune,) = decisions.class_tuners(metric, 2)
    weights = tune(p, y)["weights"]
    best = max(score(p, y, {"weights": [t, 1 - t]}) for t in np.linspace(0.005, 0.995, 400))
    assert score(p, y, {"weights": weights}) >= best - 1e-12


@pytest.mark.parametrize(("metric", "gain"), [("macro_f1", 0.08), ("balanced_accuracy", 0.15), ("mcc", 0.05)])
def test_threshold_of_a_rare_class_helps_on_new_rows(metric, gain):
    made = task(Classification, ["no"] * 11 + ["yes"])
    p, y = rare_pair(1500, 1)
    decision = made.decide({"probabilities": p}, y, metric, 0)
    assert decision["metric"] == metric
    assert decision["gain"] > 0
    assert list(decision["weights"]) == ["no", "yes"]
    made.state["decision"] = json.loads(json.dumps(decision))
    fresh, truth = rare_pair(4000, 2)
    plain = task(Classification, ["no"] * 11 + ["yes"])
    answers = {"probabilities": torch.from_numpy(fresh)}
    after = made.metrics()[metric].compute(answers, torch.from_numpy(truth))
    before = plain.metrics()[metric].compute(answers, torch.from_numpy(truth))
    assert after > before + gain
    said = made.decoder().decode({"probabilities": fresh})
    coded = np.array([said["prediction"][row] == "yes" for row in range(4000)]).astype(int)
    assert after == pytest.approx(EXPECTED[metric](truth, coded))  # metrics and package decide alike
    assert said["probability_yes"] == fresh[:, 1].tolist()  # probabilities stay
    for name in ("roc_auc", "average_precision", "log_loss"):
        assert made.metrics()[name].compute(answers, torch.from_numpy(truth)) == plain.metrics()[name].compute(
            answers, torch.from_numpy(truth)
        )


def test_cuts_of_the_expected_class_raise_quadratic_kappa():
    made = task(Classification, [0, 1, 2, 3, 4] * 3)
    assert made.target().extra == {"ordered": True}
    p, y = ordered_five(1200, 0)
    decision = made.decide({"probabilities": p}, y, "quadratic_kappa", 0)
    assert decision["cuts"] == sorted(decision["cuts"])
    assert len(decision["cuts"]) == 4
    made.state["decision"] = decision
    fresh, truth = ordered_five(3000, 1)
    said = [int(name) for name in made.decoder().decode({"probabilities": fresh})["prediction"]]
    found = made.metrics()["quadratic_kappa"].compute(
        {"probabilities": torch.from_numpy(fresh)}, torch.from_numpy(truth)
    )
    assert found == pytest.approx(EXPECTED["quadratic_kappa"](truth, said))
    assert found > EXPECTED["quadratic_kappa"](truth, fresh.argmax(1)) + 0.02


def test_many_classes_are_tempered_by_their_frequency():
    random = np.random.default_rng(0)
    counts = np.array([400, 60, 30])

    def rows(n):
        y = random.choice(3, n, p=counts / counts.sum())
        z = random.normal(0, 1, (n, 3)) + 1.3 * np.eye(3)[y]
        return softmax(1.3 * z + np.log(counts)), y  # calibrated: the priors are in the probabilities

    p, y = rows(1500)
    weights = decisions.temper(p, y, "balanced_accuracy")
    assert weights[0] < weights[1] < weights[2]
    assert sum(weights) == pytest.approx(1)
    made = task(Classification, ["a"] * 400 + ["b"] * 60 + ["c"] * 30)
    made.state["decision"] = made.decide({"probabilities": p}, y, "balanced_accuracy", 0)
    fresh, truth = rows(3000)
    plain = EXPECTED["balanced_accuracy"](truth, fresh.argmax(1))
    answers = {"probabilities": torch.from_numpy(fresh)}
    assert made.metrics()["balanced_accuracy"].compute(answers, torch.from_numpy(truth)) > plain + 0.1


def test_nothing_is_decided_where_it_does_not_pay():
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 600)
    p = softmax(np.stack([np.zeros(600), 3.0 * (random.normal(2 * y - 1, 1))], 1))
    made = task(Classification, ["a", "b"])
    answers = {"probabilities": p}
    assert made.decide(answers, y, "roc_auc", 0) == {}
    assert made.decide(answers, y, "log_loss", 0) == {}
    rare, truth = rare_pair(600, 0)
    few = {"probabilities": rare[:20]}
    assert made.decide(few, truth[:20], "macro_f1", 0) == {}
    off = task(Classification, ["a", "b"], decision="none")
    assert off.decide({"probabilities": rare}, truth, "macro_f1", 0) == {}
    other = task(Classification, ["a", "b"], decision="macro_f1")
    assert other.decide({"probabilities": rare}, truth, "roc_auc", 0)["metric"] == "macro_f1"


def test_noise_is_rarely_taken_for_a_gain():
    made, kept = task(Classification, ["a", "b"]), 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        y = random.integers(0, 2, 200)
        x = random.normal(2.0 * y - 1, 1)
        p = softmax(np.stack([np.zeros(200), 2 * x], 1))  # perfectly calibrated: 0.5 is right
        kept += bool(made.decide({"probabilities": p}, y, "accuracy", 0))
    assert kept <= 3


def labels_rows(rows, seed):
    """Calibrated probabilities of a common, a rare and a very rare label."""
    random = np.random.default_rng(seed)
    share = np.array([0.4, 0.1, 0.04])
    y = (random.random((rows, 3)) < share).astype(np.float32)
    x = random.normal(1.5 * y, 1)
    logit = 1.5 * x - 1.125 + np.log(share / (1 - share))
    return (1 / (1 + np.exp(-logit))).astype(np.float32), y


@pytest.mark.parametrize(("metric", "gain"), [("macro_f1", 0.06), ("micro_f1", 0.02)])
def test_thresholds_of_labels(metric, gain):
    cells = {name: [0, 1] for name in ("common", "rare", "odd")}
    made = task(Multilabel, cells)
    p, y = labels_rows(1500, 0)
    decision = made.decide({"probabilities": p}, y, metric, 0)
    assert set(decision) == {"metric", "gain", "thresholds"}
    made.state["decision"] = decision
    fresh, truth = labels_rows(4000, 1)
    found = made.metrics()[metric].compute({"probabilities": torch.from_numpy(fresh)}, torch.from_numpy(truth))
    plain = sk.f1_score(truth, fresh >= 0.5, average=metric[:5])
    assert found > plain + gain
    said = made.decoder().decode({"probabilities": fresh})["prediction"]
    coded = [[name in row for name in cells] for row in said]
    assert found == pytest.approx(sk.f1_score(truth, np.array(coded), average=metric[:5]))


def test_exact_match_is_tuned_over_labels_together():
    p, y = labels_rows(800, 0)

    def score(p, y, reading):
        return scores.label_score("accuracy", decisions.labels(p, reading["thresholds"]), y > 0.5)

    common, each = decisions.label_tuners("accuracy", (0.5,) * 3, (True,) * 3)
    usual = score(p, y, {"thresholds": [0.5] * 3})
    assert usual <= score(p, y, common(p, y)) <= score(p, y, each(p, y))


def test_thresholds_that_the_recipe_sets_stay():
    p, y = labels_rows(1500, 0)
    cells = {name: [0, 1] for name in ("common", "rare", "odd")}
    made = task(Multilabel, cells, thresholds={"rare": 0.7})
    decision = made.decide({"probabilities": p}, y, "macro_f1", 0)
    assert decision["thresholds"]["rare"] == 0.7
    assert decision["thresholds"]["odd"] < 0.4
    fixed = task(Multilabel, cells, threshold=0.5)
    assert fixed.decide({"probabilities": p}, y, "macro_f1", 0) == {}
    assert made.decide({"probabilities": p}, y, "average_precision", 0) == {}


def test_figures_by_class_of_both_tasks():
    p, y = rare_pair(400, 0)
    found = task(Classification, ["no", "yes"]).by_class({"probabilities": p}, y)
    assert found["yes"]["rows"] == int(y.sum())
    assert found["yes"]["recall"] == pytest.approx(sk.recall_score(y, p.argmax(1)), abs=1e-6)
    several, on = labels_rows(400, 0)
    by_label = task(Multilabel, {name: [0, 1] for name in "abc"}).by_class({"probabilities": several}, on)
    assert by_label["b"]["precision"] == pytest.approx(sk.precision_score(on[:, 1], several[:, 1] >= 0.5), abs=1e-6)


def test_order_of_the_classes():
    made = task(Classification, ["good", "poor", "fair"], order=("poor", "fair", "good", "superb"))
    assert made.target().names == ("poor", "fair", "good")
    assert made.target().extra == {"ordered": True}
    assert task(Classification, ["a", "b", "c"]).target().extra == {"ordered": False}
    with pytest.raises(DataError, match=r"task\.order: the class 'poor' of column 'y' is not in it"):
        task(Classification, ["good", "poor"], order=("good",))
    with pytest.raises(DataError, match=r"task\.order: it names a class twice"):
        task(Classification, ["good", "poor"], order=("good", "poor", "good"))
    with pytest.raises(DataError, match="leave one of them out"):
        task(Classification, ["good", "poor"], order=("good", "poor"), positive="good")


def test_decoders_weigh_cut_and_check_sizes():
    p = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]], np.float32)
    names = ("low", "mid", "high")

    def read(**config):
        return Classes(Classes.Config(names=names, **config)).decode({"probabilities": p})["prediction"]

    assert read() == ["low", "high"]
    assert read(weights=(0.1, 0.6, 0.3)) == ["mid", "high"]
    assert read(cuts=(0.4, 1.5)) == ["mid", "mid"]  # expected classes 0.5 and 1.4
    for wrong in ({"weights": (1.0,)}, {"cuts": (1.0,)}, {"cuts": (2.0, 1.0)}):
        with pytest.raises(ValidationError):
            Classes.Config(names=names, **wrong)
    with pytest.raises(ValidationError):
        Labels.Config(names=names, thresholds=(0.5,))
