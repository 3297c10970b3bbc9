"""Readers of the keys about the data: `data`, `target`, `inputs`, `ignore`, `split`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from automm.recipe.model import DataSpec, InputSpec, SplitSpec, TargetSpec
from automm.recipe.problems import unknown
from automm.recipe.walk import Walk, kind
from automm.recipe.yaml import Node

REST = "*"
"""The input name that stands for all columns not named elsewhere."""

METHODS = ("random", "group", "time")


def read_data(walk: Walk, node: Node) -> DataSpec | None:
    """`data:` a path, a list of paths, or {train, valid, test, unlabeled, max_bad_rows}."""
    if not isinstance(node.value, dict):
        return DataSpec(train=_files(walk, node))
    keys = ("train", "valid", "test", "unlabeled")
    parts = walk.mapping(node, (*keys, "max_bad_rows"), "{train: products.csv, test: holdout.csv}")
    values: dict[str, Any] = {key: _files(walk, parts[key]) for key in keys if key in parts}
    if "max_bad_rows" in parts and (share := walk.number(parts["max_bad_rows"], "a share from 0 to 1")) is not None:
        values["max_bad_rows"] = share
        if not 0 <= share <= 1:
            walk.add(parts["max_bad_rows"], f"must be a share from 0 to 1, got {share}")
    if "train" in parts:
        return DataSpec(**values)
    if "train" not in walk.suggested and node.value:
        walk.add(node, "`train` is missing")
    return None


def _files(walk: Walk, node: Node) -> tuple[str, ...]:
    files = walk.texts(node, "a path")
    for file in files:
        if file.startswith("hf://"):
            if len(files) > 1:
                walk.add(node, f"{file} cannot be joined with other files")
            elif not file.removeprefix("hf://").strip("/:"):
                walk.add(node, "write hf://name or hf://name:config")
        elif re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", file):
            walk.add(node, f"{file} is a URL; download it and name the file (only hf:// is fetched)")
    return files


def read_target(walk: Walk, node: Node) -> TargetSpec | None:
    """`target:` a column, a list of columns, or {column, separator}."""
    if not isinstance(node.value, dict):
        return TargetSpec(columns=walk.texts(node, "a column"))
    parts = walk.mapping(node, ("column", "separator"), '{column: labels, separator: "|"}')
    separator = parts["separator"].value if "separator" in parts else None
    if "separator" in parts and not (isinstance(separator, str) and separator):
        walk.add(parts["separator"], f'must be a text such as "|", not {kind(parts["separator"])}')
    if "column" not in parts:
        if "column" not in walk.suggested and node.value:
            walk.add(node, "`column` is missing")
        return None
    column = walk.text(parts["column"], "a column")
    return TargetSpec(columns=(column,), separator=str(separator) if separator else None) if column else None


def read_inputs(walk: Walk, node: Node) -> tuple[InputSpec, ...]:
    """`inputs:` name → modality, columns, {modality, columns}, or nothing (all inferred)."""
    walk.inputs = {}
    found = []
    for name, value in walk.mapping(node, None, "{title: text, photo: image}").items():
        if not name.strip():
            walk.add(value, "an input needs a name")
            continue
        modality: str | None = None
        columns: tuple[str, ...] = ()
        walk.inputs[name] = None
        if isinstance(value.value, dict):
            parts = walk.mapping(value, ("modality", "column", "columns"), "{modality: text, column: title}")
            if "modality" in parts:
                modality = _modality(walk, parts["modality"], name)
            if "column" in parts and "columns" in parts:
                walk.add(parts["columns"], "write either `column` or `columns`")
            elif "column" in parts:
                column = walk.text(parts["column"], "a column")
                columns = (column,) if column else ()
            elif "columns" in parts:
                columns = walk.texts(parts["columns"], "a column")
        elif isinstance(value.value, list):
            columns = walk.texts(value, "a column")
        elif value.value is not None:
            modality = _modality(walk, value, name)
        if name == REST and columns:
            walk.add(value, '"*" stands for all columns not named elsewhere: leave the columns out')
        found.append(InputSpec(name=name, modality=modality, columns=columns))
    return tuple(found)


def _modality(walk: Walk, node: Node, name: str) -> str | None:
    """Checks the modality's (or one of its types') name and remembers its class for the encoders."""
    names = {known: walk.registry.get("modality", known) for known in walk.registry.names("modality")}
    for cls in list(names.values()):
        for type_name in cls.types:
            names.setdefault(type_name, cls)
    found = walk.text(node, "a modality")
    if found is None:
        return None
    if found not in names and (":" in found or found in walk.registry.entries["modality"]):
        own = walk.component(node, "modality")  # `owner:name`; or it notes that two plugins offer it
        if own is not None and walk.inputs is not None:
            walk.inputs[name] = own
    elif found not in names:
        walk.add(node, unknown("modality", found, names))
    elif walk.inputs is not None:
        walk.inputs[name] = names[found]
    return found


def read_ignore(walk: Walk, node: Node) -> tuple[str, ...]:
    """`ignore:` a column or a list of columns."""
    return walk.texts(node, "a column")


def read_split(walk: Walk, node: Node) -> SplitSpec | None:
    """`split:` random, {group: column}, {time: column} or {method, column, valid, test}."""
    if not isinstance(node.value, dict):
        method = walk.choice(node, "split", METHODS)
        if method in ("group", "time"):
            walk.add(node, f"a {method} split needs a column: {{{method}: column}}")
        return SplitSpec()
    parts = walk.mapping(node, ("method", "column", "group", "time", "valid", "test"), "{group: seller_id}")
    values: dict[str, Any] = {}
    for key in ("valid", "test"):
        if key in parts and (share := walk.number(parts[key], "a share between 0 and 1")) is not None:
            if 0 < share < 1 or (key == "test" and share == 0):
                values[key] = share
            else:
                walk.add(parts[key], f"must be a share between 0 and 1, got {parts[key].text}")
    if values.get("valid", 0.2) + values.get("test", 0.0) >= 1:
        walk.add(node, "valid and test leave no rows to train on")
    ways = [key for key in ("method", "group", "time") if key in parts]
    if len(ways) > 1:
        walk.add(node, f"{' and '.join(ways)} exclude each other: write {{group: column}} or {{time: column}}")
        return None
    if "method" in parts:
        method, column = walk.choice(parts["method"], "split", METHODS), parts.get("column")
    elif ways:
        method, column = ways[0], parts[ways[0]]
        if "column" in parts:
            walk.add(parts["column"], f"the column stands at `{method}` already")
    else:
        method, column = "random", parts.get("column")
    if method == "random" and column is not None:
        walk.add(column, "a random split takes no column")
    elif method in ("group", "time"):
        if column is None and "column" not in walk.suggested:
            walk.add(node, f"a {method} split needs a column: {{{method}: column}}")
        elif column is not None:
            values["column"] = walk.text(column, "a column")
    return None if method is None else SplitSpec.model_validate({"method": method, **values})


def check_columns(walk: Walk, nodes: Mapping[str, Node], values: Mapping[str, Any]) -> None:
    """Notes columns that stand under two keys that exclude each other."""
    target = values["target"].columns if "target" in values else ()
    ignored = values.get("ignore", ())
    for item in walk.items(nodes["ignore"]) if ignored else ():
        if item.text in target:
            walk.add(item, f"{item.text!r} is the target")
    for spec in values.get("inputs", ()):
        node = walk.mapping(nodes["inputs"], None, "")[spec.name]
        for column in spec.columns or (spec.name,):
            if column in target:
                walk.add(node, f"{column!r} is the target, which an input must not show")
            elif column in ignored:
                walk.add(node, f"{column!r} stands under `ignore` too")


def check_split(walk: Walk, nodes: Mapping[str, Node], values: Mapping[str, Any]) -> None:
    """Notes a `split:` that the tables named under `data:` leave without effect."""
    data, split = values.get("data"), values.get("split")
    if data is None or split is None:
        return
    parts = nodes["split"].value if isinstance(nodes["split"].value, dict) else {}
    if data.test and split.test > 0:
        walk.add(parts["test"], "`data` names a test table already: leave this out")
    elif data.valid and split.test == 0:
        walk.add(nodes["split"], "has no effect, as `data` names a valid table: leave one of them out")
    elif data.valid and "valid" in parts:
        walk.add(parts["valid"], "`data` names a valid table already: leave this out")
