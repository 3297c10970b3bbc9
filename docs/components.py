"""Writes docs/components.md, the reference of every built-in component, from the registry.

python docs/components.py            # writes the page
python docs/components.py --check    # says whether it is up to date
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from automm.core.component import Component
from automm.core.config import Config, Tune
from automm.plugin.loader import load_plugins

PAGE = Path(__file__).parent / "components.md"
KINDS = {
    "modality": "Modalities",
    "encoder": "Encoders",
    "fusion": "Fusions",
    "loss": "Losses",
    "objective": "Objectives",
    "task": "Tasks",
    "exporter": "Exporters",
}
HEAD = """# Components

Every component that comes with automm, with its fields: made from the code by `python docs/components.py`. Recipes name
components under `task`, `model` and `export`; see [the recipe](recipe.md). `automm plugins list` shows what your
installation has, plugins of others included.

A field with a range is searched over it when the recipe has a `search:` block and does not say otherwise.
"""


def page() -> str:
    """The page."""
    registry = load_plugins().registry
    parts = [HEAD]
    for kind, heading in KINDS.items():
        parts.append(f"## {heading}\n")
        entries = [entry for entry in registry.all(kind) if entry.owner.distribution == "automm"]
        parts += [section(entry.cls) for entry in entries]
    return "\n".join(parts)


def section(cls: type[Any]) -> str:
    """One component: what it is, what it fits, its fields."""
    lines = [f"### `{cls.name}`\n", summary(cls), ""]
    lines += facts(cls)
    fields = table(cls.Config)
    return "\n".join([*lines, *fields])


def summary(cls: type[Component]) -> str:
    """The first paragraph of the docstring, on one line."""
    return " ".join(inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].split())


def facts(cls: type[Any]) -> list[str]:
    """What the class says of itself beside its fields."""
    found = []
    if cls.kind == "modality" and cls.types:
        found.append(f"Finer types: {listed(cls.types)}.")
    if cls.kind == "encoder":
        found.append(f"Modality: `{cls.modality}`.")
    if cls.kind == "fusion":
        found.append(f"Gives: {listed(sorted(cls.gives))}.")
    if cls.kind == "loss":
        remedy = f" Remedy against imbalance: `{cls.remedy}`." if cls.remedy else ""
        found.append(f"Targets: {listed(sorted(cls.targets))}.{remedy}")
    if cls.kind == "task":
        found.append(f"Metrics, the first is the default: {listed(cls.metric_names())}.")
    return [" ".join(found), ""] if found else []


def table(config: type[Config]) -> list[str]:
    """The fields of a configuration as a table; nothing if there are none."""
    if not config.model_fields:
        return []
    rows = ["| field | meaning | default | searched |", "|---|---|---|---|"]
    tunes = config.tunes()
    for name, field in config.model_fields.items():
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        default = "required" if field.is_required() else shown(field.get_default(call_default_factory=True))
        rows.append(f"| `{name}` | {meaning} | {default} | {searched(tunes.get(name))} |")
    return [*rows, ""]


def shown(value: object) -> str:
    """A default as the recipe would write it."""
    words = {None: "none given", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    return str(value) if value not in ("", (), {}) else "empty"


def searched(tune: Tune | None) -> str:
    """A search range in words."""
    if tune is None:
        return ""
    if tune.choices is not None:
        return ", ".join(shown(choice) for choice in tune.choices)
    return f"{tune.low:g} to {tune.high:g}{' (logarithmic)' if tune.log else ''}"


def listed(names: Any) -> str:
    """Names in code marks, separated by commas."""
    return ", ".join(f"`{name}`" for name in names)


def main() -> int:
    """Writes or checks the page."""
    text = re.sub(r"\n{3,}", "\n\n", page()).rstrip() + "\n"
    if "--check" in sys.argv:
        fresh = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        print("up to date" if fresh else f"{PAGE} is outdated: run python docs/components.py")
        return 0 if fresh else 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
