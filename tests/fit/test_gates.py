"""Gates on what a prediction costs decide between an ensemble and a model alone."""

from __future__ import annotations

import optuna
import pytest

from automm import choose
from automm.package import deliver
from automm.package.gates import check_gates, missed
from automm.package.verify import VerificationReport
from automm.report.folder import read_report, trial_folder
from automm.runtime.manifest import Tolerance
from fit.commands import run
from fit.conftest import events, summary, write_recipe

RECIPE = """
search: {trials: 3, baselines: false, objectives: [latency_ms]}
model: {learner: [linear, lightgbm]}
"""


@pytest.fixture
def made(monkeypatch):
    """Stands in for export and verification: notes what is packaged; an ensemble takes 80 ms, a model alone 20 ms."""
    packaged: list[list[str]] = []

    def package(run, members, assembled, metrics, side, shown, train, valid, compressing=None):
        packaged.append([member.name for member in members])
        path = run.folder / "package"
        path.mkdir(exist_ok=True)
        (path / "automm.json").write_text("{}", "utf-8")
        latency = 80.0 if len(members) > 1 else 20.0
        figures = {**metrics["test"], "latency_ms": latency, "size_mb": 1.0}
        gates = check_gates(run.recipe.require, figures)
        found = VerificationReport(rows=1, deviations={}, tolerance=Tolerance(absolute=0.0, relative=0.0))
        return deliver.Made(path, metrics, latency, 1.0, gates, found, {})

    monkeypatch.setattr(deliver, "_package", package)
    monkeypatch.setattr(choose, "select", lambda pool, *_: [0.6, 0.4, *([0.0] * (len(pool) - 2))])
    return packaged


def test_ensemble_that_misses_a_gate_on_cost_makes_room_for_its_best_model(project, made):
    def fit(bound):
        made.clear()
        recipe = write_recipe(project, f'{RECIPE}require: {{latency_ms: "{bound}"}}\n')
        return run("fit", recipe, "--out", "run", cwd=project), summary(project / "run")

    done, found = fit("<= 50")
    assert done.code == 0, done.err
    both, alone = made
    assert (len(both), alone) == (2, both[:1])
    assert found["best"]["name"] == alone[0]
    assert found["latency_ms"] == 20.0
    reason = "require: latency_ms <= 50, it is 80"
    left = found["ensemble_left"]
    assert (list(left["members"]), left["latency_ms"], left["reason"]) == (both, 80.0, reason)
    assert events(project / "run", "ensemble_left")[0]["instead"] == alone[0]
    assert f"no ensemble: {reason}; trial {alone[0]} alone in its place" in done.err
    assert found["valid"]["accuracy"] == found["best"]["value"]  # its own figures, not those of the ensemble

    journal = optuna.storages.journal.JournalFileBackend(str(project / "run" / "study.journal"))
    study = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(journal))
    reports = [read_report(trial_folder(project / "run", name)) for name in "012"]
    told = [trial.values for trial in study.trials if trial.values]
    assert told == [[report["value"], report["latency_ms"]] for report in reports]

    done, found = fit("<= 100")  # the trials are there already
    assert (done.code, [len(members) for members in made]) == (0, [2])
    assert (found["best"]["name"], found["ensemble_left"]) == ("ensemble", {})

    done, found = fit("<= 10")
    assert (done.code, [len(members) for members in made]) == (8, [2, 1])
    assert "error: require: latency_ms <= 10, it is 20" in done.err


def test_gates_are_told_as_they_are_written():
    assert missed([]) == ""
    gates = [
        {"metric": "r2", "operator": ">=", "bound": 0.5, "value": None, "met": False},
        {"metric": "size_mb", "operator": "<", "bound": 3.0, "value": 2.0, "met": True},
        {"metric": "latency_ms", "operator": "<=", "bound": 20.0, "value": 31.25, "met": False},
    ]
    assert missed(gates) == "require: r2 >= 0.5, it is not defined; require: latency_ms <= 20, it is 31.25"
