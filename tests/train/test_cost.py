"""What a trial costs where it is used: the time of one row and the bytes that a package would hold."""

from __future__ import annotations

import json
import time

import pytest

pytest.importorskip("torch")

from automm.runtime.state import split_state
from automm.train import run as training
from automm.train.cost import cost_of
from automm.train.learn import run_learner
from automm.train.run import run_trial

BURNT = 0.02
"""Seconds of CPU time."""


def states(view):
    found = 0
    for processor in view.processors.values():
        plain, arrays = split_state(processor.state)
        found += len(json.dumps(plain)) + sum(array.nbytes for array in arrays.values())
    return found


def test_network_counts_its_weights_and_the_work_on_raw_cells(make_bench, tmp_path, monkeypatch):
    bench, (resolved,) = make_bench("train: {epochs: 1}\nmodel: {learner: network}\n")
    report, model = run_trial("0", resolved, bench, tmp_path / "0")
    view = bench.view("valid", resolved)
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    assert report.size_mb == pytest.approx((weights + states(view)) / 1e6, rel=0.02)
    assert report.json()["latency_ms"] == report.latency_ms > 0

    processor = next(iter(view.processors.values()))
    work = type(processor).__call__

    def slow(self, cells):
        until = time.process_time() + BURNT
        while time.process_time() < until:
            pass
        return work(self, cells)

    monkeypatch.setattr(type(processor), "__call__", slow)
    assert cost_of(model, bench, view).latency_ms >= 1000 * BURNT


def test_learner_counts_no_layer_that_only_networks_use(make_bench, tmp_path):
    bench, trials = make_bench("search: {trials: 3}\nmodel: {learner: linear}\n")
    report = run_learner("0", trials[0], bench, tmp_path / "0")
    view = bench.view("valid", trials[0])
    # A weight per descriptor, and what standardises them; the encoder's own layer, 128 times as large, is left out.
    widths = sum(store.specs["vector"].shape[0] for store in view.stores.values() if "vector" in store.specs)
    assert 4 * widths <= 1e6 * report.size_mb - states(view) < 4 * 20 * max(widths, 3)
    assert 0 < report.latency_ms < 1000


def test_model_that_cannot_answer_one_row_is_a_failed_trial(make_bench, tmp_path, monkeypatch):
    bench, (resolved,) = make_bench("train: {epochs: 1}\nmodel: {learner: network}\n")

    def refuse(*_):
        raise ValueError("needs two rows")

    monkeypatch.setattr(training, "cost_of", refuse)
    report, model = run_trial("0", resolved, bench, tmp_path / "0")
    assert (report.state, model, report.latency_ms) == ("failed", None, None)
    assert "a row alone cannot be answered" in report.error
    assert "needs two rows" in report.error
