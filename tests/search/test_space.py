"""The search space: a component first, then only its own fields."""

from __future__ import annotations

import json

import pytest

from automm.core.space import Choices, Fixed, Range
from automm.errors import PluginError
from automm.search.space import Preferred, first_trials, resolve, single

optuna = pytest.importorskip("optuna")


@pytest.fixture
def samples(registry):
    """Resolves a plan many times; gives the configurations and the names that were asked for."""

    def sample(plan, count=40):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        found = []
        for _ in range(count):
            trial = study.ask()
            found.append((resolve(plan, registry, trial), trial.params))
            study.tell(trial, 0.0)
        return found

    return sample


def test_only_the_fields_of_the_chosen_component_are_asked_for(samples, make_plan):
    seen = set()
    for resolved, params in samples(make_plan()):
        name = resolved["encoders"]["title"]["name"]
        seen.add(name)
        asked = {key for key in params if key.startswith("encoder.words.")}
        own = {"short": {"width", "kind"}, "long": {"depth", "rate"}}[name]
        assert asked == {f"encoder.words.{name}.{field}" for field in own}
        assert resolved["encoders"]["body"] == resolved["encoders"]["title"]  # inputs of a group share the choice
    assert seen == {"short", "long"}


def test_declared_ranges_are_kept(samples, make_plan):
    configs = [resolved["encoders"]["title"] for resolved, _ in samples(make_plan(), 80)]
    short = [one["config"] for one in configs if one["name"] == "short"]
    long = [one["config"] for one in configs if one["name"] == "long"]
    assert {one["kind"] for one in short} == {"a", "b"}
    assert {one["width"] for one in short} <= set(range(8, 65, 8))
    assert len({one["width"] for one in short}) > 3
    assert {type(one["depth"]) for one in long} == {int}
    assert all(1e-4 <= one["rate"] <= 1e-1 for one in long)
    assert sum(one["rate"] < 1e-2 for one in long) > len(long) / 3  # two thirds of a logarithmic scale


def test_recipe_overrides_declared_ranges(samples, make_plan):
    plan = make_plan(
        short={"width": Fixed(value=24), "kind": Choices(values=("a",)), "adapt": Choices(values=("none", "full"))},
        long={"depth": Range(low=9, high=10, integer=True), "rate": Choices(values=(0.5, 0.25))},
        train={"epochs": Range(low=3, high=4, integer=True), "learning_rate": Fixed(value=0.5)},
    )
    configs = samples(plan)
    short = [r["encoders"]["title"]["config"] for r, _ in configs if r["encoders"]["title"]["name"] == "short"]
    long = [r["encoders"]["title"]["config"] for r, _ in configs if r["encoders"]["title"]["name"] == "long"]
    assert {(one["width"], one["kind"]) for one in short} == {(24, "a")}
    assert {one["adapt"] for one in short} == {"none", "full"}
    assert {one["depth"] for one in long} == {9, 10}
    assert {one["rate"] for one in long} == {0.5, 0.25}
    assert {r["train"]["epochs"] for r, _ in configs} == {3, 4}
    assert {r["train"]["learning_rate"] for r, _ in configs} == {0.5}
    assert all("train.learning_rate" not in params for _, params in configs)


def test_suggest_replaces_the_declared_ranges(samples, make_plan):
    for resolved, params in samples(make_plan()):
        config = resolved["fusion"]["config"]
        assert config["width"] % config["heads"] == 0
        assert config["dropout"] == 0.1  # what `suggest` leaves out keeps its default
        assert {key for key in params if key.startswith("fusion.")} == {"fusion.heads.heads", "fusion.heads.times"}


def test_recipe_wins_over_suggest(samples, make_plan):
    plan = make_plan(fusion={"heads": Fixed(value=2), "dropout": Choices(values=(0.3, 0.4))})
    configs = [resolved["fusion"]["config"] for resolved, _ in samples(plan)]
    assert {one["heads"] for one in configs} == {2}
    assert {one["dropout"] for one in configs} == {0.3, 0.4}


def test_suggest_that_raises_is_named(samples, make_plan, registry, monkeypatch):
    def broken(trial, prefix):
        raise KeyError("no")

    monkeypatch.setattr(registry.get("fusion", "heads").Config, "suggest", broken)
    with pytest.raises(PluginError, match=r"fusion 'heads' of plugin mine \(local 0\): Config.suggest raised KeyError"):
        samples(make_plan(), 1)


def test_values_that_contradict_each_other_are_named(samples, make_plan):
    plan = make_plan(short={"adapt": Choices(values=("some",))}, long={"adapt": Choices(values=("some",))})
    with pytest.raises(PluginError, match=r"encoder\.words\.\w+: the search range gives an invalid configuration"):
        samples(plan, 1)


def test_preferred_takes_first_candidates_and_defaults(make_plan, registry):
    asked = Preferred()
    resolved = resolve(make_plan(), registry, asked)
    assert resolved["encoders"]["title"] == {"name": "short", "config": {"adapt": "full", "width": 16, "kind": "b"}}
    assert resolved["fusion"]["config"] == {"width": 32, "heads": 4, "dropout": 0.1}
    assert resolved["train"]["learning_rate"] == 1e-3
    assert asked.params["encoder.words"] == "short"
    assert asked.params["encoder.words.short.kind"] == '"b"'
    json.dumps(resolved, allow_nan=False)


def test_preferred_stays_inside_the_recipes_ranges(make_plan, registry):
    plan = make_plan(
        short={"width": Range(low=40, high=48, integer=True), "kind": Choices(values=("c", "d"))},
        train={"batch_size": Range(low=8, high=16, integer=True), "warmup": Range(low=0.2, high=0.3)},
    )
    resolved = resolve(plan, registry, Preferred())
    assert resolved["encoders"]["title"]["config"] == {"adapt": "full", "width": 40, "kind": "c"}
    assert (resolved["train"]["batch_size"], resolved["train"]["warmup"]) == (8, 0.2)


def test_default_trial_can_be_asked_for_by_its_parameters(make_plan, registry):
    """What `first_trials` says of a trial makes Optuna give exactly that trial."""
    plan = make_plan(losses=("plain", "weighted"), fusion={"heads": Fixed(value=4), "width": Fixed(value=8)})
    trials = first_trials(plan, registry)
    assert [resolved["loss"]["name"] for resolved, _ in trials] == ["plain", "weighted"]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for wanted, params in trials:
        study.enqueue_trial(params)
        assert resolve(plan, registry, study.ask())["encoders"] == wanted["encoders"]


def test_list_stands_for_its_first_value_without_a_search(make_plan, registry):
    plan = make_plan(searching=False, short={"width": Choices(values=(32, 8)), "adapt": Fixed(value="none")})
    ((resolved, params),) = first_trials(plan, registry)
    assert params == {}
    assert resolved["encoders"]["title"]["config"] == {"adapt": "none", "width": 32, "kind": "b"}


def test_one_modality_alone_keeps_everything_else(make_plan, registry):
    resolved = resolve(make_plan(), registry, Preferred())
    alone = single(resolved, ["body"])
    assert list(alone["encoders"]) == ["body"]
    assert {key: value for key, value in alone.items() if key != "encoders"} == {
        key: value for key, value in resolved.items() if key != "encoders"
    }


def test_of_three_modalities_a_trial_may_leave_one_out(samples, make_plan, registry):
    plan = make_plan()
    inputs = tuple(
        plan.inputs[0].model_copy(update={"name": name, "slug": name, "modality": name})
        for name in ("words", "pictures", "sounds")
    )
    three = plan.model_copy(update={"inputs": inputs})
    seen = set()
    for resolved, params in samples(three):
        left = {"words", "pictures", "sounds"} - set(resolved["encoders"])
        assert left == {params["without"]} - {"nothing"}
        seen.add(params["without"])
    assert seen == {"nothing", "words", "pictures", "sounds"}
    assert len(first_trials(three, registry)[0][0]["encoders"]) == 3
    kept = three.model_copy(update={"drop_modalities": False})
    assert all(len(resolved["encoders"]) == 3 for resolved, _ in samples(kept, 5))
    two = plan.model_copy(update={"inputs": inputs[:2]})
    assert all("without" not in params for _, params in samples(two, 5))
