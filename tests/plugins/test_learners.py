"""Learners agree with the libraries that fit them, and keep to what the kit cannot see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from automm_learners._trees import read_trees
from automm_learners.lightgbm import MANY, Lightgbm
from automm_learners.linear import Linear
from automm_learners.stacking import Stacking

from automm.api import Rows, TargetInfo

ROWS = 300


def never():
    return False


def problem(kind, size, seed=0, width=8):
    """Rows with unknown values and a target that three columns tell, not linearly."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(ROWS, width)).astype(np.float32)
    signal = np.stack([features[:, at] + features[:, (at + 1) % width] ** 2 for at in range(max(size, 3))], 1)
    features[random.random(features.shape) < 0.1] = np.nan
    features[:, -1] = np.round(features[:, -1])  # ties with thresholds
    if kind == "class":
        target = signal[:, :size].argmax(1)
        counts = tuple(np.bincount(target, minlength=size).tolist())
        info = TargetInfo(kind, size, tuple(map(str, range(size))), counts, ROWS)
    elif kind == "labels":
        target = (signal[:, :size] > 0.5).astype(np.float32)
        info = TargetInfo(kind, size, tuple(map(str, range(size))), tuple(target.sum(0).astype(int).tolist()), ROWS)
    else:
        target = signal[:, 0].astype(np.float32)
        info = TargetInfo(kind, 1, rows=ROWS)
    weight = random.uniform(0.5, 1.5, ROWS).astype(np.float32)
    return Rows(features, target, weight), info


def output(module, features):
    with torch.no_grad():
        return module(torch.from_numpy(features)).numpy()


def boosters(monkeypatch):
    """The boosters that LightGBM makes, as they come."""
    import lightgbm

    made, train = [], lightgbm.train
    monkeypatch.setattr(lightgbm, "train", lambda *a, **k: made.append(train(*a, **k)) or made[-1])
    return made


@pytest.mark.parametrize(("kind", "size"), [("class", 2), ("class", 4), ("labels", 3), ("number", 1)])
def test_trees_give_what_lightgbm_gives(monkeypatch, kind, size):
    made = boosters(monkeypatch)
    rows, info = problem(kind, size)
    valid, _ = problem(kind, size, seed=1)
    module = Lightgbm(Lightgbm.Config(trees=40), {"a": 5, "b": 3}, info)
    settled = module.fit(rows, valid, {}, never)
    assert settled["rounds"] == [max(one.best_iteration, 1) for one in made]
    raw = [
        one.predict(valid.features, raw_score=True, num_iteration=rounds)
        for one, rounds in zip(made, settled["rounds"], strict=True)
    ]
    expected = np.stack(raw, 1) if kind == "labels" else np.asarray(raw[0]).reshape(ROWS, -1)
    found = output(module, valid.features)
    if size == 2:
        assert not found[:, 0].any()
        found = found[:, 1:]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_values_at_a_threshold_and_unknown_ones_go_the_way_they_went_in_training(monkeypatch):
    made = boosters(monkeypatch)
    random = np.random.default_rng(0)
    features = random.choice([0.1, 0.2, 0.3], size=(ROWS, 2)).astype(np.float32)
    target = (features[:, 0] > 0.15).astype(np.float32) + 2 * (features[:, 1] > 0.25)
    module = Lightgbm(Lightgbm.Config(trees=20, min_rows=3), {"a": 2}, TargetInfo("number", 1, rows=ROWS))
    module.fit(Rows(features, target, np.ones(ROWS, np.float32)), None, {"rounds": [20]}, never)
    threshold = np.float32(np.unique(module.threshold.numpy()[np.isfinite(module.threshold.numpy())])[0])
    odd = np.array([[threshold, 0.2], [np.nextafter(threshold, np.float32(1)), 0.2], [np.nan, 0.3], [0.1, np.nan]])
    odd = odd.astype(np.float32)
    np.testing.assert_allclose(output(module, odd)[:, 0], made[0].predict(odd), atol=1e-5)


def test_a_single_leaf_is_a_tree():
    trees = read_trees({"tree_info": [{"tree_structure": {"leaf_value": 0.5}}]})
    assert trees.depth == 0
    assert trees.value.tolist() == [0.5]


def test_boosting_stops_early_and_when_told():
    rows, info = problem("number", 1)
    valid, _ = problem("number", 1, seed=1)
    rounds = Lightgbm(Lightgbm.Config(patience=5), {"a": 8}, info).fit(rows, valid, {}, never)["rounds"][0]
    assert 1 < rounds < 800
    hurried = Lightgbm(Lightgbm.Config(), {"a": 8}, info)
    assert hurried.fit(rows, valid, {}, lambda: True)["rounds"][0] <= 2
    assert np.isfinite(output(hurried, valid.features)).all()


def test_boosting_finds_a_product_that_linear_models_cannot():
    random = np.random.default_rng(0)
    features = random.normal(size=(600, 4)).astype(np.float32)
    target = (features[:, 0] * features[:, 1] > 0).astype(np.int64)
    info = TargetInfo("class", 2, ("no", "yes"), tuple(np.bincount(target).tolist()), 600)
    ones = np.ones(300, np.float32)
    train, valid = Rows(features[:300], target[:300], ones), Rows(features[300:], target[300:], ones)
    right = {}
    for cls in (Lightgbm, Linear):
        module = cls(cls.Config(), {"a": 4}, info)
        module.fit(train, valid, {}, never)
        right[cls.name] = float((output(module, valid.features).argmax(1) == valid.target).mean())
    assert right["lightgbm"] > 0.85
    assert right["linear"] < 0.6


def test_wide_descriptors_are_sampled(monkeypatch):
    import lightgbm

    seen, train = [], lightgbm.train
    monkeypatch.setattr(lightgbm, "train", lambda p, *a, **k: seen.append(p) or train(p, *a, **k))
    for width in (8, 4 * MANY):
        rows, info = problem("number", 1, width=width)
        Lightgbm(Lightgbm.Config(trees=2), {"a": width}, info).fit(rows, None, {"rounds": [2]}, never)
    assert [p["feature_fraction"] for p in seen] == pytest.approx([0.6, 0.15])
    assert [p["max_bin"] for p in seen] == [255, 63]


@pytest.mark.parametrize("kind", ["class", "number"])
def test_linear_is_the_model_of_scikit_learn(kind):
    from sklearn.linear_model import LogisticRegression, Ridge

    rows, info = problem(kind, 3 if kind == "class" else 1)
    module = Linear(Linear.Config(), {"a": 8}, info)
    module.fit(rows, None, {"strength": 3.0}, never)
    mean, scale = np.nanmean(rows.features, 0), np.nanstd(rows.features, 0)
    x = np.clip(np.nan_to_num((rows.features - mean) / scale), -5, 5) / np.sqrt(8)
    if kind == "class":
        model = LogisticRegression(C=3.0, max_iter=500).fit(x, rows.target, sample_weight=rows.weight)
        expected = model.predict_proba(x)
        found = torch.from_numpy(output(module, rows.features)).softmax(1).numpy()
    else:
        expected = Ridge(alpha=1 / 3).fit(x, rows.target, sample_weight=rows.weight).predict(x)
        found = output(module, rows.features)[:, 0]
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_a_wide_input_does_not_drown_a_narrow_one():
    random = np.random.default_rng(0)
    noise, told = random.normal(size=(ROWS, 2000)), random.normal(size=(ROWS, 1))
    features = np.concatenate([noise, told], 1).astype(np.float32)
    target = told[:, 0].astype(np.float32)
    ones = np.ones(ROWS // 2, np.float32)
    train, valid = (Rows(features[half], target[half], ones) for half in (slice(0, 150), slice(150, 300)))
    module = Linear(Linear.Config(), {"noise": 2000, "told": 1}, TargetInfo("number", 1, rows=150))
    module.fit(train, valid, {}, never)
    assert np.corrcoef(output(module, valid.features)[:, 0], valid.target)[0, 1] > 0.95


def test_labels_that_no_row_has_are_predicted_never():
    rows, info = problem("labels", 3)
    rows.target[:, 1] = 0.0
    for cls in (Linear, Lightgbm):
        module = cls(cls.Config(), {"a": 8}, info)
        module.fit(rows, rows, {}, never)
        assert (output(module, rows.features)[:, 1] < -2).all()


@pytest.mark.parametrize("cls", [Linear, Lightgbm, Stacking])
@pytest.mark.parametrize(("kind", "size"), [("class", 2), ("class", 4), ("labels", 3), ("number", 1)])
def test_merged_learners_give_the_mean(monkeypatch, cls, kind, size):
    monkeypatch.setattr("automm_learners.stacking.WIDE", 4)
    rows, info = problem(kind, size)
    learners = []
    for fold in range(3):
        config = cls.Config(**({} if cls is Linear else {"trees": 5 + fold, "min_rows": 5 + 10 * fold}))
        learners.append(cls(config, {"a": 5, "b": 3}, info))
        learners[-1].fit(rows.take(np.arange(ROWS) % 3 != fold), rows.take(np.arange(ROWS) % 3 == fold), {}, never)
    merged = cls.merged(learners)
    expected = np.mean([output(learner, rows.features) for learner in learners], 0)
    np.testing.assert_allclose(output(merged, rows.features), expected, atol=1e-5)
    again = cls(cls.Config(), {"a": 5, "b": 3}, info)
    again.load_state_dict(merged.state_dict())
    assert np.array_equal(output(again, rows.features), output(merged, rows.features))


@pytest.mark.parametrize(("kind", "size"), [("class", 2), ("class", 4), ("labels", 3), ("number", 1)])
def test_stacking_reads_wide_inputs_without_drowning_the_table(kind, size):
    """A column of the table and a direction in 400 of a picture tell the target; each alone half of it."""
    rows, info = problem(kind, size, width=6)
    random = np.random.default_rng(1)
    hidden = random.normal(size=ROWS).astype(np.float32)
    wide = random.normal(size=(ROWS, 400)).astype(np.float32)
    wide[:, :20] += hidden[:, None]
    if kind == "number":
        target = rows.target + 2 * hidden
    else:
        target = np.where(hidden > 0, size - 1, rows.target) if kind == "class" else rows.target
        if kind == "labels":
            target[:, 0] = hidden > 0
    all_rows = Rows(np.concatenate([wide, rows.features], 1), target, rows.weight)
    half = np.arange(ROWS) < 220
    module = Stacking(Stacking.Config(), {"picture": 400, "table": 6}, info)
    settled = module.fit(all_rows.take(half), all_rows.take(~half), {}, never)
    assert set(settled["linear"]) == {"picture"}
    alone = Lightgbm(Lightgbm.Config(), {"table": 6}, info)
    alone.fit(rows._replace(target=target).take(half), rows._replace(target=target).take(~half), {}, never)
    held = all_rows.take(~half)
    assert loss_of(module, held) < 0.95 * loss_of(alone, rows._replace(target=target).take(~half))
    again = Stacking(Stacking.Config(), {"picture": 400, "table": 6}, info)
    again.load_state_dict(module.state_dict())
    assert np.array_equal(output(again, held.features), output(module, held.features))


def loss_of(module, rows):
    found, target = torch.from_numpy(output(module, rows.features)), torch.from_numpy(rows.target)
    if target.ndim == 2:
        return float(torch.nn.functional.binary_cross_entropy_with_logits(found, target.float()))
    if target.is_floating_point():
        return float((found[:, 0] - target).square().mean())
    return float(torch.nn.functional.cross_entropy(found, target.long()))


def test_stacking_learns_from_rows_that_the_linear_model_did_not_see(monkeypatch):
    """Were the linear model's outputs on its own rows taken, pure noise would look like knowledge."""
    random = np.random.default_rng(0)
    features = random.normal(size=(ROWS, 601)).astype(np.float32)
    target = (features[:, 600] + 0.5 * random.normal(size=ROWS) > 0).astype(np.int64)
    info = TargetInfo("class", 2, ("a", "b"), tuple(np.bincount(target).tolist()), ROWS)
    rows = Rows(features, target, np.ones(ROWS, np.float32))
    seen = []
    monkeypatch.setattr(Lightgbm, "fit", lambda self, train, *_: seen.append(train.features) or {})
    Stacking(Stacking.Config(), {"noise": 600, "table": 1}, info).fit(rows, None, {}, never)
    assert abs(np.corrcoef(seen[0][:, 0], target)[0, 1]) < 0.3
