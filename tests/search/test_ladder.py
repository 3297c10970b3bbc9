"""The rungs: what each samples from, when it ends, and who is promoted."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field

from automm.api import Encoder, Tune
from automm.core.space import ComponentSpace, Fixed
from automm.plan.candidates import ranges
from automm.plugin.registry import Owner
from automm.search.ladder import ADAPT, OPEN, PROBE, SCRATCH, STALL, Ladder, without
from automm.search.space import first_trials
from automm.search.study import FIRST, Study
from search.conftest import _Encoder as Words


class Counts(Words):
    """Fixed descriptors."""

    class Config(Encoder.Config):
        adapt: Literal["full"] = "full"
        size: Annotated[int, Tune(8, 64)] = 16

    @classmethod
    def extracts(cls, config):
        return True


class Checkpoint(Words):
    """Frozen, or trained whole or in part."""

    class Config(Encoder.Config):
        adapt: Annotated[str, Field(pattern=r"none|last_\d|lora|full")] = "last_2"

    @classmethod
    def pretrained(cls, config):
        return True

    @classmethod
    def extracts(cls, config):
        return config.adapt == "none"


@pytest.fixture
def everything(registry):
    for cls in (Counts, Checkpoint):
        registry.add(cls, Owner("mine", "local", "0"))
    return registry


@pytest.fixture
def plan_of(make_plan, everything):
    """Makes a plan over some encoders; `adapt` is what the recipe says of the checkpoint."""

    def make(*names, adapt=None, epochs=40, **more):
        plan = make_plan(train={"epochs": Fixed(value=epochs)}, **more)
        spaces = []
        for name in names:
            cls = everything.get("encoder", name)
            said = {"adapt": adapt} if adapt is not None and name == "checkpoint" else {}
            spaces.append(ComponentSpace(name=name, fields=ranges(cls.Config, said, True)))
        return plan.model_copy(
            update={"candidates": plan.candidates.model_copy(update={"encoders": {"words": tuple(spaces)}})}
        )

    return make


def names(rung):
    return [space.name for space in rung.plan.candidates.encoders["words"]]


def report(resolved, value, rung, state="complete"):
    return {"resolved": resolved, "value": value, "rung": rung, "state": state}


def best(networks):
    return networks[:1]


def test_rungs_go_from_cheap_to_dear(plan_of, everything):
    ladder = Ladder(plan_of("counts", "short", "checkpoint"), everything)
    assert [rung.name for rung in ladder.rungs] == [PROBE, SCRATCH, ADAPT, OPEN]
    assert [round(rung.until, 3) for rung in ladder.rungs[:3]] == [0.5, 0.7, 1.0]
    probe, scratch, _, whole = ladder.rungs
    assert names(probe) == ["counts", "checkpoint"]
    assert probe.plan.candidates.encoders["words"][1].fields["adapt"] == Fixed(value="none")
    assert names(scratch) == names(whole) == ["counts", "short", "checkpoint"]
    assert scratch.plan.candidates.train["epochs"] == Fixed(value=10)
    assert whole.plan.candidates.train["epochs"] == Fixed(value=40)
    assert "adapt" not in whole.plan.candidates.encoders["words"][2].fields


@pytest.mark.parametrize(
    ("encoders", "expected"),
    [
        (("counts",), [OPEN]),  # all is cheap: there is nothing to put off
        (("counts", "checkpoint"), [PROBE, ADAPT, OPEN]),
        (("short",), [SCRATCH, ADAPT, OPEN]),
        (("counts", "short"), [PROBE, SCRATCH, ADAPT, OPEN]),
    ],
)
def test_only_rungs_that_apply(encoders, expected, plan_of, everything):
    ladder = Ladder(plan_of(*encoders), everything)
    assert [rung.name for rung in ladder.rungs] == expected
    if len(expected) > 1:
        assert ladder.rungs[-2].until == pytest.approx(1.0)  # the share of what does not apply falls to the others


def test_recipe_sizes_and_switches_rungs(plan_of, everything):
    plan = plan_of("counts", "short", "checkpoint")
    ladder = Ladder(plan, everything, {"probe": 0.2, "scratch": 0.0, "adapt": 0.1})
    assert [(rung.name, round(rung.until, 3)) for rung in ladder.rungs[:-1]] == [(PROBE, 0.2), (ADAPT, 0.3)]
    nothing = dict.fromkeys((PROBE, SCRATCH, ADAPT), 0.0)
    assert [rung.name for rung in Ladder(plan, everything, nothing).rungs] == [OPEN]


def test_held_checkpoint_is_not_frozen_against_the_recipe(plan_of, everything):
    plan = plan_of("checkpoint", adapt=Fixed(value="lora"))
    assert [rung.name for rung in Ladder(plan, everything).rungs] == [SCRATCH, ADAPT, OPEN]
    assert first_trials(plan, everything)[0][0]["encoders"]["title"]["config"]["adapt"] == "lora"
    frozen = Ladder(plan_of("checkpoint", adapt=Fixed(value="none")), everything)
    assert [rung.name for rung in frozen.rungs] == [OPEN]


def test_defaults_of_a_search_train_no_checkpoint(plan_of, everything, make_plan):
    (resolved, _) = first_trials(plan_of("checkpoint"), everything)[0]
    assert resolved["encoders"]["title"]["config"]["adapt"] == "none"
    without_search = plan_of("checkpoint").model_copy(update={"searching": False})
    (resolved, _) = first_trials(without_search, everything)[0]
    assert resolved["encoders"]["title"]["config"]["adapt"] == "last_2"


def test_rung_ends_by_its_share_and_when_it_stalls(plan_of, everything):
    ladder = Ladder(plan_of("counts", "short"), everything)
    (resolved, _) = first_trials(ladder.first, everything)[0]
    assert ladder.at([], 0.0, best)[0].name == PROBE
    assert ladder.at([], 0.51, best)[0].name == SCRATCH
    rising = [report(resolved, at / 100, PROBE) for at in range(STALL + 2)]
    assert ladder.at(rising, 0.1, best)[0].name == PROBE
    flat = [report(resolved, 0.5, PROBE) for _ in range(STALL + 1)]
    assert ladder.at(flat[:-1], 0.1, best)[0].name == PROBE
    assert ladder.at(flat, 0.1, best)[0].name == SCRATCH
    assert ladder.at(flat, 1.0, best)[0].name == OPEN


def test_rung_of_which_all_fails_ends(plan_of, everything):
    ladder = Ladder(plan_of("counts", "short"), everything)
    (resolved, _) = first_trials(ladder.first, everything)[0]
    failed = [report(resolved, None, PROBE, "failed") for _ in range(3)]
    assert ladder.at(failed[:2], 0.1, best)[0].name == PROBE
    assert ladder.at(failed, 0.1, best)[0].name == SCRATCH


def test_smaller_is_better_where_the_metric_says_so(plan_of, everything):
    ladder = Ladder(plan_of("counts", "short", maximize=False), everything)
    (resolved, _) = first_trials(ladder.first, everything)[0]
    falling = [report(resolved, 1 - at / 100, PROBE) for at in range(STALL + 2)]
    assert ladder.at(falling, 0.1, best)[0].name == PROBE
    assert ladder.at(falling[::-1], 0.1, best)[0].name == SCRATCH


def test_finalists_are_trained_in_full_from_cheap_to_dear(plan_of, everything):
    ladder = Ladder(plan_of("counts", "short", "checkpoint"), everything)
    sampled = Ladder(plan_of("short"), everything)
    (few, _) = first_trials(sampled.plan(SCRATCH), everything)[0]
    frozen = first_trials(plan_of("checkpoint"), everything)[0][0]
    frozen["train"]["epochs"] = 40
    learner = {"encoders": frozen["encoders"], "learner": {"name": "trees", "config": {}}}
    reports = [report(few, 0.7, SCRATCH), report(frozen, 0.9, PROBE), report(learner, 0.95, PROBE)]
    order = []
    while (found := ladder.at(reports, 0.8, lambda networks: networks[:2]))[0].name == ADAPT:
        resolved = found[1]
        order.append((resolved["encoders"]["title"]["config"].get("adapt"), resolved["train"]["epochs"]))
        reports.append(report(resolved, 0.5, ADAPT))
    # The better network first: its checkpoint by depth; of the other all epochs.
    assert order == [("last_2", 40), ("full", 40), ("lora", 40), ("full", 40)]
    assert found[0].name == OPEN
    assert ladder.at(reports[:3], 1.0, best)[0].name == OPEN  # its share of the budget is used


def test_recipe_lists_the_depths(plan_of, everything):
    from automm.core.space import Choices

    ladder = Ladder(plan_of("checkpoint", adapt=Choices(values=("none", "last_1"))), everything)
    (frozen, _) = first_trials(ladder.first, everything)[0]
    variants = ladder.variants(frozen)
    assert [variant["encoders"]["body"]["config"]["adapt"] for variant in variants] == ["last_1"]
    assert ladder.variants(variants[0]) == []


def test_study_takes_all_rungs(plan_of, everything, tmp_path):
    """Choices whose options differ from rung to rung do not disturb one another."""
    study = Study(plan_of("counts", "short", "checkpoint"), everything, tmp_path)
    seen = {}
    for at, rung in enumerate([PROBE, PROBE, SCRATCH, SCRATCH, OPEN, OPEN] * 4):
        resolved = study.ask(rung)
        assert study.rung == (FIRST if at == 0 else rung)
        seen.setdefault(study.rung, []).append(resolved)
        study.tell(0.5 + at / 100, "complete", {})
    chosen = {rung: {r["encoders"]["title"]["name"] for r in found} for rung, found in seen.items()}
    assert chosen[PROBE] == {"counts", "checkpoint"}
    assert chosen[SCRATCH] == chosen[OPEN] == {"counts", "short", "checkpoint"}
    assert {r["train"]["epochs"] for r in seen[SCRATCH]} == {10}
    given = seen[PROBE][0] | {"seed": 5}
    assert study.ask(ADAPT, given) is given


def test_failing_component_is_left_out_while_others_remain(plan_of, everything, tmp_path):
    plan = plan_of("counts", "short")
    failing = [("encoder", "short"), ("fusion", "heads")]
    kept = without(plan, failing).candidates
    assert [space.name for space in kept.encoders["words"]] == ["counts"]
    assert [space.name for space in kept.fusion] == ["heads"]  # the last of its kind
    study = Study(plan, everything, tmp_path)
    for _ in range(6):
        study.ask(OPEN)
        study.tell(0.5, "complete", {})
    found = [study.ask(OPEN, failing=failing)["encoders"]["title"]["name"] for _ in range(6)]
    assert set(found) == {"counts"}
