"""The kit itself: its public face, and that every check fails on a component that breaks its rule."""

import broken_tasks  # noqa: F401  (fills BROKEN)
import pytest
from broken import BROKEN
from broken_compressors import SoundGraph, SoundModel, SoundStudent
from broken_encoders import SoundEncoder, toy_examples
from broken_fusions import Sound
from broken_learners import SoundLearner
from broken_losses import SoundLoss
from broken_objectives import SoundObjective
from needs_torch import Eager
from rude import Rude

from automm.errors import PluginError
from automm.testing import Check, checks_for, declarations, parametrize
from automm.testing.checks import CHECKS

BROKEN += [
    (Eager, "declares_without_torch", "importing needs_torch without torch, .*torch"),
    (Rude, "imports_quietly", r"it prints to standard output when it is imported \('hello'\).*random state of random"),
]


def kit(cls):
    return checks_for(cls, examples=toy_examples if cls.kind == "encoder" else None)


@pytest.mark.parametrize(("cls", "name", "message"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_component_fails_its_check(cls, name, message):
    checks = {check.name: check for check in kit(cls)}
    with pytest.raises(Exception, match=message):
        checks[name]()


def test_every_check_is_proven_to_fail():
    proven = {(cls.kind, name) for cls, name, _ in BROKEN}
    missing = {(kind, check.__name__) for kind, checks in CHECKS.items() for check in checks} - proven
    # Declarations are the same functions for every kind; one proof is enough.
    declared = {check.__name__ for check in (*declarations.CHECKS, *declarations.OPERATION_CHECKS)}
    assert declared <= {name for _, name in proven}
    assert {pair for pair in missing if pair[1] not in declared} == set()


SOUND = (
    Sound, SoundEncoder, SoundLearner, SoundLoss, SoundObjective, SoundGraph, SoundModel, SoundStudent,
)  # fmt: skip


@pytest.mark.parametrize("cls", SOUND)
def test_a_sound_component_passes(cls):
    for check in kit(cls):
        if check.name != "exports_a_graph":  # slow; the built-in components show it
            check()


def test_checks_are_named_functions():
    checks = checks_for(Sound)
    assert all(isinstance(check, Check) and callable(check.function) for check in checks)
    assert len({check.name for check in checks}) == len(checks)
    assert "padding_does_not_matter" in {check.name for check in checks}


def test_parametrize_marks_expected_failures():
    mark = parametrize(Sound, {"is_documented": "to be written"}).mark
    assert mark.args[0] == "check"
    parameters = {parameter.id: parameter for parameter in mark.args[1]}
    assert len(parameters) == len(checks_for(Sound))
    (xfail,) = parameters["fusion-sound-is_documented"].marks
    assert (xfail.name, xfail.kwargs) == ("xfail", {"reason": "to be written", "strict": True})
    assert not parameters["fusion-sound-registers"].marks


def test_parametrize_refuses_unknown_checks():
    with pytest.raises(ValueError, match=r"fusion 'sound' has no check 'padding' \(there are: registers, "):
        parametrize(Sound, {"padding": "…"})


def test_only_components_have_checks():
    with pytest.raises(PluginError, match="a component is a class that inherits from one of Modality"):
        checks_for(int)


def test_config_may_be_made_late():
    made = []

    def config():
        made.append(1)
        return {"hidden": 8}

    checks = {check.name: check for check in checks_for(Sound, config=config)}
    assert not made
    checks["gives_its_width"]()
    assert made == [1]


@parametrize(Sound, {"exports_a_graph": "left out: slow"})
def test_the_decorator_gives_checks(check):
    if check.name == "exports_a_graph":
        raise AssertionError("expected")
    assert isinstance(check, Check)
