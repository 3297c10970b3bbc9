"""The study: resumed, recovered and repeated, nothing is lost and nothing done twice."""

from __future__ import annotations

import json

import pytest

from automm.core.space import Choices
from automm.errors import PluginError, StorageError
from automm.search.space import first_trials
from automm.search.study import Study

pytest.importorskip("optuna")


def value_of(resolved):
    encoder = resolved["encoders"]["title"]
    return 0.5 + resolved["task"]["config"]["hidden"] / 1000 - (encoder["name"] == "long") * 0.1


def go_on(study, trials):
    """Asks and tells until so many trials count; gives the configurations asked for."""
    asked = []
    while len(study.counted()) < trials:
        resolved = study.ask()
        asked.append(resolved)
        study.tell(value_of(resolved), "complete", {"seconds": 1.0, "reason": "all epochs done"})
    return asked


@pytest.fixture
def open_study(tmp_path, make_plan, registry):
    def make(name="run", storage=None, **changes):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return Study(make_plan(**changes), registry, folder, storage)

    return make


@pytest.mark.parametrize("database", [False, True])
def test_resumed_study_asks_for_what_an_uninterrupted_one_asks_for(open_study, tmp_path, database):
    storage = f"sqlite:///{tmp_path / 'studies.db'}" if database else None
    calm = go_on(open_study("calm", storage), 12)
    first = go_on(open_study("run", storage), 5)
    killed = open_study("run", storage).ask()  # never told
    rest = go_on(open_study("run", storage), 12)
    assert [*first, *rest] == calm
    assert killed == rest[0]
    done = open_study("run", storage).counted()
    assert len(done) == 12
    assert [trial.value for trial in done] == [value_of(resolved) for resolved in calm]


def test_default_configurations_come_first_and_once(open_study, make_plan, registry):
    losses = ("plain", "weighted")
    defaults = [resolved["encoders"] for resolved, _ in first_trials(make_plan(losses=losses), registry)]
    study = open_study(losses=losses)
    asked = go_on(study, 1)
    open_study(losses=losses).ask()  # killed while the second default runs
    asked += go_on(open_study(losses=losses), 6)
    assert [resolved["encoders"] for resolved in asked[:2]] == defaults
    assert [resolved["loss"]["name"] for resolved in asked[:2]] == ["plain", "weighted"]
    assert len({json.dumps(resolved, sort_keys=True) for resolved in asked}) == 6


def test_kill_between_queueing_and_asking_doubles_nothing(open_study, monkeypatch):
    study = open_study()
    with monkeypatch.context() as patch:
        patch.setattr(study._study, "ask", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            study.ask()
    asked = go_on(open_study(), 3)
    assert len({json.dumps(resolved, sort_keys=True) for resolved in asked}) == 3


def test_seed_changes_the_samples(open_study):
    one, two = go_on(open_study("a", seed=1), 4), go_on(open_study("b", seed=2), 4)
    assert one[0]["encoders"] == two[0]["encoders"]  # the default
    assert [r["train"] for r in one[1:]] != [r["train"] for r in two[1:]]
    assert len(go_on(open_study("c", seed=2**32 - 1), 2)) == 2


def test_without_a_search_the_defaults_are_asked_for(open_study, make_plan, registry):
    study = open_study(searching=False, losses=("plain", "weighted"))
    assert go_on(study, 2) == [
        resolved for resolved, _ in first_trials(make_plan(searching=False, losses=("plain", "weighted")), registry)
    ]


def test_failed_trial_counts_and_is_kept(open_study):
    study = open_study()
    study.ask()
    study.tell(None, "failed", {"reason": "out of luck"})
    study.ask()
    assert study.report(0, 0.5) is False
    study.tell(0.5, "pruned", {"reason": "pruned"})
    states = [(trial.state.name, trial.user_attrs["reason"]) for trial in open_study().counted()]
    assert states == [("FAIL", "out of luck"), ("PRUNED", "pruned")]


def test_hopeless_trial_is_pruned(open_study):
    study = open_study()
    for _ in range(5):
        study.ask()
        assert [study.report(epoch, 0.9) for epoch in range(6)] == [False] * 6
        study.tell(0.9, "complete", {})
    study.ask()
    assert [study.report(epoch, 0.1) for epoch in range(6)] == [False, False, False, True, True, True]


def test_metric_where_less_is_better_prunes_what_is_large(open_study):
    study = open_study(maximize=False)
    for _ in range(5):
        study.ask()
        for epoch in range(6):
            study.report(epoch, 0.1)
        study.tell(0.1, "complete", {})
    study.ask()
    assert [study.report(epoch, 0.9) for epoch in range(5)] == [False, False, False, True, True]


def test_contradicting_fields_end_as_one_failed_trial(open_study):
    study = open_study(long={"adapt": Choices(values=("some",))})
    with pytest.raises(PluginError, match="invalid configuration"):
        go_on(study, 20)
    done = len(study.counted())
    study.tell(None, "failed", {"reason": "invalid configuration"})
    study.ask()
    assert len(study.counted()) == done + 1


def test_torn_last_line_is_dropped(open_study, tmp_path):
    before = go_on(open_study(), 3)
    with (tmp_path / "run" / "study.journal").open("a", encoding="utf-8") as file:
        file.write('{"op_code": 4, "tri')
    study = open_study()
    assert len(study.counted()) == 3
    after = go_on(study, 5)
    assert len({json.dumps(resolved, sort_keys=True) for resolved in [*before, *after]}) == 5


def test_other_plan_is_refused(open_study):
    go_on(open_study(), 1)
    with pytest.raises(StorageError, match=r"holds a search of another plan .* Use another --out"):
        open_study(seed=1)


def test_runs_of_one_plan_do_not_meet_in_a_database(open_study, tmp_path):
    storage = f"sqlite:///{tmp_path / 'studies.db'}"
    go_on(open_study("a", storage), 2)
    assert open_study("b", storage).counted() == []
    assert len(open_study("a", storage).counted()) == 2
    open_study("c", storage, seed=1)  # nor do other plans of the same name


def test_storage_that_cannot_be_opened_is_named(open_study):
    with pytest.raises(StorageError, match=r"search\.storage: cannot open host/none: "):
        open_study(storage="nosuch://user:secret@host/none")
