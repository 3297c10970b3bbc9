import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from automm_tasks import Classification, Multilabel, Regression
from automm_tasks.decoders import Classes, Labels, Number

from automm.api import BadCells, ColumnProfile, DataError, Features
from automm.runtime import ops


def task(cls, cells, **config):
    made = cls(cls.Config(**config))
    made.fit(cells if isinstance(cells, dict) else {"y": cells})
    return made


# Classification: coding


def test_classes_are_text_in_order_with_counts():
    made = task(Classification, ["red", None, "blue", " red ", "na", "green"])
    target = made.target()
    assert target.names == ("blue", "green", "red")
    assert target.counts == (1, 1, 2)
    assert (target.kind, target.size, target.rows) == ("class", 3, 4)
    assert made.encode({"y": ["green", "red", "blue"]}).tolist() == [1, 2, 0]
    assert made.encode({"y": ["red"]}).dtype == np.int64


def test_numeric_classes_are_ordered_as_numbers_and_spelling_does_not_matter():
    made = task(Classification, ["10", 2, 9.0, "2.0", "9"])
    assert made.target().names == ("2", "9", "10")
    assert made.encode({"y": [10.0, "10", 2]}).tolist() == [2, 2, 0]


def test_truth_values_of_csv_and_parquet_are_the_same():
    made = task(Classification, ["True", "False", "True"])
    assert made.encode({"y": [True, False, "TRUE", "true"]}).tolist() == [1, 0, 1, 1]


def test_positive_is_the_second_class_unless_named():
    assert task(Classification, ["bad", "good"]).target().names == ("bad", "good")
    assert task(Classification, ["bad", "good"], positive="bad").target().names == ("good", "bad")
    with pytest.raises(DataError, match=r"task\.positive: 'ugly' must be one of two classes.*bad, good"):
        task(Classification, ["bad", "good"], positive="ugly")


@pytest.mark.parametrize(
    ("cls", "cells", "message"),
    [
        (Classification, [None, "", "nan"], "target column 'y': all 3 training cells are empty"),
        (Classification, ["a", "a", None], "target column 'y' holds one class in all training rows: 'a'"),
        (Regression, [None, None], "target column 'y': all 2 training cells are empty"),
        (Regression, ["cat", "dog"], "target column 'y' holds no numbers, for example 'cat'; use task: classification"),
        (Regression, [3, 3.0, "3"], "target column 'y' holds one number in all training rows: 3"),
        (Multilabel, [None, ""], "target column 'y': all 2 training cells are empty"),
        (Multilabel, ["a", "b", "a"], r"no cell holds several labels; name the separator \(target: \{column: y"),
        (Multilabel, {"p": [0, 1], "q": ["0", "maybe"]}, "target column 'q': 'maybe' is not 0 or 1"),
        (Multilabel, {"p": [1, 1], "q": [0, 0]}, "target p, q: no label is on in some training rows and off in others"),
    ],
)
def test_unusable_targets(cls, cells, message):
    with pytest.raises(DataError, match=message):
        task(cls, cells)


def test_log1p_of_negatives_is_refused():
    with pytest.raises(DataError, match="log1p needs numbers from 0 up; column 'y' holds -2"):
        task(Regression, [-2, 5], transform="log1p")


def test_single_column_tasks_refuse_several():
    with pytest.raises(DataError, match=r"classification takes one column, got 2 \(a, b\)"):
        task(Classification, {"a": ["x", "y"], "b": ["x", "y"]})


def test_bad_rows_are_named():
    with pytest.raises(BadCells) as caught:
        task(Classification, ["a", "b"]).encode({"y": ["a", None, "c", "b"]})
    assert caught.value.reasons == {
        1: "target 'y' is empty (none, nan, n/a and the like count as empty)",
        2: "target 'y': the class 'c' is not among the training rows' classes",
    }
    with pytest.raises(BadCells) as caught:
        task(Regression, [1, 2]).encode({"y": ["4", "n/a", "four"]})
    assert caught.value.reasons == {
        1: "target 'y' is empty (none, nan, n/a and the like count as empty)",
        2: "target 'y': 'four' is not a number",
    }
    with pytest.raises(BadCells) as caught:
        task(Multilabel, ["a|b", "b"]).encode({"y": ["a", "a|z", ""]})
    assert caught.value.reasons == {
        1: "target 'y': the label 'z' is not among the training rows' labels",
        2: "target 'y' is empty (none, nan, n/a and the like count as empty)",
    }
    with pytest.raises(BadCells) as caught:
        task(Multilabel, {"p": [0, 1], "q": [1, 0]}).encode({"p": [0, None], "q": ["x", 1]})
    assert caught.value.reasons == {
        0: "target 'q': 'x' is not 0 or 1",
        1: "target 'p' is empty (none, nan, n/a and the like count as empty)",
    }


# Multilabel: coding


def test_labels_from_columns():
    made = task(Multilabel, {"comedy": ["0", "1", "1"], "drama": [True, False, False]})
    assert made.target().names == ("comedy", "drama")
    assert made.target().counts == (2, 1)
    assert made.encode({"drama": ["yes", 0], "comedy": [0, 1]}).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("separator", [None, "|"])
def test_labels_from_text(separator):
    made = task(Multilabel, ["jazz | rock", "rock", "pop, soft|jazz", None], separator=separator)
    assert made.target().names == ("jazz", "pop, soft", "rock")
    assert made.target().counts == (2, 1, 2)
    assert made.target().rows == 3
    assert made.encode({"y": ["rock|rock", "jazz|rock"]}).tolist() == [[0, 0, 1], [1, 0, 1]]


def test_labels_from_lists_and_json():
    made = task(Multilabel, [["a", "b"], [], '["b"]'])
    assert made.target().counts == (1, 2)
    assert made.encode({"y": [[], ["a"], '["a", "b"]']}).tolist() == [[0, 0], [1, 0], [1, 1]]


def test_empty_cells_can_mean_no_labels():
    made = task(Multilabel, ["a|b", "", None], empty="no_labels")
    assert made.target().rows == 3
    assert made.encode({"y": ["", "a"]}).tolist() == [[0, 0], [1, 0]]


def test_thresholds_by_label():
    made = task(Multilabel, ["a|b", "b", "c"], threshold=0.4, thresholds={"b": 0.9})
    assert made.decoder().config.thresholds == (0.4, 0.9, 0.4)
    with pytest.raises(DataError, match=r"task\.thresholds: 'd' is not a label \(there are: a, b\)"):
        task(Multilabel, ["a|b", "b"], thresholds={"d": 0.5})


# Regression: coding


def test_standardised_target_and_its_inverse():
    made = task(Regression, ["$1,000", 2000, "3000", None])
    target = torch.from_numpy(made.encode({"y": [1000, "2000"]}))
    assert target.dtype == torch.float32
    seen = made.model_target(target)
    torch.testing.assert_close(seen, torch.tensor([-1000 / math.sqrt(2e6 / 3), 0.0]))
    torch.testing.assert_close(made.answer(seen[:, None])["number"], target)


def test_heavily_skewed_targets_are_learned_as_logarithms():
    rng = np.random.default_rng(0)
    prices = np.exp(rng.normal(8, 1.5, 500))
    made = task(Regression, prices.tolist())
    assert made.state["log"]
    target = torch.from_numpy(made.encode({"y": prices.tolist()}))
    seen = made.model_target(target)
    assert abs(seen.mean()) < 1e-4
    assert abs(((seen - seen.mean()) ** 3).mean()) < 0.5  # no skew is left
    torch.testing.assert_close(made.answer(seen[:, None])["number"], target, rtol=1e-4, atol=1e-2)
    far = made.answer(torch.tensor([[1e6], [-1e6]]))["number"]
    assert far.tolist() == [pytest.approx(math.e * prices.max(), rel=1e-2), 0.0]
    with pytest.raises(BadCells, match="'-1' is negative"):
        made.encode({"y": ["-1"]})


def test_other_targets_are_left_alone():
    rng = np.random.default_rng(0)
    assert not task(Regression, rng.normal(50, 5, 300).tolist()).state["log"]
    assert not task(Regression, (np.exp(rng.normal(8, 1.5, 300)) - 5000).tolist()).state["log"]
    assert not task(Regression, np.exp(rng.normal(8, 1.5, 300)).tolist(), transform="none").state["log"]


# Inference of the task


def column(**facts):
    return ColumnProfile(**{"name": "y", "storage": "string", "rows": 1000, **facts})


WORDS = {"distinct": 4, "top": (("spring", 300), ("summer", 300), ("autumn", 200), ("winter", 200))}
NUMBERS = {"number_share": 1.0}
GENRES = ["Action", "Action,Drama", "Drama", "Drama,Comedy", "Comedy,Action", "Comedy", "Sci-Fi,Action", "Drama,Sci-Fi"]
PLACES = ["Paris, France", "Lyon, France", "Rome, Italy", "Milan, Italy", "Nice, France", "Turin, Italy", "Bari, Italy"]


@pytest.mark.parametrize(
    ("columns", "winner", "reason"),
    [
        ([column(**WORDS)], "classification", "text with 4 distinct values in 1000 rows"),
        ([column(storage="boolean", distinct=2, boolean_share=1.0)], "classification", "truth values"),
        ([column(distinct=2, boolean_share=1.0, integer_share=1.0, **NUMBERS)], "classification", "truth values"),
        ([column(distinct=5, integer_share=1.0, **NUMBERS)], "classification", "whole numbers with 5 distinct values"),
        ([column(distinct=2, integer_share=1.0, **NUMBERS)], "classification", "two distinct numbers"),
        ([column(distinct=800, integer_share=0.1, **NUMBERS)], "regression", "numbers with 800 distinct values"),
        ([column(distinct=90, integer_share=1.0, **NUMBERS)], "regression", "whole numbers with 90 distinct values"),
        ([column(distinct=9, integer_share=0.5, **NUMBERS)], "regression", "numbers with 9 distinct values"),
        ([column(distinct=2, boolean_share=1.0), column(name="z", distinct=2, boolean_share=1.0)], "multilabel", "0/1"),
        ([column(distinct=300, top=tuple((g, 9) for g in GENRES))], "multilabel", "separated by ','"),
        ([column(distinct=7, top=tuple((p, 9) for p in PLACES))], "classification", "text with 7"),
        ([column(storage="list", distinct=90)], "multilabel", "lists"),
        ([column(distinct=980)], None, ""),
        ([column(nulls=1000)], None, ""),
    ],
)
def test_claims(columns, winner, reason):
    claims = {cls.name: cls.claim(columns) for cls in (Classification, Multilabel, Regression)}
    found = {name: claim for name, claim in claims.items() if claim}
    best = max(found, key=lambda name: found[name].confidence) if found else None
    assert best == winner
    if winner:
        assert reason in found[winner].reason


# Metrics against scikit-learn


def probabilities(rows, classes, seed=0):
    p = np.random.default_rng(seed).dirichlet(np.ones(classes), rows).astype(np.float32)
    return p / p.sum(1, keepdims=True)


def compute(made, name, answer, target):
    answers = {next(iter(made.answer(torch.zeros(1, made.target().size)))): torch.as_tensor(answer)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return made.metrics()[name].compute(answers, torch.as_tensor(target))


@pytest.mark.parametrize("classes", [2, 4])
def test_classification_metrics(classes):
    made = task(Classification, [str(i) for i in range(classes)])
    p = probabilities(200, classes)
    y = np.random.default_rng(1).integers(0, classes, 200)
    best = p.argmax(1)
    score = p[:, 1] if classes == 2 else p
    expected = {
        "accuracy": sk.accuracy_score(y, best),
        "balanced_accuracy": sk.balanced_accuracy_score(y, best),
        "macro_f1": sk.f1_score(y, best, average="macro"),
        "micro_f1": sk.f1_score(y, best, average="micro"),
        "roc_auc": sk.roc_auc_score(y, score, multi_class="ovr"),
        "average_precision": sk.average_precision_score(y, score),
        "log_loss": sk.log_loss(y, p),
        "quadratic_kappa": sk.cohen_kappa_score(y, best, weights="quadratic"),
        "mcc": sk.matthews_corrcoef(y, best),
    }
    assert list(expected) == list(made.metrics()) == list(Classification.metric_names())
    for name, value in expected.items():
        assert compute(made, name, p, y) == pytest.approx(value, rel=1e-5), name


def test_classification_metrics_where_the_rows_lack_a_class():
    made = task(Classification, ["a", "b", "c", "d"])
    p = probabilities(60, 4)
    y = np.random.default_rng(1).integers(0, 3, 60)
    best = p.argmax(1)
    one_against_rest = [sk.roc_auc_score(y == c, p[:, c]) for c in range(3)]
    precision = [sk.average_precision_score(y == c, p[:, c]) for c in range(3)]
    assert compute(made, "roc_auc", p, y) == pytest.approx(np.mean(one_against_rest))
    assert compute(made, "average_precision", p, y) == pytest.approx(np.mean(precision))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of predicted classes that are absent
        assert compute(made, "balanced_accuracy", p, y) == pytest.approx(sk.balanced_accuracy_score(y, best))
        assert compute(made, "macro_f1", p, y) == pytest.approx(sk.f1_score(y, best, average="macro"))
    kappa = sk.cohen_kappa_score(y, best, weights="quadratic", labels=range(4))
    assert compute(made, "quadratic_kappa", p, y) == pytest.approx(kappa, rel=1e-5)


def test_classification_metrics_of_one_class_of_rows():
    made = task(Classification, ["a", "b"])
    p, y = probabilities(5, 2), np.zeros(5, int)
    assert math.isnan(compute(made, "roc_auc", p, y))
    assert math.isnan(compute(made, "average_precision", p, y))
    assert compute(made, "mcc", p, y) == 0.0
    assert compute(made, "log_loss", np.array([[0.0, 1.0]], np.float32), y[:1]) == pytest.approx(15.94, abs=0.01)


def test_answers_that_are_not_finite_give_nan():
    made = task(Classification, ["a", "b"])
    assert math.isnan(compute(made, "accuracy", np.array([[np.nan, np.nan], [0.5, 0.5]]), np.array([0, 1])))
    assert math.isnan(compute(task(Regression, [1, 2]), "rmse", np.array([np.inf]), np.array([1.0])))


def test_multilabel_metrics():
    made = task(Multilabel, {name: [0, 1] for name in "abcd"}, threshold=0.5, thresholds={"b": 0.3})
    rng = np.random.default_rng(0)
    p, y = rng.random((100, 4), np.float32), rng.integers(0, 2, (100, 4))
    y[:, 3] = 0  # a label that the rows lack
    on = p >= np.array([0.5, 0.3, 0.5, 0.5], np.float32)
    expected = {
        "average_precision": sk.average_precision_score(y[:, :3], p[:, :3]),
        "micro_f1": sk.f1_score(y, on, average="micro"),
        "macro_f1": sk.f1_score(y, on, average="macro"),
        "roc_auc": sk.roc_auc_score(y[:, :3], p[:, :3]),
        "accuracy": sk.accuracy_score(y, on),
    }
    assert list(expected) == list(made.metrics()) == list(Multilabel.metric_names())
    for name, value in expected.items():
        assert compute(made, name, p, y.astype(np.float32)) == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize("offset", [3.0, 1e6])
def test_regression_metrics(offset):
    made = task(Regression, [1, 2])
    rng = np.random.default_rng(0)
    y = (rng.normal(size=300) + offset).astype(np.float32)
    p = (y + rng.normal(size=300)).astype(np.float32)
    expected = {
        "r2": sk.r2_score(y.astype(float), p.astype(float)),
        "rmse": sk.root_mean_squared_error(y.astype(float), p.astype(float)),
        "mae": sk.mean_absolute_error(y.astype(float), p.astype(float)),
        "mape": sk.mean_absolute_percentage_error(y.astype(float), p.astype(float)),
    }
    assert list(expected) == list(made.metrics()) == list(Regression.metric_names())
    for name, value in expected.items():
        assert compute(made, name, p, y) == pytest.approx(value, rel=1e-4), name
    assert math.isnan(compute(made, "r2", p[:1], y[:1]))


def test_directions():
    lower = {"log_loss", "rmse", "mae", "mape"}
    for cls in (Classification, Multilabel, Regression):
        for name, maximize in cls.metric_names().items():
            assert maximize == (name not in lower)


# Heads, answers, decoders


def test_head_starts_at_the_frequencies_of_the_training_rows():
    made = task(Classification, ["a"] * 9 + ["b"])
    head = made.head(6).eval()
    output = head(Features.vector(torch.zeros(2, 6)))
    torch.testing.assert_close(made.answer(output)["probabilities"], torch.tensor([[0.9, 0.1]] * 2))
    labels = task(Multilabel, {"p": [0, 0, 0, 1], "q": [0, 1, 1, 0]})
    rates = labels.answer(labels.head(6).eval()(Features.vector(torch.zeros(1, 6))))["probabilities"]
    torch.testing.assert_close(rates, torch.tensor([[0.3, 0.5]]))


def test_head_ignores_masked_tokens_and_has_a_hidden_layer_on_demand():
    made = task(Classification, ["a", "b", "c"], hidden=16)
    head = made.head(4).eval()
    tokens, mask = torch.randn(2, 3, 4), torch.tensor([[True, True, False], [False, False, False]])
    output = head(Features(tokens, mask))
    assert output.shape == (2, 3)
    assert output.isfinite().all()
    tokens[~mask] += 7.0
    torch.testing.assert_close(head(Features(tokens, mask)), output)
    assert sum(isinstance(m, torch.nn.Linear) for m in head.modules()) == 2


def test_decoders_are_the_registered_operations():
    for op, cls in {"task.classes": Classes, "task.labels": Labels, "task.number": Number}.items():
        assert ops.find(op, 1, "automm", "0.1.0") is cls


def test_decode_classes():
    decoder = task(Classification, ["no", "yes"]).decoder()
    result = decoder.decode({"probabilities": np.array([[0.75, 0.25], [0.5, 0.5], [0.0, 1.0]], np.float32)})
    assert result == {
        "prediction": ["no", "no", "yes"],
        "probability_no": [0.75, 0.5, 0.0],
        "probability_yes": [0.25, 0.5, 1.0],
    }
    assert list(decoder.columns().items()) == [
        ("prediction", "string"),
        ("probability_no", "number"),
        ("probability_yes", "number"),
    ]


def test_decode_labels():
    decoder = Labels(Labels.Config(names=("a", "b"), thresholds=(0.5, 0.25)))
    p = np.array([[0.5, 0.0], [0.25, 0.0], [1.0, 0.25], [0.0, 0.5]], np.float32)
    result = decoder.decode({"probabilities": p})
    assert result["prediction"] == [["a"], [], ["a", "b"], ["b"]]
    assert result["probability_b"] == [0.0, 0.0, 0.25, 0.5]
    assert list(decoder.columns()) == list(result)
    assert decoder.decode({"probabilities": p[:0]}) == {"prediction": [], "probability_a": [], "probability_b": []}


def test_decode_labels_agrees_with_the_metric_on_the_threshold():
    made = task(Multilabel, {"a": [0, 1], "b": [1, 0]}, threshold=0.3)
    p = np.array([[0.3, 0.1]], np.float32)  # 0.3 is no float32
    assert made.decoder().decode({"probabilities": p})["prediction"] == [["a"]]
    assert compute(made, "accuracy", p, np.array([[1.0, 0.0]])) == 1.0


def test_decode_number():
    decoder = task(Regression, [1, 2]).decoder()
    assert decoder.decode({"number": np.array([1.5, 2.0], np.float32)}) == {"prediction": [1.5, 2.0]}
    assert decoder.columns() == {"prediction": "number"}


def test_many_rows_are_decoded():
    p = np.random.default_rng(0).random((100_000, 10), np.float32)
    names = tuple("abcdefghij")
    classes = Classes(Classes.Config(names=names)).decode({"probabilities": p})["prediction"]
    labels = Labels(Labels.Config(names=names, thresholds=(0.5,) * 10)).decode({"probabilities": p})["prediction"]
    for row in (0, 99_999):
        assert classes[row] == names[p[row].argmax()]
        assert list(labels[row]) == [name for name, share in zip(names, p[row], strict=True) if share >= 0.5]


def test_targets_are_coded_and_answers_decoded_without_torch():
    code = """
import sys
for name in ("torch", "torchmetrics", "sklearn"):
    sys.modules[name] = None
import numpy as np
from automm_tasks import Classification, Multilabel, Regression
for cls, cells in ((Classification, ["a", "b"]), (Multilabel, ["a|b", "b"]), (Regression, [1, 2.5])):
    task = cls(cls.Config())
    task.fit({"y": cells})
    task.encode({"y": cells})
    cls.metric_names()
    p = np.full((3, task.target().size), 0.5, np.float32)
    print(task.decoder().decode({"probabilities": p, "number": p[:, 0]})["prediction"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['a', 'a', 'a']", "[['a', 'b'], ['a', 'b'], ['a', 'b']]", "[0.5, 0.5, 0.5]"]


def test_state_is_plain_json():
    import json

    for cls, cells in ((Classification, ["a", "b"]), (Multilabel, ["a|b", "b"]), (Regression, [1, 2.5])):
        made = task(cls, cells)
        again = cls(made.config, json.loads(json.dumps(made.state, allow_nan=False)))
        assert again.target() == made.target()
        np.testing.assert_array_equal(again.encode({"y": cells}), made.encode({"y": cells}))
