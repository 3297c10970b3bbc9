"""Writing a new distribution from the templates beside this file."""

from __future__ import annotations

import importlib.util
import keyword
import re
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import NamedTuple

import automm
from automm.api import AUTOMM_API
from automm.core.component import snake
from automm.errors import UsageError
from automm.plugin.loader import load_plugins

KINDS = ("encoder", "fusion", "loss", "objective", "learner", "task", "modality", "compressor", "exporter")
"""What can be made; a processor comes with its encoder, a decoder with its task."""
WITH = {"processor": "encoder", "decoder": "task"}
"""Kind → the kind that it comes with."""
LICENCES = ("Apache-2.0", "MIT", "BSD-3-Clause")
OPERATIONS = {"encoder": "Processor", "modality": "Processor", "task": "Decoder"}
"""Kind → what of it a package names."""
LAYOUT = {
    "pyproject.toml": "common/pyproject.toml",
    "README.md": "common/README.md",
    ".gitignore": "common/gitignore",
    ".github/workflows/ci.yml": "common/ci.yml",
    "make_data.py": "common/make_data.py",
    "recipe.yaml": "recipes/{kind}.yaml",
    "src/{package}/__init__.py": "components/{kind}.py",
    "tests/test_{package}.py": "common/test_conformance.py",
}
"""File → its template."""
TEMPLATES = files("automm.scaffold") / "templates"


class Scaffold(NamedTuple):
    """What was written.

    Attributes:
        folder: The distribution's folder.
        kind: Kind of its component.
        distribution: Its name on an index.
        package: Its Python package.
        reference: What recipes write: `owner:name` if an owner was named, or another plugin has the name too.
    """

    folder: Path
    kind: str
    distribution: str
    package: str
    reference: str


def scaffold(
    kind: str, name: str, folder: Path | None = None, licence: str = LICENCES[0], holder: str = ""
) -> Scaffold:
    """Writes a distribution with one working component of a kind, its tests, a recipe with data, and a CI job.

    Args:
        kind: One of `KINDS`.
        name: `name`, or `owner:name`; lower case letters, digits and underscores.
        folder: Where it goes; by default a folder of the distribution's name. Must be absent or empty.
        licence: One of `LICENCES`.
        holder: Who holds the copyright.

    Raises:
        UsageError: If kind, name or licence cannot be used, or the folder holds something.
    """
    if kind not in KINDS:
        hint = f"; a {kind} comes with its {WITH[kind]}: automm plugins new {WITH[kind]} NAME" if kind in WITH else ""
        raise UsageError(f"there is nothing to start from for the kind {kind!r} (there are: {', '.join(KINDS)}){hint}")
    if licence not in LICENCES:
        raise UsageError(f"licence {licence!r}: choose one of {', '.join(LICENCES)}, and change the files for another")
    owner, _, short = name.rpartition(":")
    class_ = "".join(part.capitalize() for part in short.split("_"))
    plain = all(re.fullmatch(r"[a-z][a-z0-9_]*", part) for part in (owner.replace("-", "_") or "a", short))
    if not plain or keyword.iskeyword(short) or snake(class_) != short:
        raise UsageError(
            f"{name!r} is no name for a component: write NAME or OWNER:NAME in lower case letters, digits and "
            "underscores, such as acme:router"
        )
    distribution = f"{owner or 'automm'}-{short}".replace("_", "-")
    package = distribution.replace("-", "_")
    if importlib.util.find_spec(package) is not None:
        raise UsageError(
            f"there is a Python package {package} here already; choose another name, or an owner, such as acme:{short}"
        )
    target = (folder or Path(distribution)).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target}: holds something already; name another folder with -o")
    plugin = owner or short
    shared = any(entry.name == short for entry in load_plugins().registry.all(kind))
    made = Scaffold(target, kind, distribution, package, f"{plugin}:{short}" if owner or shared else short)
    _write(made, licence, holder or f"The authors of {distribution}", plugin, short, class_)
    return made


def _write(made: Scaffold, licence: str, holder: str, plugin: str, name: str, class_: str) -> None:
    op = f"{made.package}.{name}"
    operation = OPERATIONS.get(made.kind)
    entry = f'\n[project.entry-points.automm_ops]\n"{op}" = "{made.package}:{class_}{operation}"\n' if operation else ""
    article = "An" if made.kind[0] in "aeiou" else "A"
    values = {
        **made._asdict(),
        "about": f"{article} {made.kind} ({name})",
        "api": str(AUTOMM_API),
        "automm": ".".join(automm.__version__.split(".")[:2]),
        "class_": class_,
        "holder": holder,
        "licence": licence,
        "name": name,
        "op": op,
        "operations": entry,
        "plugin": plugin,
        "year": str(datetime.now(UTC).year),
    }
    values["recipe"] = _filled(f"recipes/{made.kind}.yaml.tmpl", values)
    texts = {place: _filled(f"{template.format(kind=made.kind)}.tmpl", values) for place, template in LAYOUT.items()}
    texts["LICENSE"] = _filled(f"licences/{licence}.txt", values)
    for place, text in texts.items():
        path = made.folder / place.format(package=made.package)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def _filled(template: str, values: dict[str, str]) -> str:
    return Template(TEMPLATES.joinpath(template).read_text("utf-8")).substitute(values)
