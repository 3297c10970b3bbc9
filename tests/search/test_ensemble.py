"""Greedy ensemble selection: when it pays, when it does not, and metrics that some rows leave undefined."""

from __future__ import annotations

import numpy as np
import pytest

from automm.search.ensemble import MEMBERS, POOL, select

ROWS = 400


def average(pool, weights):
    return {"number": sum(weight * one["number"] for one, weight in zip(pool, weights, strict=True))}


def models(errors, seed=0):
    """Truth, and models that are off by independent errors of the given sizes."""
    random = np.random.default_rng(seed)
    truth = random.normal(size=ROWS)
    return truth, [{"number": truth + size * random.normal(size=ROWS)} for size in errors]


def scored(truth):
    return lambda answers, rows: -float(np.mean((answers["number"][rows] - truth[rows]) ** 2))


def test_complementary_models_share_the_weight():
    truth, pool = models([0.5, 0.5, 0.5])
    score, rows = scored(truth), np.arange(ROWS)
    weights = select(pool, ROWS, score, average, seed=0)
    assert sum(weights) == pytest.approx(1.0)
    assert all(weight > 0.2 for weight in weights)
    assert score(average(pool, weights), rows) > 0.5 * max(score(one, rows) for one in pool)  # the error is halved


@pytest.mark.parametrize("errors", [[0.1, 1.5, 1.5], [0.5]])
def test_one_model_stays_alone_where_others_do_not_help(errors):
    truth, pool = models(errors)
    assert select(pool, ROWS, scored(truth), average, seed=0) == [1.0] + [0.0] * (len(errors) - 1)


def test_copies_of_one_model_are_no_ensemble():
    truth, (only,) = models([0.5])
    assert select([only, only, only], ROWS, scored(truth), average, seed=0) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(("most", "used"), [(1, 1), (2, 2), (3, 3)])
def test_member_cap(most, used):
    truth, pool = models([0.5] * 6)
    weights = select(pool, ROWS, scored(truth), average, seed=0, members=most)
    assert sum(weight > 0 for weight in weights) == used
    assert sum(weights) == pytest.approx(1.0)


def test_pool_and_members_are_bounded_by_default():
    truth, pool = models([0.5] * (POOL + 4))
    weights = select(pool, ROWS, scored(truth), average, seed=0)
    assert len(weights) == POOL
    assert 1 < sum(weight > 0 for weight in weights) <= MEMBERS


def test_same_seed_gives_the_same_weights():
    truth, pool = models([0.5, 0.6, 0.7])
    assert select(pool, ROWS, scored(truth), average, seed=3) == select(pool, ROWS, scored(truth), average, seed=3)


def test_metric_that_halves_leave_undefined_keeps_one_model():
    """One row holds the class that the metric needs: no half with it can be judged by the other."""
    truth, pool = models([0.5, 0.5])
    whole = scored(truth)

    def score(answers, rows):
        return whole(answers, rows) if 7 in rows else -np.inf

    assert select(pool, ROWS, score, average, seed=0) == [1.0, 0.0]


@pytest.mark.parametrize("rows", [1, 2])
def test_few_rows(rows):
    truth, pool = models([0.5, 0.5])
    score = scored(truth)

    def defined(answers, at):
        return score(answers, at) if len(at) else -np.inf

    weights = select(pool, rows, defined, average, seed=0)
    assert sum(weights) == pytest.approx(1.0)


def test_model_without_a_score_is_left_out():
    truth, pool = models([0.5, 0.5])
    score = scored(truth)
    broken = {"number": np.full(ROWS, np.nan)}

    def finite(answers, rows):
        value = score(answers, rows)
        return value if np.isfinite(value) else -np.inf

    def present(pool, weights):
        return average(*zip(*[(o, w) for o, w in zip(pool, weights, strict=True) if w > 0], strict=True))

    weights = select([*pool, broken], ROWS, finite, present, seed=0)
    assert weights[2] == 0
    assert sum(weights) == pytest.approx(1.0)


def test_guide_tells_apart_what_a_count_cannot():
    """Two models that are right on the same rows, but err in opposite ways: their mean is closer to the truth."""
    random = np.random.default_rng(0)
    truth = np.where(random.random(ROWS) < 0.5, -1.0, 1.0)
    noise = random.uniform(0.0, 0.9, ROWS)
    pool = [{"number": truth + noise}, {"number": truth - noise}]

    def right(answers, rows):
        return float(np.mean((answers["number"][rows] > 0) == (truth[rows] > 0)))

    assert select(pool, ROWS, right, average, seed=0) == [1.0, 0.0]
    assert select(pool, ROWS, right, average, seed=0, guide=scored(truth)) == pytest.approx([0.5, 0.5], abs=0.1)


def test_guide_may_prefer_another_single_model():
    """The first is right on one row more by luck; the second knows better how sure it is."""
    random = np.random.default_rng(1)
    truth = np.where(random.random(ROWS) < 0.5, -1.0, 1.0)
    close = truth + random.normal(0, 0.5, ROWS)
    wild = 4 * close
    wild[np.argmax(close * truth < 0)] *= -1

    def right(answers, rows):
        return float(np.mean((answers["number"][rows] > 0) == (truth[rows] > 0)))

    pool = [{"number": wild}, {"number": close}]
    assert right(pool[0], np.arange(ROWS)) > right(pool[1], np.arange(ROWS))
    assert select(pool, ROWS, right, average, seed=0, guide=scored(truth)) == [0.0, 1.0]
