"""The study: resumed, recovered and repeated, nothing is lost and nothing done twice."""

from __future__ import annotations

import json

import pytest

from automm.core.space import Choices
from automm.errors import PluginError, StorageError
from automm.report.folder import write_json
from automm.search.space import first_trials
from automm.search.study import Study

pytest.importorskip("optuna")


def value_of(resolved):
    encoder = resolved["encoders"]["title"]
    return 0.5 + resolved["task"]["config"]["hidden"] / 1000 - (encoder["name"] == "long") * 0.1


def report_of(name, resolved):
    return {"name": name, "state": "complete", "value": value_of(resolved) if "encoders" in resolved else 0.0,
            "resolved": resolved, "history": []}  # fmt: skip


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
    def make(name="run", storage=None, warn=lambda _: None, **changes):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return Study(make_plan(**changes), registry, folder, storage, warn=warn)

    return make


def test_resumed_study_asks_for_what_an_uninterrupted_one_asks_for(open_study):
    calm = go_on(open_study("calm"), 12)
    first = go_on(open_study("run"), 5)
    killed = open_study("run").ask()  # never told
    rest = go_on(open_study("run"), 12)
    assert [*first, *rest] == calm
    assert killed == rest[0]
    done = open_study("run").counted()
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


def test_line_that_cannot_be_read_costs_no_finished_trial(open_study, tmp_path):
    calm = go_on(open_study("calm"), 7)
    told = [value_of(resolved) for resolved in go_on(open_study("run"), 5)]
    journal = tmp_path / "run" / "study.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[len(lines) // 2] = b'{"op_code": 8, \xff}\n'
    journal.write_bytes(b"".join(lines))
    for number, resolved in enumerate(calm[:5]):
        write_json(tmp_path / "run" / "trials" / str(number) / "report.json", report_of(str(number), resolved))
    warnings: list[str] = []
    study = open_study("run", warn=warnings.append)
    assert len(warnings) == 1
    assert f"line {len(lines) // 2 + 1} cannot be read" in warnings[0]
    assert (tmp_path / "run" / "study.journal.damaged").read_bytes() == b"".join(lines[len(lines) // 2 :])
    assert 0 < len(study.counted()) < 5
    asked = []
    while len(study.counted()) < 7:
        resolved = study.ask()
        if (left := study.left(resolved)) is None:
            asked.append(resolved)
        study.tell(left["value"] if left else value_of(resolved), "complete", {})
    assert asked == calm[5:]  # what had ended is taken over, what follows is what an undamaged study asks for
    assert [trial.value for trial in study.counted()][:5] == told


def test_report_of_another_configuration_is_not_taken_over(open_study, tmp_path):
    study = open_study()
    write_json(tmp_path / "run" / "trials" / "0" / "report.json", report_of("0", {"task": {}}))
    assert study.left(study.ask()) is None


def test_several_trials_may_be_open_at_once(open_study):
    study = open_study()
    asked = {}
    for _ in range(3):
        resolved = study.ask()
        asked[study.name] = resolved
    assert list(asked) == ["0", "1", "2"]
    assert len({json.dumps(resolved, sort_keys=True) for resolved in asked.values()}) == 3
    for name in ("1", "0"):
        study.tell(0.5, "complete", {}, name)
    assert sorted(study.names()) == ["0", "1"]
    again = open_study()  # killed: trial 2 is asked for again, under its name
    again.ask()
    assert again.name == "2"


def test_identity_that_cannot_be_read_is_named(open_study, tmp_path):
    open_study()
    (tmp_path / "run" / "study.json").write_text("{", "utf-8")
    with pytest.raises(StorageError, match=r"study\.json cannot be read; use another --out"):
        open_study()
