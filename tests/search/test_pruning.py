"""Pruning by what is known, without a study that all processes see."""

from __future__ import annotations

import json
from types import SimpleNamespace

import optuna
import pytest

from automm.search.pruning import Beside, known, measured, pruner


def ended(values, state="complete", skipped=0):
    history = [{"epoch": epoch, "loss": 1.0} for epoch in range(skipped)]
    history += [{"epoch": skipped + epoch, "loss": 1.0, "f1": value} for epoch, value in enumerate(values)]
    return {"state": state, "value": max(value for value in values if value is not None), "history": history}


def beside(reports, maximize=True, objectives=()):
    """As another process gets it: through JSON."""
    trials = json.loads(json.dumps(known(reports, "f1")))
    return Beside(trials, SimpleNamespace(metric="f1", maximize=maximize, objectives=objectives))


KNOWN = [ended([0.1 * at + 0.02 * epoch for epoch in range(8)]) for at in range(1, 6)]


def test_steps_count_from_the_first_epoch_with_the_loss():
    assert measured(ended([0.5, None, 0.7], skipped=3), "f1") == {0: 0.5, 2: 0.7}


@pytest.mark.parametrize(("level", "ends"), [(0.05, True), (0.25, True), (0.35, False), (0.9, False)])
def test_a_trial_below_the_median_ends_from_the_fourth_epoch(level, ends):
    one = beside(KNOWN)
    told = [one.report(epoch, level + 0.02 * epoch) for epoch in range(6)]
    assert told == [False] * 3 + [ends] * 3


def test_it_decides_as_the_study_of_a_single_process_does():
    study = optuna.create_study(direction="maximize", pruner=pruner())
    for report in KNOWN:
        trial = study.ask()
        for step, value in measured(report, "f1").items():
            trial.report(value, step)
        study.tell(trial, report["value"])
    for level in (0.0, 0.2, 0.29, 0.31, 0.4):
        trial, one = study.ask(), beside(KNOWN)
        for epoch in range(8):
            trial.report(level, epoch)
            assert one.report(epoch, level) == trial.should_prune()
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)


def test_less_is_better_and_few_trials_prune_nothing():
    assert beside(KNOWN, maximize=False).report(4, 0.9)
    assert not beside(KNOWN, maximize=False).report(4, 0.1)
    assert not beside(KNOWN[:3]).report(4, 0.0)
    assert not beside([*KNOWN[:3], {**KNOWN[3], "state": "pruned"}]).report(4, 0.0)


def test_further_objectives_keep_every_trial():
    assert not beside(KNOWN, objectives=("latency_ms",)).report(4, 0.0)
