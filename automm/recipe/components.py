"""Components and their fields: a scalar is fixed, a list is searched, `{low, high, log}` is a range."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

import pydantic

from automm.core.config import Config, RecipePath
from automm.core.space import Choices, ComponentSpace, Fixed, Range, Space
from automm.plugin.blame import blamed
from automm.recipe.problems import unknown
from automm.recipe.walk import Walk, kind
from automm.recipe.yaml import Node

Misfit = Callable[[Any], str | None]
"""A component class → why the recipe cannot use it there."""

RANGE_KEYS = ("low", "high", "log", "step")


def read_components(walk: Walk, node: Node, what: str, misfit: Misfit) -> tuple[ComponentSpace, ...]:
    """Reads a name, `{name: …, field: …}`, or a list of these."""
    found: list[ComponentSpace] = []
    for item in walk.items(node):
        space = read_component(walk, item, what, misfit)
        if space in found:
            walk.add(item, f"{what} {space.name!r} is listed twice with the same fields")
        elif space is not None:
            found.append(space)
    return tuple(found)


def read_component(walk: Walk, node: Node, what: str, misfit: Misfit) -> ComponentSpace | None:
    """Reads a name or `{name: …, field: …}`; `what` is the kind of the component."""
    fields: dict[str, Node] = {}
    name = node
    if isinstance(node.value, dict):
        fields = {key: value for key, value in node.value.items() if key != "name"}
        if "name" not in node.value:
            walk.add(node, "`name` is missing; write {name: ..., field: ...}")
            return None
        name = node.value["name"]
    cls = walk.component(name, what)
    if cls is None:
        return None
    if reason := misfit(cls):
        walk.add(name, reason)
        return None
    with blamed(walk.registry, cls, "Config"):
        spaces = read_fields(walk, node, f"{what} {cls.name!r}", cls.Config, fields)
    return ComponentSpace(name=name.text, fields=spaces)


def read_fields(
    walk: Walk, owner: Node, what: str, config: type[Config], nodes: Mapping[str, Node]
) -> dict[str, Space]:
    """Reads the fields of a configuration and checks every value against it.

    Args:
        walk: The reading.
        owner: The node that holds the fields; missing required fields are reported there.
        what: What is configured, for messages.
        config: The configuration's class.
        nodes: Field → node.

    Returns:
        Field → value or range, for the fields without a problem.
    """
    before = len(walk.problems)
    spaces: dict[str, Space] = {}
    for name, node in nodes.items():
        if name not in config.model_fields:
            walk.add(node, unknown(f"field of {what}", name, list(config.model_fields)))
        elif (space := _space(walk, node, config, name)) is not None:
            spaces[name] = space
    if len(walk.problems) > before:
        return spaces
    for name, field in config.model_fields.items():
        if field.is_required() and name not in nodes and name not in config.tunes():
            about = f": {field.description}" if field.description else ""
            walk.add(owner, f"{what} needs the field {name!r}{about}")
            return spaces
    fixed = {name: space.value for name, space in spaces.items() if isinstance(space, Fixed)}
    if len(fixed) == len(spaces) and (message := _invalid(config, fixed, ())):
        walk.add(owner, f"{what}: {message}")
    return spaces


def _space(walk: Walk, node: Node, config: type[Config], name: str) -> Space | None:
    field_types = set(leaf_types(config.model_fields[name].annotation))
    numeric = bool(field_types & {int, float})
    if isinstance(node.value, dict) and numeric:
        return _range(walk, node, config, name, integer=float not in field_types)
    if isinstance(node.value, dict) and "low" in node.value and not field_types & {dict, Any}:
        walk.add(node, "takes no range: list the values to search over")
        return None
    if isinstance(node.value, list):
        whole, message = _value(walk, node, config, name)
        lists = [isinstance(item.value, list) for item in node.value]
        if field_types & {list, tuple, set, frozenset, Any}:
            if not message:
                return Fixed(value=whole)
            if not (lists and all(lists)):
                walk.add(node, message)
                return None
        return _choices(walk, node, config, name)
    value, message = _value(walk, node, config, name)
    if message:
        walk.add(node, message)
        return None
    return Fixed(value=value)


def _choices(walk: Walk, node: Node, config: type[Config], name: str) -> Space | None:
    values: list[Any] = []
    before = len(walk.problems)
    for item in walk.items(node):
        value, message = _value(walk, item, config, name)
        if message:
            walk.add(item, message)
        elif any(value == other and type(value) is type(other) for other in values):
            walk.add(item, f"{item.text or value!r} is listed twice")
        else:
            values.append(value)
    if len(walk.problems) > before:
        return None
    return Fixed(value=values[0]) if len(values) == 1 else Choices(values=tuple(values))


def _range(walk: Walk, node: Node, config: type[Config], name: str, *, integer: bool) -> Range | None:
    before = len(walk.problems)
    parts = walk.mapping(node, RANGE_KEYS, "{low: 0.1, high: 0.5}")
    bounds = {}
    for key in ("low", "high"):
        if key in parts:
            bounds[key], message = _value(walk, parts[key], config, name)
            if message or isinstance(bounds[key], bool) or not isinstance(bounds[key], int | float):
                walk.add(parts[key], message or f"must be a number, not {kind(parts[key])}")
    if len(walk.problems) > before:
        return None
    if len(bounds) < 2:
        walk.add(node, "a range needs both low and high")
        return None
    log = False
    if "log" in parts:
        if not isinstance(parts["log"].value, bool):
            walk.add(parts["log"], f"must be true or false, not {kind(parts['log'])}")
            return None
        log = parts["log"].value
    step = None
    if "step" in parts:
        step = walk.number(parts["step"], "a number above 0")
        if step is None:
            return None
        if step <= 0 or (integer and step != int(step)):
            walk.add(parts["step"], f"must be a {'whole ' * integer}number above 0, got {parts['step'].text}")
            return None
    low, high = bounds["low"], bounds["high"]
    if low > high:
        walk.add(node, f"the range is empty: low {low} is above high {high}")
    elif log and low <= 0:
        walk.add(node, f"log: true needs low above 0, got {low}")
    elif log and step is not None:
        walk.add(node, "log: true and step exclude each other")
    else:
        return Range(low=low, high=high, log=log, step=step, integer=integer)
    return None


def _value(walk: Walk, node: Node, config: type[Config], name: str) -> tuple[Any, str]:
    """The node's value as the field takes it, and what is wrong with it ("" if nothing).

    A number that the field does not take is tried as a whole number (1e3) and as text (`precision: 32`).
    """
    value = node.plain()
    tries = [value]
    if isinstance(value, float) and value.is_integer():
        tries.append(int(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        tries.append(node.text)
    for candidate in tries:
        if not _invalid(config, {name: candidate}, (name,)):
            return _located(walk, config, name, candidate)
    return value, _invalid(config, {name: value}, (name,))


def _located(walk: Walk, config: type[Config], name: str, value: Any) -> tuple[Any, str]:
    """A `RecipePath` field's value as an absolute path, if it names something relative to the recipe."""
    marked = any(isinstance(mark, RecipePath) for mark in config.model_fields[name].metadata)
    if not marked or not isinstance(value, str):
        return value, ""
    path = walk.folder / value
    if value and path.exists():
        return str(path.resolve()), ""
    if value.startswith(("./", "../", "/")):
        return value, f"{value} does not exist (paths start at the recipe's folder)"
    return value, ""


def _invalid(config: type[Config], values: Mapping[str, Any], place: tuple[str, ...]) -> str:
    """What a configuration says against values, looking only at errors that stand at `place`."""
    try:
        config.model_validate_json(json.dumps(values), strict=True)
    except pydantic.ValidationError as problem:
        errors = [e for e in problem.errors() if tuple(e["loc"][: len(place)]) == place and e["type"] != "missing"]
        messages = list(dict.fromkeys(_say(error, config) for error in errors))
        return ", or ".join(messages)
    return ""


def _say(error: Any, config: type[Config]) -> str:
    value, context = error["input"], error.get("ctx", {})
    shown = "" if isinstance(value, dict | list) else f", got {json.dumps(value, ensure_ascii=False)}"
    if error["type"] == "literal_error" and isinstance(value, str):
        return unknown("value", value, re.findall(r"'([^']*)'", context["expected"]))
    if error["type"] in ("value_error", "assertion_error"):
        return f"{context['error']}"
    if error["type"] == "string_pattern_mismatch":
        description = config.model_fields[str(error["loc"][0])].description or f"must match {context['pattern']}"
        return f"{description.rstrip('.')}{shown}"
    message = re.sub(
        r"^(Input|String|List|Tuple|Dictionary|Value) should (be a valid|be|have|match)", r"must \2", error["msg"]
    )
    names = {"integer": "whole number", "string": "text", "boolean": "truth value (true or false)"}
    message = re.sub(r"be a valid (integer|string|boolean)", lambda m: f"be a {names[m[1]]}", message)
    return f"{message.replace('be a valid', 'be a')}{shown}"


def leaf_types(annotation: Any) -> Iterator[Any]:
    """The types in an annotation, without `Annotated`, `Optional` and unions: `list[int] | None` → list, NoneType."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from leaf_types(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from leaf_types(part)
    else:
        yield origin or annotation
