"""YAML with line numbers, by the core rules of YAML 1.2.

PyYAML composes the tree of nodes; this module reads the scalars (`1e-4` is a number, `no` is text, `017` is seventeen)
and refuses what a recipe has no use for: tags, repeated keys, several documents, and aliases that grow without bound.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import ReaderError

from automm.errors import RecipeError
from automm.recipe.problems import InvalidRecipeError, Problem

MOST_BYTES = 1_000_000
MOST_NODES = 20_000
MOST_DEPTH = 32

Place = tuple[int, int]
Scalar = str | int | float | bool | None

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_PREFIXED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LONGEST_NUMBER = 100
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

_HINTS = {
    "found character '\\t'": "a tab cannot stand here: indent with spaces",
    "found a tab character": "a tab cannot stand here: indent with spaces",
    "expected chomping or indentation indicators": 'a text that begins with ">" needs quotes: ">= 0.8"',
    "expected alphabetic or numeric character": 'a text that begins with "*" or "&" needs quotes: "*": tabular',
    "mapping values are not allowed here": "a ':' does not fit here: check the indentation, or put the text in quotes",
    "but found another document": "a recipe is one document: remove what follows '---'",
    "could not find expected ':'": "a ':' is missing after the key",
    "found undefined alias": "the alias (*name) has no anchor (&name) above it",
    "that cannot start any token": "a text that begins with this character needs quotes",
}
"""A part of PyYAML's message → what it means in a recipe."""


@dataclass(frozen=True)
class Node:
    """A value of the file with its place; aliases are expanded.

    Attributes:
        value: A scalar, a list of nodes, or a mapping from key (as written) to node.
        path: Keys and list positions that lead to it.
        place: Line and column of the value, from 1.
        key_place: Line and column of its key; None for list items and the whole document.
        text: A scalar as written, without quotes.
    """

    value: Scalar | list[Node] | dict[str, Node]
    path: tuple[str | int, ...]
    place: Place
    key_place: Place | None = None
    text: str = ""

    @property
    def at(self) -> Place:
        """Where a problem with it is shown: at its key, or at the list item."""
        return self.key_place or self.place

    @property
    def key(self) -> str:
        """The dotted key, without list positions."""
        return ".".join(part for part in self.path if isinstance(part, str))

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


@dataclass(frozen=True)
class Document:
    """A YAML file.

    Attributes:
        file: The file as the user named it.
        root: The whole document.
        problems: Problems that did not stop the reading: repeated keys.
    """

    file: str
    root: Node
    problems: tuple[Problem, ...] = ()

    @property
    def data(self) -> Any:
        """The document as plain data."""
        return self.root.plain()

    def node(self, path: tuple[str | int, ...]) -> Node:
        """The node at a path, or the nearest one above it that exists."""
        node = self.root
        for part in path:
            if isinstance(node.value, dict) and part in node.value:
                node = node.value[str(part)]
            elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
            else:
                break
        return node

    def place(self, path: tuple[str | int, ...], *, key: bool = False) -> Place:
        """Line and column, from 1, of the value at a path, or of its key."""
        node = self.node(path)
        return node.at if key else node.place

    def problem(self, path: tuple[str | int, ...], message: str) -> Problem:
        """A problem with the value at a path."""
        return Problem(
            self.file, *self.node(path).at, ".".join(part for part in path if isinstance(part, str)), message
        )


def read_document(file: Path) -> Document:
    """Reads a YAML file.

    Raises:
        RecipeError: If it cannot be read, is not UTF-8, too large, or not one plain YAML document.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except OSError as problem:
        raise RecipeError(f"{file}: cannot read the recipe: {problem.strerror}") from None
    if len(content) > MOST_BYTES:
        raise _invalid(str(file), (1, 1), f"a recipe of more than {MOST_BYTES:,} bytes is refused")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        before = problem.object[: problem.start].decode()
        message = f"byte 0x{problem.object[problem.start]:02x} is not UTF-8: save the recipe as UTF-8"
        raise _invalid(str(file), _place(before, len(before)), message) from None
    return parse_document(text, str(file))


def parse_document(text: str, file: str = "recipe.yaml") -> Document:
    """Reads YAML text; `file` is the name shown in problems.

    Raises:
        InvalidRecipeError: If it is not one plain YAML document.
    """
    if len(text) > MOST_BYTES:
        raise _invalid(file, (1, 1), f"a recipe of more than {MOST_BYTES:,} characters is refused")
    builder = _Builder(file)
    try:
        root = _Loader(text).get_single_node()
        if root is None:
            raise _RefusedError((1, 1), "the recipe is empty; `automm init TABLE` writes one")
        node = builder.build(root, (), None)
    except _RefusedError as refused:
        raise _invalid(file, refused.place, refused.message) from None
    except ReaderError as problem:
        message = f"the control character #x{problem.character:04x} is not allowed"
        raise _invalid(file, _place(text, problem.position), message) from None
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        raise _invalid(file, (mark.line + 1, mark.column + 1) if mark else (1, 1), _say(problem)) from None
    return Document(file, node, tuple(builder.problems))


def _invalid(file: str, place: Place, message: str) -> InvalidRecipeError:
    return InvalidRecipeError([Problem(file, *place, "", message)])


def _say(problem: yaml.MarkedYAMLError) -> str:
    said = problem.problem or str(problem)
    hint = next((hint for part, hint in _HINTS.items() if part in said), None)
    return f"{hint} ({said})" if hint else f"not YAML: {said}"


def _place(text: str, position: int) -> Place:
    before = text[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1


class _RefusedError(Exception):
    """YAML that a recipe has no use for."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place, self.message = place, message


class _Loader(yaml.SafeLoader):
    """Composes nodes, with a bound on the depth and without tags."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        place = (event.start_mark.line + 1, event.start_mark.column + 1)
        if getattr(event, "tag", None) is not None:
            raise _RefusedError(place, f"the tag {event.tag!r} is refused: a recipe is plain data")
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise _RefusedError(place, f"more than {MOST_DEPTH} levels of nesting are refused")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Builder:
    """Turns PyYAML's nodes into ours, expanding aliases up to a bound."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.nodes = 0

    def build(self, node: yaml.Node, path: tuple[str | int, ...], key_place: Place | None) -> Node:
        place = (node.start_mark.line + 1, node.start_mark.column + 1)
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise _RefusedError(place, f"more than {MOST_NODES:,} values, with aliases written out, are refused")
        if len(path) > MOST_DEPTH:
            raise _RefusedError(
                place, f"more than {MOST_DEPTH} levels of nesting, with aliases written out, are refused"
            )
        if isinstance(node, yaml.MappingNode):
            return Node(self.mapping(node, path), path, place, key_place)
        if isinstance(node, yaml.SequenceNode):
            items = [self.build(item, (*path, at), None) for at, item in enumerate(node.value)]
            return Node(items, path, place, key_place)
        assert isinstance(node, yaml.ScalarNode)
        self.printable(node)
        value = _scalar(node.value) if node.style is None else node.value
        return Node(value, path, place, key_place, node.value)

    def mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...]) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for key, value in node.value:
            place = (key.start_mark.line + 1, key.start_mark.column + 1)
            if not isinstance(key, yaml.ScalarNode):
                raise _RefusedError(place, "a key is a text, not a list or a mapping")
            self.printable(key)
            name = key.value
            dotted = ".".join(part for part in (*path, name) if isinstance(part, str))
            if name == "<<" and key.style is None:
                raise _RefusedError(place, "merge keys (<<) are not part of YAML 1.2: write the keys out")
            if name in found:
                first = found[name].at
                message = f"the key is repeated; it stands in line {first[0]} already"
                self.problems.append(Problem(self.file, *place, dotted, message))
                continue
            found[name] = self.build(value, (*path, name), place)
        return found

    @staticmethod
    def printable(node: yaml.ScalarNode) -> None:
        if found := _CONTROL.search(node.value):
            place = (node.start_mark.line + 1, node.start_mark.column + 1)
            raise _RefusedError(place, f"the control character #x{ord(found[0]):04x} is not allowed")


def _scalar(text: str) -> Scalar:
    """An unquoted scalar by the core schema; .inf, .nan and numbers out of range stay text, as no key takes them."""
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if len(text) > _LONGEST_NUMBER:
        return text
    if _DECIMAL.fullmatch(text):
        return int(text)
    if _PREFIXED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        number = float(text)
        return text if number in (float("inf"), float("-inf")) else number
    return text
