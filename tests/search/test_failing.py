"""Which components a search leaves out, and which trials it takes over."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from automm.search.ladder import OPEN
from automm.trials import _ask, _failing

PLUGIN = "fusion 'router' of plugin acme (acme-automm 1.0): forward raised ValueError: no"
DEAR = "encoder 'hf_text': computing all rows would take about 170 s, the time budget of 240 s leaves 35 s for it"


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([PLUGIN], []),
        ([PLUGIN, PLUGIN], [("fusion", "router")]),
        ([DEAR], [("encoder", "hf_text")]),  # what is left only gets less
        (["accuracy is not defined on the validation rows"] * 3, []),
        ([None, PLUGIN, DEAR, PLUGIN], [("encoder", "hf_text"), ("fusion", "router")]),
    ],
)
def test_components_that_fail_again_or_are_too_dear(errors, expected):
    reports = [{"state": "failed" if error else "complete", "error": error} for error in errors]
    assert _failing(SimpleNamespace(reports=reports)) == expected


class Journal:
    """A study that lost its journal, beside the folders of its trials."""

    shared, rung = False, OPEN

    def __init__(self, left):
        self._left, self.name, self.told = left, "", []
        self.ladder = SimpleNamespace(at=lambda *_: (SimpleNamespace(name=OPEN), None))

    def others(self, known):
        return []

    def full(self):
        return False

    def ask(self, rung, given, *, attempt, failing):
        self.name = str(len(self.told))
        return {"seed": len(self.told)}

    def left(self, resolved):
        return self._left[len(self.told)] if len(self.told) < len(self._left) else None

    def tell(self, value, state, facts, name):
        self.told.append(name)


def state(trials):
    return SimpleNamespace(
        reports=[], ranks=SimpleNamespace(world=1), recipe=SimpleNamespace(search=None), train_deadline=None,
        plan=SimpleNamespace(trials=trials, metric="score"), climbing=(0.0, 0), exhausted=set(),
        stopping=lambda: False, better=lambda value, than: than is None or value > than, event=lambda *_, **__: None,
        plugins=SimpleNamespace(call=lambda *_, **__: None), warn=lambda *_: None,
    )  # fmt: skip


@pytest.mark.parametrize(("most", "taken", "asked"), [(None, 1500, ["1500"]), (4, 4, [])])
def test_trials_of_a_lost_journal_are_taken_over_within_the_budget(most, taken, asked):
    left = [
        {"name": str(at), "state": "complete", "value": 0.5, "resolved": {}, "error": None, "ended": "", "seconds": 1.0}
        for at in range(1500)
    ]
    run, study = state(2000), Journal(left)
    assert [one.name for one in _ask(run, study, most)] == asked
    assert len(study.told) == len(run.reports) == taken
