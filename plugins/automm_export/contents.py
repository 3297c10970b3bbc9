"""What several formats need of a package: a name that fits everywhere, what to install, and copies."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from automm.api import copy_package, load_package, read_manifest

READS = {".dcm": "dicom", ".m4a": "video", ".mp4": "video", ".webm": "video", ".mkv": "video", ".avi": "video"}
"""Ending of a media file → the extra of automm that reads it."""
PYTHON = "3.11"
"""The Python for packages that do not say which one they were made with."""


class Contents:
    """A package, as exporters look at it.

    Args:
        package: The package.

    Attributes:
        manifest: Its manifest.
        digest: SHA-256 of the manifest: names this package and no other.
        label: Its name in lower-case letters, digits and "-", at most 40 characters: a DNS label.
        python: Major and minor version of the Python it was made with.
        megabytes: Size of its files.
    """

    def __init__(self, package: Path) -> None:
        self.package = package
        self._copy: Path | None = None
        self.manifest, self.digest = read_manifest(package)
        words = re.sub(r"[^a-z0-9]+", "-", self.manifest.name.lower()).strip("-")
        self.label = words[:40].strip("-") if words[:1].isalpha() else f"model-{words[:34]}".strip("-")
        self.megabytes = sum(part.bytes for part in self.manifest.files.values()) / 1e6
        environment = self._yaml("provenance/environment.json")
        found = re.match(r"3\.\d+", str(environment.get("python", "")))
        self.python = found[0] if found else PYTHON

    def copy(self, folder: Path) -> None:
        """Copies the package, with the digest of every file checked."""
        copy_package(self.package, folder)
        self._copy = folder

    @functools.cached_property
    def opened(self) -> Any:
        """The package itself (its copy, if there is one), opened with all its checks."""
        return load_package(self._copy or self.package).package

    @property
    def media(self) -> tuple[str, ...]:
        """The columns whose cells are files."""
        return media(self.opened)

    def _text(self, relative: str) -> str:
        if relative not in self.manifest.files:
            return ""
        return (self.package / relative).read_text("utf-8")

    def _yaml(self, relative: str) -> dict[str, Any]:
        found = yaml.safe_load(self._text(relative) or "{}")
        return found if isinstance(found, dict) else {}

    def extras(self) -> set[str]:
        """The extras of automm that read its inputs: named like their modalities, or for the media it has seen."""
        offered = _offered("automm")
        wanted = {part.modality for part in self.manifest.inputs}
        golden = self.manifest.golden
        endings = {PurePosixPath(path).suffix.lower() for path in (golden.media if golden else ())}
        return (wanted | {READS[ending] for ending in endings if ending in READS}) & offered

    def requirements(self, *extras: str) -> str:
        """What to install where it runs, with the versions it was made with.

        Args:
            extras: Further extras of automm.
        """
        names = ",".join(sorted({*self.extras(), *extras}))
        lines = self._text("requirements.txt").split() or [f"automm=={self.manifest.automm}"]
        if names:
            lines = [re.sub(r"^automm==", f"automm[{names}]==", line) for line in lines]
        return "\n".join(lines) + "\n"


def media(package: Any) -> tuple[str, ...]:
    """The columns of an opened package whose cells are files."""
    return tuple(dict.fromkeys(name for part in package.inputs if part.processor.media for name in part.columns))


def _offered(distribution: str) -> set[str]:
    try:
        return set(metadata.metadata(distribution).get_all("Provides-Extra") or ())
    except metadata.PackageNotFoundError:
        return set()


def write(path: Path, text: str) -> None:
    """Writes a text file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def as_yaml(*documents: Mapping[str, Any]) -> str:
    """YAML of one or more documents, keys in their order."""
    return yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=120)
