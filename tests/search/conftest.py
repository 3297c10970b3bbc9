"""A plan over small components, made without data."""

from __future__ import annotations

from typing import Annotated

import pytest

from automm.api import Config, Encoder, Fusion, Loss, Modality, Task, Tune
from automm.core.space import ComponentSpace
from automm.plan.candidates import ranges
from automm.plan.model import Candidates, LossChoice, Plan, PlannedInput
from automm.plugin.registry import Owner, Registry
from automm.train.config import TrainConfig


class Words(Modality):
    @classmethod
    def claim(cls, column):
        return None


class _Encoder(Encoder, abstract=True):
    modality = "words"

    @classmethod
    def processor(cls, config, info):
        raise AssertionError("not made here")

    def __init__(self, config, processor):
        super().__init__(config, processor)

    def forward(self, arrays):
        raise AssertionError("not run here")


class Short(_Encoder):
    class Config(Encoder.Config):
        width: Annotated[int, Tune(8, 64, step=8)] = 16
        kind: Annotated[str, Tune(choices=["a", "b"])] = "b"


class Long(_Encoder):
    class Config(Encoder.Config):
        depth: Annotated[int, Tune(1, 6)] = 2
        rate: Annotated[float, Tune(1e-4, 1e-1, log=True)] = 1e-2


class Heads(Fusion):
    """Its fields depend on one another: `width` must be a multiple of `heads`."""

    class Config(Fusion.Config):
        width: Annotated[int, Tune(8, 64)] = 32
        heads: Annotated[int, Tune(1, 8)] = 4
        dropout: Annotated[float, Tune(0.0, 0.5)] = 0.1

        @classmethod
        def suggest(cls, trial, prefix):
            heads = trial.suggest_int(f"{prefix}heads", 1, 8)
            return {"heads": heads, "width": heads * trial.suggest_int(f"{prefix}times", 1, 8)}

    def __init__(self, config, widths):
        super().__init__(config, widths)

    def forward(self, inputs):
        raise AssertionError("not run here")


class Plain(Loss):
    targets = frozenset({"number"})

    def forward(self, output, target):
        raise AssertionError("not run here")


class Weighted(Plain):
    remedy = "weights"


class Anything(Task):
    target_kind = "number"

    class Config(Config):
        hidden: Annotated[int, Tune(choices=[0, 64])] = 0

    @classmethod
    def claim(cls, columns):
        return None

    @classmethod
    def metric_names(cls):
        return {"score": True}

    def target(self):
        return None

    def metrics(self):
        return {}

    def decoder(self):
        return None

    def encode(self, cells):
        return None

    def fit(self, cells):
        return None

    def head(self, width):
        return None

    def answer(self, output):
        return {}


@pytest.fixture
def registry():
    found = Registry()
    for cls in (Words, Short, Long, Heads, Plain, Weighted, Anything):
        found.add(cls, Owner("mine", "local", "0"))
    return found


@pytest.fixture
def make_plan():
    """Makes a plan; each argument gives the recipe's fields of a component."""

    def make(
        *, short=None, long=None, fusion=None, train=None, searching=True, losses=("plain",), seed=0, maximize=True
    ):
        def space(cls, fields):
            return ComponentSpace(name=cls.name, fields=ranges(cls.Config, fields or {}, searching))

        encoders = (space(Short, short), space(Long, long))
        return Plan(
            recipe="r", task="anything", task_reason="", target=("y",),
            inputs=tuple(
                PlannedInput(name=name, slug=name, modality="words", columns=(name,), group="words")
                for name in ("title", "body")
            ),
            left_out={}, rows={"train": 10, "valid": 5}, classes={}, metric="score", maximize=maximize,
            candidates=Candidates(
                task=space(Anything, None),
                encoders={"words": encoders if searching else encoders[:1]},
                fusion=(space(Heads, fusion),),
                loss=tuple(
                    LossChoice(key=name, component=ComponentSpace(name=name), remedy=name) for name in losses
                ),
                train=ranges(TrainConfig, train or {}, searching),
            ),
            searching=searching, trials=None, time=None, seed=seed, data={"train": "0"},
        )  # fmt: skip

    return make
