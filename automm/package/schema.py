"""The JSON schema of the manifest, made from its models."""

from __future__ import annotations

from typing import Any

from automm.runtime.manifest import FORMAT_VERSION, Manifest


def manifest_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of `automm.json`.

    What a schema cannot say (paths stay inside the package, every file that is used is listed) stands in
    docs/package.md and is checked by the reader.
    """
    schema = Manifest.model_json_schema()
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Manifest of an automm package, format version {FORMAT_VERSION}",
    }
    return {**head, **{key: value for key, value in schema.items() if key != "title"}}
