"""Which checks a component goes through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from automm.core.component import Component
from automm.core.kinds import Examples
from automm.plugin.registry import kind_of
from automm.testing import (
    compressors,
    declarations,
    encoders,
    exporters,
    fusions,
    learners,
    losses,
    modalities,
    objectives,
    processors,
    tasks,
)
from automm.testing.subject import Subject

CHECKS: dict[str, tuple[Callable[[Subject], None], ...]] = {
    "modality": (*declarations.CHECKS, *modalities.CHECKS),
    "encoder": (*declarations.CHECKS, *processors.CHECKS, *encoders.CHECKS),
    "fusion": (*declarations.CHECKS, *fusions.CHECKS),
    "learner": (*declarations.CHECKS, *learners.CHECKS),
    "loss": (*declarations.CHECKS, *losses.CHECKS),
    "objective": (*declarations.CHECKS, *objectives.CHECKS),
    "task": (*declarations.CHECKS, *tasks.CHECKS),
    "compressor": (*declarations.CHECKS, *compressors.CHECKS),
    "exporter": (*declarations.CHECKS, *exporters.CHECKS),
    "processor": declarations.OPERATION_CHECKS,
    "decoder": declarations.OPERATION_CHECKS,
}
"""Kind → its checks. Processors and decoders are tried through the encoders and tasks that use them."""


class Check(NamedTuple):
    """One check of one component.

    Attributes:
        name: What it checks; stable, for `expected_failures`.
        function: Raises AssertionError, with the broken rule and the values, if the component fails.
    """

    name: str
    function: Callable[[], None]

    def __call__(self) -> None:
        """Runs it."""
        self.function()


def checks_for(
    cls: type[Component],
    *,
    config: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
    examples: Callable[[int, int], Examples] | None = None,
) -> list[Check]:
    """The checks of a component.

    Args:
        cls: The component class.
        config: Fields of the configuration to try it with, or a function that gives them; by default the defaults.
        examples: For an encoder whose modality is not installed: count and seed → examples.

    Raises:
        PluginError: If `cls` is no component.
    """
    subject = Subject(cls, config or {}, examples)
    return [Check(check.__name__, lambda check=check: check(subject)) for check in CHECKS[kind_of(cls)]]  # type: ignore[misc]


def parametrize(
    cls: type[Component],
    expected_failures: Mapping[str, str] | None = None,
    *,
    config: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
    examples: Callable[[int, int], Examples] | None = None,
) -> Any:
    """A decorator that runs a pytest function once per check, as its argument `check`.

    Args:
        cls: The component class.
        expected_failures: Check name → why it fails; such a check must fail (strict xfail).
        config: As for `checks_for`.
        examples: As for `checks_for`.

    Raises:
        ValueError: If `expected_failures` names a check that does not exist.
    """
    import pytest

    checks = checks_for(cls, config=config, examples=examples)
    excused = dict(expected_failures or {})
    if unknown := sorted(set(excused) - {check.name for check in checks}):
        names = ", ".join(check.name for check in checks)
        raise ValueError(f"expected_failures: {cls.kind} {cls.name!r} has no check {unknown[0]!r} (there are: {names})")
    marks = {name: [pytest.mark.xfail(reason=reason, strict=True)] for name, reason in excused.items()}
    parameters = [
        pytest.param(check, id=f"{cls.kind}-{cls.name}-{check.name}", marks=marks.get(check.name, ()))
        for check in checks
    ]
    return pytest.mark.parametrize("check", parameters)
