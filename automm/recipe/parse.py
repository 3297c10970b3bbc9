"""Recipe text → normal form: one reader per key, all problems in one go."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from automm.plugin.loader import Plugins, load_plugins
from automm.plugin.registry import Registry
from automm.recipe.keys_compress import read_compress
from automm.recipe.keys_data import (
    check_columns,
    check_split,
    read_data,
    read_ignore,
    read_inputs,
    read_split,
    read_target,
)
from automm.recipe.keys_model import (
    check_objective,
    check_remedy,
    read_imbalance,
    read_metric,
    read_model,
    read_task,
    read_train,
)
from automm.recipe.keys_run import (
    read_export,
    read_log,
    read_plugins,
    read_require,
    read_search,
    read_seed,
    read_update,
)
from automm.recipe.model import Recipe
from automm.recipe.problems import InvalidRecipeError, Problem
from automm.recipe.walk import Walk
from automm.recipe.yaml import Document, Node, parse_document, read_document

KEYS: dict[str, Callable[[Walk, Node], Any]] = {
    "task": read_task,
    "data": read_data,
    "target": read_target,
    "inputs": read_inputs,
    "ignore": read_ignore,
    "split": read_split,
    "imbalance": read_imbalance,
    "model": read_model,
    "train": read_train,
    "metric": read_metric,
    "search": read_search,
    "require": read_require,
    "compress": read_compress,
    "export": read_export,
    "log": read_log,
    "plugins": read_plugins,
    "update": read_update,
    "seed": read_seed,
}
"""Key → its reader, in the order of reading: the task comes before what is checked against it."""

REQUIRED = {"data": "products.csv", "target": "price"}
"""Key that every recipe has → an example."""


def load_recipe(path: Path, registry: Registry) -> Recipe:
    """Reads a recipe file into its normal form.

    Args:
        path: The file.
        registry: The components that the recipe may name.

    Raises:
        RecipeError: With every problem of the file.
    """
    return parse_recipe(read_document(path), path, registry)


def load_recipe_text(text: str, path: Path, registry: Registry) -> Recipe:
    """The same for text; `path` is the file that it stands for (shown in problems, base of relative paths)."""
    return parse_recipe(parse_document(text, str(path)), path, registry)


def load_with_plugins(
    path: Path, *, block: Collection[str] = (), files: Collection[Path] = (), strict: bool = False
) -> tuple[Recipe, Plugins]:
    """Loads the installed plugins and those that the recipe names, then the recipe.

    Args:
        path: The recipe.
        block: Plugins to leave out.
        files: Local plugin files beside those of the recipe.
        strict: Raise if any plugin is broken or outdated.

    Raises:
        RecipeError: With every problem of the recipe, and the plugins that are not loaded.
        PluginError: If a local file cannot be loaded, or under `strict`.
    """
    document = read_document(path)
    named = [*files, *plugin_files(document, path.resolve().parent)]
    plugins = load_plugins(block=block, files=named, strict=strict)
    try:
        return parse_recipe(document, path, plugins.registry), plugins
    except InvalidRecipeError as invalid:
        raise InvalidRecipeError(invalid.problems, plugins.absent()) from None


def parse_recipe(document: Document, path: Path, registry: Registry) -> Recipe:
    """Turns a document into the recipe's normal form.

    Raises:
        RecipeError: With every problem of the file.
    """
    walk = Walk(document, path.resolve().parent, registry)
    nodes = walk.mapping(document.root, KEYS, "{data: products.csv, target: price}")
    values: dict[str, Any] = {}
    for key, read in KEYS.items():
        if key in nodes and (value := read(walk, nodes[key])) is not None:
            values[key] = value
    if isinstance(document.root.value, dict):
        for key in REQUIRED.keys() - nodes.keys() - walk.suggested:
            walk.problems.append(
                Problem(walk.file, 1, 1, key, f"is missing; add a line such as {key}: {REQUIRED[key]}")
            )
    check_columns(walk, nodes, values)
    check_split(walk, nodes, values)
    check_remedy(walk, nodes, values)
    check_objective(walk, nodes, values)
    if walk.problems:
        raise InvalidRecipeError(walk.problems)
    return Recipe(path=path, name=path.stem, **values)


def plugin_files(document: Document, folder: Path) -> list[Path]:
    """The local plugin files that a recipe names, checked to lie in its folder.

    Args:
        document: The recipe.
        folder: The recipe's folder, resolved.

    Raises:
        RecipeError: With every problem of the `plugins:` key.
    """
    root = document.root.value
    if not isinstance(root, dict) or "plugins" not in root:
        return []
    walk = Walk(Document(document.file, document.root), folder, Registry())
    files = read_plugins(walk, root["plugins"])
    if walk.problems:
        raise InvalidRecipeError(walk.problems)
    return [folder / file for file in files]
