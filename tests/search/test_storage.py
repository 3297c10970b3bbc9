"""A study in a database: shared by several jobs, waited for when the database goes away, no password in any message."""

from __future__ import annotations

import json
import threading
import time

import pytest
from postgres import PASSWORD, running_server

from automm.errors import DatabaseAwayError, MissingExtraError, StorageError
from automm.report.folder import read_report, trial_folder, write_json
from automm.search.shared import ELSEWHERE, FILES
from automm.search.space import first_trials
from automm.search.study import Study

pytest.importorskip("optuna")
database = pytest.importorskip("automm.search.database")


@pytest.fixture(scope="module")
def server():
    with running_server() as found:
        yield found


@pytest.fixture
def open_study(tmp_path, make_plan, registry):
    opened = []

    def make(folder, storage, named=None, warn=lambda _: None, stopping=lambda: False, trials=None, **changes):
        (tmp_path / folder).mkdir(exist_ok=True)
        plan = make_plan(**changes).model_copy(update={"trials": trials})
        opened.append(Study(plan, registry, tmp_path / folder, storage, named, warn=warn, stopping=stopping))
        return opened[-1]

    yield make
    for study in opened:
        study.close()


def train(study, folder, resolved, value=0.5):
    """What a run does with a configuration: report and files first, then the study is told."""
    report = {"name": study.name, "state": "complete", "value": value, "resolved": resolved, "history": []}
    home = trial_folder(folder, study.name)
    write_json(home / "report.json", report)
    for file in FILES:
        (home / file).write_text(f"{study.name} of {folder.name}", "utf-8")
    return report


def finish(study, folder):
    resolved = study.ask()
    report = train(study, folder, resolved)
    study.tell(report["value"], "complete", {})
    return study.name, json.dumps(resolved, sort_keys=True)


def test_jobs_that_work_at_the_same_time_ask_for_each_trial_once(open_study, make_plan, registry, tmp_path, server):
    url, losses = server.url, ("plain", "weighted")
    asked: dict[str, list[tuple[str, str]]] = {"a": [], "b": []}
    failed = []

    def work(job):
        try:
            study = open_study(job, url, "race", losses=losses, trials=10)
            while not study.full():
                asked[job].append(finish(study, tmp_path / job))
            study.close()  # sessions belong to threads
        except Exception as problem:
            failed.append(problem)

    threads = [threading.Thread(target=work, args=(job,)) for job in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(1000)
    assert not failed
    everything = asked["a"] + asked["b"]
    assert len({name for name, _ in everything}) == len(everything)
    assert len({resolved for _, resolved in everything}) == len(everything)
    assert 10 <= len(everything) <= 11  # both may ask for the last one
    defaults = [resolved for resolved, _ in first_trials(make_plan(losses=losses), registry)]
    asked_for = [json.loads(resolved) for _, resolved in everything]
    for default in defaults:
        alike = [one for one in asked_for if all(one[key] == default[key] for key in ("encoders", "loss", "train"))]
        assert len(alike) == 1


def test_trials_of_another_job_come_with_their_files(open_study, tmp_path):
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    a, b = open_study("a", url), open_study("b", url)
    mine, _ = finish(a, tmp_path / "a")
    gone, _ = finish(a, tmp_path / "a")
    (trial_folder(tmp_path / "a", gone) / FILES[0]).unlink()
    found = {report["name"]: report for report in b.others(set())}
    assert set(found) == {mine, gone}
    here = trial_folder(tmp_path / "b", mine)
    assert [(here / file).read_text("utf-8") for file in FILES] == [f"{mine} of a"] * 2
    assert read_report(here) == found[mine]
    assert found[mine]["state"] == "complete"
    assert found[gone]["state"] == ELSEWHERE
    assert f"{tmp_path / 'a'}, which cannot be read from here" in found[gone]["error"]
    assert b.others({mine, gone}) == []
    assert a.others(set()) == []
    assert (a.names(), b.names()) == ([mine, gone], [])


def test_another_plan_or_name_is_another_study(open_study, tmp_path):
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    finish(open_study("a", url), tmp_path / "a")
    assert len(open_study("b", url).counted()) == 1
    assert open_study("c", url, seed=1).counted() == []
    assert open_study("d", url, "ours").counted() == []


def test_trials_are_counted_over_all_jobs(open_study, tmp_path):
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    a, b = open_study("a", url, trials=3), open_study("b", url, trials=3)
    finish(a, tmp_path / "a")
    finish(b, tmp_path / "b")
    a.ask()
    assert b.full()  # the third one is being trained
    again = open_study("a", url, trials=3)  # a was killed: its trial is free again
    assert not b.full()
    finish(again, tmp_path / "a")
    assert b.full()


def test_killed_job_leaves_the_trials_of_the_others_alone(open_study, tmp_path):
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    a, b = open_study("a", url), open_study("b", url)
    asked, _ = a.ask(), b.ask()
    ended = train(a, tmp_path / "a", asked)  # a is killed before the study is told
    lost = (open_study("a", url).names(), [trial.value for trial in b.counted()])
    assert lost == ([ended["name"]], [0.5])
    assert b.others(set()) == [ended]
    train(b, tmp_path / "b", {})
    b.tell(0.7, "complete", {})  # b's trial still runs
    assert len(b.counted()) == 2
    third = open_study("a", url)
    again = third.ask()  # killed in the midst of it
    fourth = open_study("a", url)
    assert fourth.ask() == again
    assert len(fourth.counted()) == 2


def test_database_that_comes_back_is_waited_for(open_study, server, tmp_path):
    said: list[str] = []
    study = open_study("a", server.url, "outage", said.append)
    names = [finish(study, tmp_path / "a")[0]]
    resolved = study.ask()
    server.stop()
    back = threading.Timer(1.5, server.start)
    back.start()
    try:
        began = time.monotonic()
        assert study.report(0, 0.5) is False  # not waited for
        assert time.monotonic() - began < 1
        report = train(study, tmp_path / "a", resolved)
        study.tell(report["value"], "complete", {})
    finally:
        back.join()
    names += [study.name, *(finish(study, tmp_path / "a")[0] for _ in range(2))]
    assert [trial.user_attrs["name"] for trial in study.counted()] == names
    assert len(said) == 2
    assert f"postgres@127.0.0.1:{server.url.rpartition(':')[2]} went away; waiting for up to 600 s" in said[0]
    assert "answers again" in said[1]
    assert PASSWORD not in " ".join(said)


def test_connection_that_is_lost_in_the_midst_of_a_query_is_made_anew(open_study, server, tmp_path):
    said: list[str] = []
    study = open_study("a", server.url, "midst", said.append)
    name, _ = finish(study, tmp_path / "a")

    def restart():
        server.stop()
        time.sleep(0.2)
        server.start()

    restarting = threading.Thread(target=restart)
    restarting.start()
    while restarting.is_alive():
        assert study.names() == [name]
    assert len(said) == 2


def test_database_that_stays_away_ends_the_job_and_loses_nothing(open_study, server, tmp_path, monkeypatch):
    monkeypatch.setattr(database, "PATIENCE", 1.0)
    study = open_study("a", server.url, "gone")
    report = train(study, tmp_path / "a", study.ask())
    server.stop()
    try:
        began = time.monotonic()
        with pytest.raises(
            DatabaseAwayError, match=r"does not answer, for 1 s now \(.*refused.*\)\. Every trial"
        ) as away:
            study.tell(report["value"], "complete", {})
        assert 1 <= time.monotonic() - began < 5
        assert PASSWORD not in str(away.value)
        impatient = open_study("b", f"sqlite:///{tmp_path / 'b.db'}", stopping=lambda: True)
        assert impatient.ask()  # a wish to stop matters only while waiting
        with pytest.raises(StorageError, match=r"cannot open postgresql\+psycopg://postgres@127\.0\.0\.1") as closed:
            open_study("c", server.url)
        assert PASSWORD not in str(closed.value)
    finally:
        server.start()
    assert open_study("a", server.url, "gone").names() == [report["name"]]


def test_database_that_starts_late_is_waited_for(open_study, server):
    said: list[str] = []
    server.stop()
    starting = threading.Timer(1.0, server.start)
    starting.start()
    try:
        study = open_study("a", server.url, "late", said.append)
    finally:
        starting.join()
    assert study.counted() == []
    assert len(said) == 1
    assert "does not answer; waiting for up to 60 s" in said[0]


def test_user_who_wants_to_stop_waits_for_no_database(open_study, server, tmp_path):
    wishes: list[int] = []
    study = open_study("a", server.url, "stop", stopping=lambda: bool(wishes))
    finish(study, tmp_path / "a")
    server.stop()
    try:
        wishes.append(1)
        began = time.monotonic()
        with pytest.raises(DatabaseAwayError):
            study.ask()
        assert time.monotonic() - began < 2
    finally:
        server.start()


def test_wrong_password_is_said_without_it(open_study, server):
    with pytest.raises(StorageError, match="password authentication failed") as wrong:
        open_study("a", server.url.replace(PASSWORD, "mellon"))
    assert "mellon" not in str(wrong.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql+psycopg://me:secret@host:5432/db", "postgresql+psycopg://me@host:5432/db"),
        ("postgresql+psycopg://me@host/db?password=secret", "postgresql+psycopg://me@host/db"),
        ("no url, secret", "no url, secret"),
    ],
)
def test_shown_url_has_no_password(url, expected):
    assert database.shown(url) == expected


def test_storage_that_cannot_be_opened_is_named(open_study):
    with pytest.raises(StorageError, match=r"search\.storage: cannot open nosuch://user@host/none: ") as problem:
        open_study("a", "nosuch://user:secret@host/none")
    assert "secret" not in str(problem.value)


def test_driver_that_is_not_installed_is_named(open_study, monkeypatch):
    monkeypatch.setattr(database.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'automm\[postgres\]'"):
        open_study("a", "postgresql+psycopg://host/db")
