"""Points and ranges of a search space, as recipes write them and plans list them."""

from __future__ import annotations

from typing import Any, Literal

import pydantic

ANY = "any"
"""The name in a recipe that stands for all components that suit."""

NONE = "none"
"""The name in a recipe that stands for no component."""

JSON = str | int | float | bool | None | list[Any] | dict[str, Any]


class _Frozen(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Fixed(_Frozen):
    """One value."""

    kind: Literal["fixed"] = "fixed"
    value: JSON


class Choices(_Frozen):
    """A list of values to choose from."""

    kind: Literal["choices"] = "choices"
    values: tuple[JSON, ...]


class Range(_Frozen):
    """All numbers between two bounds, both included."""

    kind: Literal["range"] = "range"
    low: float
    high: float
    log: bool = False
    step: float | None = None
    integer: bool = False


Space = Fixed | Choices | Range


class ComponentSpace(_Frozen):
    """One candidate component with what is fixed and what is searched of its fields; other fields keep their default.

    Attributes:
        name: Component name (`owner:name` where two plugins share a name).
        fields: Field → value or range.
    """

    name: str
    fields: dict[str, Space] = {}
