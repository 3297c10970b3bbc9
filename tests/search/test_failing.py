"""Which components a search leaves out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from automm.trials import _failing

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
