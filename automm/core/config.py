"""Component configurations and their search ranges.

One declaration gives validation, documentation, the JSON schema that editors complete from, and the Optuna space::

    class Config(Fusion.Config):
        dropout: Annotated[float, Tune(0.0, 0.5)] = 0.1
        '''Share of features dropped in training.'''

What a field means stands below it, or under `Attributes:` in the docstring of its class.
"""

from __future__ import annotations

import inspect
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Self

import pydantic


class Tune:
    """The search range of a configuration field.

    Args:
        low: Smallest value (numbers).
        high: Largest value, inclusive (numbers).
        log: Sample on a logarithmic scale.
        step: Grid step for numbers.
        choices: Instead of `low`/`high`: the values to choose from (strings, numbers, booleans or None).

    Raises:
        ValueError: If the range is empty or mixes `choices` with bounds.
    """

    def __init__(
        self,
        low: float | None = None,
        high: float | None = None,
        *,
        log: bool = False,
        step: float | None = None,
        choices: Sequence[Any] | None = None,
    ) -> None:
        if choices is not None:
            if low is not None or high is not None or log or step is not None:
                raise ValueError("Tune takes either choices or low/high, not both")
            if not choices:
                raise ValueError("Tune(choices=[]) leaves nothing to choose from")
        else:
            if low is None or high is None:
                raise ValueError("Tune needs low and high, or choices")
            if not (math.isfinite(low) and math.isfinite(high)) or low > high:
                raise ValueError(f"Tune needs finite low <= high, got low={low}, high={high}")
            if log and low <= 0:
                raise ValueError(f"Tune(log=True) needs low > 0, got {low}")
            if step is not None and (step <= 0 or log):
                raise ValueError("Tune(step=...) must be positive and excludes log=True")
        self.low, self.high, self.log, self.step = low, high, log, step
        self.choices = tuple(choices) if choices is not None else None

    def __repr__(self) -> str:
        if self.choices is not None:
            return f"Tune(choices={list(self.choices)!r})"
        extra = (", log=True" if self.log else "") + (f", step={self.step}" if self.step else "")
        return f"Tune({self.low}, {self.high}{extra})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tune) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(repr(self))


class RecipePath:
    """Marks a text field that may name a file or folder.

    What exists relative to the recipe becomes an absolute path; anything else (a hub id, say) stays as it is::

        checkpoint: Annotated[str, RecipePath()] = ""
    """


class Config(pydantic.BaseModel):
    """Base of every component's configuration: frozen, JSON only, unknown keys refused."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False, protected_namespaces=()
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Gives fields without a docstring what the class says of them under `Attributes:`."""
        super().__pydantic_init_subclass__(**kwargs)
        said = attributes_of(cls.__doc__ or "")
        bare = [name for name, field in cls.model_fields.items() if not field.description and name in said]
        for name in bare:
            cls.model_fields[name].description = said[name]
        if bare:
            cls.model_rebuild(force=True, raise_errors=False)  # the schema was made before

    @classmethod
    def tunes(cls) -> dict[str, Tune]:
        """The fields with a search range, in the order of declaration."""
        found: dict[str, Tune] = {}
        for name, field in cls.model_fields.items():
            for item in field.metadata:
                if isinstance(item, Tune):
                    found[name] = item
        return found

    @classmethod
    def suggest(cls, trial: Any, prefix: str) -> dict[str, Any] | None:
        """Sample values with an Optuna trial; override it for spaces that depend on themselves.

        Args:
            trial: An `optuna.trial.Trial`.
            prefix: What every parameter name must begin with.

        Returns:
            Field values, or None to have automm sample the `Tune` annotations.
        """
        del trial, prefix
        return None

    @classmethod
    def migrate(cls, old: dict[str, Any]) -> dict[str, Any]:
        """Turns the fields that an earlier version of the component stored into those of this one.

        Override it when a field is renamed, split or removed: packages and runs then stay readable. What fields mean
        must stay the same; a processor that gives other arrays raises its `version` as well.

        Args:
            old: Fields as they are stored, plain JSON; of this version or of an earlier one. May be changed in place.

        Returns:
            Fields of this version.
        """
        return old

    @classmethod
    def stored(cls, fields: Mapping[str, Any]) -> Self:
        """Reads fields that were stored in a package or a run, maybe by an earlier version of the component.

        Raises:
            ValueError: If they do not fit, even after `migrate`.
        """
        return cls.model_validate(cls.migrate(dict(fields)))


def attributes_of(docstring: str) -> dict[str, str]:
    """What a Google-style docstring says under `Attributes:`.

    Returns:
        Name → text on one line.
    """
    _, heading, rest = inspect.cleandoc(docstring).partition("Attributes:\n")
    if not heading:
        return {}
    section = re.match(r"(?:[ \t]+.*\n?|\n)*", rest)
    lines = textwrap.dedent(section[0] if section else "").splitlines()
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        if start := re.match(r"(\w+)(?: \([^)]*\))?:\s*(.*)", line):
            name, found[start[1]] = start[1], start[2]
        elif name and line.startswith(" "):
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found
