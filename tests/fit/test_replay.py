"""A trial of a finished run trained again: the same configuration, the same metric; and clocks that jump meanwhile."""

from __future__ import annotations

import itertools
import json
import shlex
import time

import pytest

from fit.commands import run
from fit.conftest import events, summary, write_recipe, write_table

RECIPE = """
data: {train: train.csv, test: test.csv}
target: verdict
train: {epochs: 3, batch_size: 32}
model: {learner: [linear, network]}
search: {trials: 2, time: 1h, baselines: false, ensemble: false}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run during which the clock was set forth and back by a week at every look."""
    folder = tmp_path_factory.mktemp("finished")
    write_table(folder / "train.csv", 160)
    write_table(folder / "test.csv", 40, seed=1)
    recipe = write_recipe(folder, base=RECIPE)
    real, jumps = time.time, itertools.cycle((0, 604_800, -604_800))
    began = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: real() + next(jumps))
        done = run("fit", recipe, "--out", "run", cwd=folder)
    assert done.code == 0, done.err
    return folder, time.monotonic() - began


def test_clock_that_jumps_changes_nothing(finished):
    folder, seconds = finished
    found = summary(folder / "run")
    assert found["trials"] == {"complete": 2}
    assert 0 < found["wall_seconds"] <= seconds
    assert all(0 <= event["elapsed"] <= seconds for event in events(folder / "run"))


@pytest.mark.parametrize(("name", "kind"), [("0", "linear"), ("1", "network")])
def test_replay_gives_the_same_metric(finished, name, kind):
    folder, _ = finished
    before = (folder / "run" / "summary.json").read_bytes()
    original = json.loads((folder / "run" / "trials" / name / "report.json").read_text("utf-8"))
    assert ("learner" in original["resolved"]) == (kind == "linear")
    done = run("fit", "reviews.yaml", "--trial", name, "--out", "run", "--json", cwd=folder)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    again = json.loads((folder / "run" / "replays" / name / "trials" / name / "report.json").read_text("utf-8"))
    assert again["resolved"] == original["resolved"]
    assert again["metrics"] == original["metrics"]
    assert found["value"] == found["original"] == original["value"]
    assert found["same"] is True
    assert json.loads((folder / "run" / "replays" / name / "replay.json").read_text("utf-8")) == found
    assert (folder / "run" / "summary.json").read_bytes() == before  # the run itself is only read


def test_summary_names_the_commands_that_repeat_the_winner(finished):
    folder, _ = finished
    found = summary(folder / "run")
    repeat = found["repeat"]
    (member,) = found["best"]["members"]
    words = shlex.split(repeat["commands"][0])
    assert words == [
        "automm",
        "fit",
        str(folder / "reviews.yaml"),
        "--out",
        str(folder / "run"),
        "--trial",
        member["name"],
    ]
    assert repeat["data"].keys() >= {"train", "test"}
    assert {"torch", "lightning", "numpy", "automm"} <= repeat["packages"].keys()
    assert {"device", "threads", "platform"} <= repeat["machine"].keys()


@pytest.mark.parametrize("name", ["7", "../trials/0", "."])
def test_trial_that_does_not_exist_is_named(finished, name):
    folder, _ = finished
    done = run("fit", "reviews.yaml", "--trial", name, "--out", "run", cwd=folder)
    assert done.code == 2
    assert f"--trial {name}: {folder / 'run'} holds no such trial; there are: 0, 1." in done.err


def test_changed_recipe_is_refused(finished):
    folder, _ = finished
    write_recipe(folder, base=RECIPE, extra="seed: 3\n", name="changed")
    done = run("fit", "changed.yaml", "--trial", "0", "--out", "run", cwd=folder)
    assert done.code == 10
    assert "is a run of another plan" in done.err
    assert str(folder / "run" / "recipe.yaml") in done.err
