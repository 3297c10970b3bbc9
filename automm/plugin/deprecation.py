"""How names of `automm.api` go away: first a warning that says when and what to write, then the name."""

from __future__ import annotations

import warnings
from typing import NamedTuple


class RemovedInAutomm2Warning(DeprecationWarning):
    """A plugin uses something that automm 2.0 will not have any more."""


class Renamed(NamedTuple):
    """A name that has another one now.

    Attributes:
        new: What to write in its place.
        since: The version of automm that has the new name.
    """

    new: str
    since: str


RENAMED: dict[str, Renamed] = {}
"""Old name of `automm.api` → its new one. An entry stays here until the next major version."""


def warn_removed(what: str, instead: str, since: str, stacklevel: int = 2) -> None:
    """Warns the author of a plugin.

    Args:
        what: What goes away ("automm.api.Feature").
        instead: What to write in its place.
        since: The version of automm that deprecated it.
        stacklevel: As for `warnings.warn`: 2 shows the line that called the caller.
    """
    text = f"{what} is deprecated since automm {since} and is removed in automm 2.0: write {instead}"
    warnings.warn(text, RemovedInAutomm2Warning, stacklevel=stacklevel + 1)
