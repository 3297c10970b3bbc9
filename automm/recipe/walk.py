"""What every key's reader needs: the names it may use, and a place to put problems."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from automm.core.component import Component
from automm.errors import PluginError
from automm.plugin.blame import blamed
from automm.plugin.registry import Registry
from automm.recipe.problems import Problem, nearest, unknown
from automm.recipe.yaml import Document, Node


class Walk:
    """One reading of a recipe.

    The helpers return what they read, or note a problem and return an empty value, so a reader goes on to the next key.

    Attributes:
        file: The recipe as the user named it.
        folder: The recipe's folder, resolved.
        registry: Where component names are looked up.
        problems: What was found so far.
        suggested: Known keys that an unknown key was probably meant to be: they are not reported as missing.
        task: The task that the recipe names.
        inputs: Input name → modality class, None where the modality is to be inferred; None: no `inputs:` block.
    """

    def __init__(self, document: Document, folder: Path, registry: Registry) -> None:
        self.file = document.file
        self.folder = folder
        self.registry = registry
        self.problems: list[Problem] = list(document.problems)
        self.suggested: set[str] = set()
        self.task: type[Any] | None = None
        self.inputs: dict[str, type[Any] | None] | None = None

    def add(self, node: Node, message: str, key: str | None = None) -> None:
        """Notes a problem with a node; `key` is shown in place of the node's own."""
        self.problems.append(Problem(self.file, *node.at, node.key if key is None else key, message))

    def mapping(self, node: Node, keys: Collection[str] | None, example: str) -> dict[str, Node]:
        """The entries of a mapping whose keys must be among `keys` (None: any)."""
        if not isinstance(node.value, dict):
            self.add(node, f"must be a mapping such as {example}, not {kind(node)}")
            return {}
        if not node.value:
            self.add(node, f"is empty; write {example} or leave the key out")
        found = {}
        for key, value in node.value.items():
            if keys is None or key in keys:
                found[key] = value
            else:
                self.suggested.add(nearest(key, keys) or "")
                self.add(value, unknown("key", key, keys))
        return found

    def items(self, node: Node) -> list[Node]:
        """The items of a list, or one value as a list of it."""
        if not isinstance(node.value, list):
            return [node]
        if not node.value:
            self.add(node, "the list is empty; name at least one, or leave the key out")
        return node.value

    def text(self, node: Node, what: str) -> str | None:
        """A name or path: any scalar, as it is written (2020 is the column "2020")."""
        if isinstance(node.value, list | dict) or node.value is None:
            self.add(node, f"must be {what}, not {kind(node)}")
            return None
        if not node.text.strip():
            self.add(node, f"must be {what}, not an empty text")
            return None
        return node.text

    def texts(self, node: Node, what: str) -> tuple[str, ...]:
        """One name or a list of different names."""
        found: list[str] = []
        for item in self.items(node):
            text = self.text(item, what)
            if text in found:
                self.add(item, f"{text!r} is listed twice")
            elif text is not None:
                found.append(text)
        return tuple(found)

    def choice(self, node: Node, what: str, names: Collection[str]) -> str | None:
        """One name out of `names`."""
        text = self.text(node, f"the name of a {what}")
        if text is not None and text not in names:
            self.add(node, unknown(what, text, names))
            return None
        return text

    def choices(self, node: Node, what: str, names: Collection[str]) -> tuple[str, ...]:
        """One or several different names out of `names`."""
        found: list[str] = []
        for item in self.items(node):
            text = self.choice(item, what, names)
            if text in found:
                self.add(item, f"{text!r} is listed twice")
            elif text is not None:
                found.append(text)
        return tuple(found)

    def number(self, node: Node, what: str) -> float | None:
        """A number, not a truth value."""
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            self.add(node, f"must be {what}, not {kind(node)}")
            return None
        return node.value

    def whole(self, node: Node, low: int, high: int) -> int | None:
        """A whole number between two bounds, both included."""
        what = f"a whole number from {low} to {high}"
        number = self.number(node, what)
        if number is not None and (not low <= number <= high or number != int(number)):
            self.add(node, f"must be {what}, got {node.text}")
            return None
        return None if number is None else int(number)

    def component(self, node: Node, kind: str) -> type[Component] | None:
        """The component class that a scalar names."""
        name = self.text(node, f"the name of a {kind}")
        if name is None:
            return None
        try:
            return self.registry.entry(kind, name).cls
        except PluginError as problem:
            known = self.registry.entries[kind].get(name.rpartition(":")[2])
            ambiguous = known and ":" not in name
            self.add(node, str(problem) if ambiguous else unknown(kind, name, self.registry.names(kind)))
            return None

    def metrics(self) -> dict[str, bool]:
        """Metric name → larger is better, of the named task or of all tasks."""
        return metric_names(self.registry, self.task)


def metric_names(registry: Registry, task: Any = None) -> dict[str, bool]:
    """Metric name → larger is better, of one task or of all."""
    found: dict[str, bool] = {}
    tasks: list[Any] = [task] if task else [entry.cls for entry in registry.all("task")]
    for cls in tasks:
        with blamed(registry, cls, "metric_names"):
            found.update(cls.metric_names())
    return found


def kind(node: Node) -> str:
    """What a value is, for messages."""
    if isinstance(node.value, dict):
        return "a mapping"
    if isinstance(node.value, list):
        return "a list"
    if node.value is None:
        return "nothing"
    if isinstance(node.value, bool):
        return f"the truth value {node.text}"
    return f"{node.text!r}" if isinstance(node.value, str) else f"the number {node.text}"
