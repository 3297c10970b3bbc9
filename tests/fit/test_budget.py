"""One time budget for all attempts of a job, and for what is computed before the first trial."""

from __future__ import annotations

import json
import time

import pytest

from automm import defaults
from automm.data import arrays
from automm.errors import NothingSucceededError
from automm.orchestrate import planned
from automm.package import deliver
from automm.recipe.parse import load_with_plugins
from automm.report.attempts import BOOT, attempt_of, used_before
from automm.search.space import first_trials
from automm.search.study import Study
from automm.train import bench
from automm.train.ranks import Ranks
from fit.commands import run
from fit.conftest import events, write_recipe

SLOW = '''
import time

from automm.api import VectorEncoder, hookimpl
from automm_tabular.vector import Vector


class SlowVector(Vector):
    op = "slow.vector"

    def __call__(self, cells):
        time.sleep(0.1 * len(next(iter(cells.values()))))
        return super().__call__(cells)


class Slow(VectorEncoder):
    """Takes its time."""

    modality = "tabular"
    preference = 99.0

    @classmethod
    def processor(cls, config, info):
        return SlowVector(Vector.Config(columns=list(info.columns), types=dict(info.types)))


@hookimpl
def automm_register(register):
    register(Slow)
'''
RECIPE = "search: {time: 30s}\nignore: [review]\nplugins: [slow.py]\n"


@pytest.fixture
def plan(project, monkeypatch):
    """Plans a run of a recipe; what takes long shows early."""
    for module, name, value in ((arrays, "FIRST", 2), (bench, "PATIENCE", 0.2), (defaults, "LENIENT", 1.0)):
        monkeypatch.setattr(module, name, value)
    (project / "slow.py").write_text(SLOW, "utf-8")

    def make(more=""):
        recipe, plugins = load_with_plugins(write_recipe(project, RECIPE + more))
        return planned(recipe, plugins, Ranks(), project / "run", None, time.monotonic())

    return make


def test_default_that_the_budget_does_not_pay_for_makes_room_for_a_cheaper_one(plan):
    found = plan()
    assert found.dear == [("encoder", "slow")]
    registry = found.plugins.registry
    assert first_trials(found.plan, registry)[0][0]["encoders"]["tabular"]["name"] == "slow"
    cheaper = [resolved for resolved, _ in first_trials(found.plan, registry, found.dear)]
    assert cheaper
    assert all(one["encoders"]["tabular"]["name"] != "slow" for one in cheaper)
    study = Study(found.plan, registry, found.folder, dear=found.dear)
    assert study.ask() == cheaper[0]
    assert len(found.bench.view("train", cheaper[0]).positions) > 0  # computed, and free for the first trial


def test_message_says_what_to_raise_where_nothing_is_cheaper(plan):
    with pytest.raises(NothingSucceededError) as raised:
        plan("model: {encoders: {tabular: slow}}\n")
    said = str(raised.value)
    assert "the time budget does not pay for what slow must compute, and there is no cheaper encoder" in said
    assert "input tabular: encoder 'slow': computing all rows would take about" in said
    assert "Give search.time more, name a cheaper encoder in model.encoders, or leave the input out" in said


def log_of(path, *entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + '{"torn', "utf-8")


def test_attempts_of_one_job_share_its_budget(tmp_path, monkeypatch):
    log, boot = tmp_path / "events.jsonl", BOOT.read_text("ascii").strip()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")

    def started(attempt, job="job", clock=(boot, 100.0)):
        return {"event": "started", "elapsed": 0.0, "attempt": attempt, "job": job, "clock": list(clock)}

    assert used_before(log, 500.0) == 0.0  # it died before it wrote anything
    log_of(log, started(0, "earlier"), {"event": "trial", "elapsed": 70.0}, started(0), started(1, clock=(boot, 300.0)))
    assert used_before(log, 500.0) == 400.0
    moved = [started(0, clock=("another", 9.0)), {"event": "trial", "elapsed": 30.0}, started(1, clock=("third", 5.0)),
             {"event": "epoch", "elapsed": 12.0}]  # fmt: skip
    log_of(log, *moved)
    assert used_before(log, 500.0) == 42.0
    log_of(log, started(0, "earlier"), {"event": "trial", "elapsed": 70.0})
    assert used_before(log, 500.0) == 0.0
    log_of(log, started(0))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert used_before(log, 500.0) == 0.0  # the same command again, with a budget of its own


def test_restarted_job_whose_budget_is_over_delivers_the_first_default(project, monkeypatch):
    folder = project / "run"
    folder.mkdir()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    first = {"event": "started", "elapsed": 0.0, **attempt_of(time.monotonic() - 1000.0)}
    (folder / "events.jsonl").write_text(json.dumps(first) + "\n", "utf-8")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    delivered = []
    monkeypatch.setattr(deliver, "deliver", lambda run, members, _: delivered.append((run, members)) or {})
    recipe = write_recipe(project, "search: {time: 600s}\nignore: [review]\nmodel: {learner: linear}\n")
    done = run("fit", recipe, "--out", "run", cwd=project)
    assert done.code == 0, done.err
    assert "attempt 2, 10" in done.err  # 1000 s and a few are used
    assert events(folder, "started")[-1]["used"] > 1000
    ((state, (member,)),) = delivered
    assert (member.name, len(state.reports)) == ("0", 1)
    assert time.monotonic() - state.began > 1000
