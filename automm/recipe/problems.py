"""What is wrong with a recipe, said with file, line and column, and all of it in one go."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from automm.errors import RecipeError

MOST_NAMES = 16


@dataclass(frozen=True, order=True)
class Problem:
    """One problem of a recipe.

    Attributes:
        file: The recipe as the user named it.
        line: Line, from 1.
        column: Column, from 1.
        key: Dotted key ("model.fusion"); empty for the file as a whole.
        message: What is wrong and how to fix it.
    """

    file: str
    line: int
    column: int
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        return f"{where} {self.key}: {self.message}" if self.key else f"{where} {self.message}"

    def json(self) -> dict[str, Any]:
        """The problem as plain JSON."""
        return asdict(self)


class InvalidRecipeError(RecipeError):
    """All problems of a recipe; the message has one line for each, in the order of the file.

    Attributes:
        problems: The problems, sorted by line.
        notes: Lines that may explain them (plugins that are not loaded).
    """

    located = True

    def __init__(self, problems: Iterable[Problem], notes: Iterable[str] = ()) -> None:
        self.problems = tuple(sorted(set(problems)))
        self.notes = tuple(notes)
        super().__init__("\n".join([*map(str, self.problems), *self.notes]))


def nearest(word: str, names: Collection[str]) -> str | None:
    """The name that `word` was probably meant to be, None if none is near."""
    near = difflib.get_close_matches(word.lower(), list(names), 1, 0.6)
    longer = [name for name in names if len(word) > 2 and name.startswith(word.lower())]
    return near[0] if near else longer[0] if longer else None


def unknown(what: str, word: str, names: Collection[str]) -> str:
    """`unknown fusion 'gatd'; did you mean 'gated'? (concat, gated, …)`."""
    names = list(names)
    near = nearest(word, names)
    shown = ", ".join(names[:MOST_NAMES]) + (", …" if len(names) > MOST_NAMES else "")
    hint = f"did you mean {near!r}? ({shown})" if near else f"there are: {shown or 'none'}"
    return f"unknown {what} {word!r}; {hint}"
