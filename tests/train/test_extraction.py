"""What a frozen checkpoint gives is computed once, and changes nothing but the time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from automm.data.arrays import ArrayStore
from automm.model.assemble import MASK, TOKENS
from automm.train.run import run_trial

PLUGIN = '''
from automm.api import Encoder, Features, hookimpl, nn, torch
from automm_tabular.vector import Vector

CALLS = []


class Frozen(Encoder):
    """A random map, as if it were a checkpoint."""

    modality = "tabular"
    preference = 9.0

    @classmethod
    def processor(cls, config, info):
        return Vector(Vector.Config(columns=list(info.columns), types=dict(info.types)))

    def __init__(self, config, processor):
        super().__init__(config, processor)
        size = processor.specs()["vector"].shape[0]
        noise = torch.randn(8, size)  # takes random numbers, as new layers do
        self.map = nn.Linear(size, 8)
        with torch.no_grad():
            self.map.weight.copy_(torch.linspace(-1, 1, 8 * size).reshape(8, size) + 0 * noise)
            self.map.bias.zero_()
        self.head = nn.Linear(8, 8)
        self.width = 8

    @classmethod
    def extracts(cls, config):
        return True

    @classmethod
    def pretrained(cls, config):
        return True

    def fresh(self):
        return [self.head]

    def extract(self, arrays):
        CALLS.append(len(arrays["vector"]))
        return Features.vector(self.map(torch.nan_to_num(arrays["vector"])))

    def complete(self, features):
        return Features(self.head(features.tokens), features.mask)


@hookimpl
def automm_register(register):
    register(Frozen)
'''
RECIPE = """plugins: [frozen.py]
model: {encoders: {tabular: {name: frozen, adapt: none}}}
train: {epochs: 3, batch_size: 32}
"""


def test_stored_features_leave_a_trial_as_it_is(make_bench, tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOMM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "frozen.py").write_text(PLUGIN, "utf-8")
    bench, (resolved,) = make_bench(RECIPE)
    calls = bench.registry.get("encoder", "frozen").extract.__globals__["CALLS"]
    first, _ = run_trial("0", resolved, bench, tmp_path / "0")
    assert first.error is None
    rows = sum(len(bench.parts[part].rows) for part in ("train", "valid"))

    def computed():
        return sum(count for count in calls if count > 1)  # one row alone tells the width, or the time that it takes

    assert computed() == rows
    second, _ = run_trial("1", resolved, bench, tmp_path / "1")
    assert computed() == rows  # nothing is computed again
    elsewhere, (resolved,) = make_bench(RECIPE, work="another")
    third, _ = run_trial("0", resolved, elsewhere, tmp_path / "another" / "0")
    assert third.value == first.value
    assert computed() == rows  # nor in another run
    assert [{**epoch, "seconds": 0} for epoch in second.history] == [{**epoch, "seconds": 0} for epoch in first.history]


def test_stored_features_are_those_of_the_encoder(make_bench, tmp_path):
    (tmp_path / "frozen.py").write_text(PLUGIN, "utf-8")
    bench, (resolved,) = make_bench(RECIPE)
    choice = resolved["encoders"]["tabular"]
    store = bench.features("valid", "tabular", choice)
    assert isinstance(store, ArrayStore)
    found = store.batch(np.arange(5))
    cls = bench.registry.get("encoder", "frozen")
    encoder = cls(cls.Config.model_validate(choice["config"]), bench.processor("tabular", choice))
    raw = bench.store("valid", "tabular", choice).batch(np.arange(5))
    with torch.no_grad():
        expected = encoder.extract({name: torch.from_numpy(array) for name, array in raw.items()})
    np.testing.assert_allclose(found[TOKENS], expected.tokens.numpy(), rtol=2e-3, atol=2e-3)
    assert found[MASK].all()


def test_what_the_budget_does_not_pay_for_is_left_out(make_bench, monkeypatch):
    """A configuration whose features would take too long fails with a reason, early, and the bench goes on."""
    from automm.errors import TooDearError
    from automm.train import bench as module

    bench, _ = make_bench()
    clock = iter(np.arange(0, 1e4, 5.0))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    told = bench.pace("train", "slow")
    train, rows = len(bench.parts["train"].rows), sum(len(part.rows) for part in bench.parts.values())
    told(2, train)
    told(4, train)  # no limit yet
    bench.seconds = 30.0
    with pytest.raises(TooDearError, match=rf"take about {10 / 8 * rows:.0f} s, the time budget of 0 s leaves 30 s"):
        told(10, train)  # 8 rows in 10 s: those before the first word paid for what is loaded once
    quick = bench.pace("train", "quick")
    quick(1, rows)
    quick(rows, rows)
    assert bench.pace("valid", "any") is not quick
