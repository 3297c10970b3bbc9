"""What differs between two packages, from their manifests alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from automm.runtime.manifest import Manifest

ASIDE = frozenset({"created", "format", "files"})
REPEATS = frozenset({"README.md"})
"""Files that only repeat what the manifest says, the date included."""
SECTIONS = ("inputs", "processors", "task", "target", "decoder", "graphs", "metrics", "size", "lineage")
"""What is shown first, in this order; other fields of the manifest follow."""


class Difference(NamedTuple):
    """One fact that differs; None where a package does not have it."""

    what: str
    a: Any
    b: Any


def compare(a: Manifest, b: Manifest) -> dict[str, list[Difference]]:
    """Compares two manifests; the time at which they were written is no difference.

    Returns:
        Section → what differs; sections without a difference are left out.
    """
    left, right = _facts(a), _facts(b)
    found: dict[str, list[Difference]] = {}
    for section in (*SECTIONS, *sorted({*left, *right} - {*SECTIONS})):
        ours, theirs = left.get(section, {}), right.get(section, {})
        differences = [
            Difference(what, ours.get(what), theirs.get(what))
            for what in dict.fromkeys((*ours, *theirs))
            if ours.get(what) != theirs.get(what)
        ]
        if differences:
            found[section] = differences
    return found


def _facts(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Section → fact → value."""
    plain = manifest.model_dump(mode="json")
    processors = {part["name"]: part.pop("processor") for part in plain["inputs"]}
    plain["processors"] = processors
    facts = {
        section: dict(_flat(value)) if isinstance(value, dict | list) else {section: value}
        for section, value in plain.items()
        if section not in ASIDE
    }
    facts["about"] = {name: facts.pop(name)[name] for name in ("name", "automm", "format_version")}
    for name, graph in manifest.graphs.items():
        facts["graphs"][f"{name}.sha256"] = manifest.files[graph.file].sha256
        facts["graphs"][f"{name}.bytes"] = manifest.files[graph.file].bytes
    for part in manifest.inputs:
        for kind, file in (("state", part.processor.state), ("arrays", part.processor.arrays)):
            if file is not None:
                facts["processors"][f"{part.name}.{kind}.sha256"] = manifest.files[file].sha256
    facts["size"] = {"bytes": sum(part.bytes for part in manifest.files.values()), "files": len(manifest.files)}
    used = {graph.file for graph in manifest.graphs.values()} | REPEATS
    facts["files"] = {path: part.sha256 for path, part in manifest.files.items() if path not in used}
    return facts


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Nested JSON as (path, value) pairs; a list of plain values is one value, parts with a name are called by it."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for at, item in enumerate(value):
            name = item["name"] if isinstance(item, dict) and "name" in item else str(at)
            yield from _flat(item, f"{path}.{name}" if path else name)
    else:
        yield path, value
