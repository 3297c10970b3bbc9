"""The OpenAPI document, made from what the packages say about themselves."""

from __future__ import annotations

from typing import Any

from automm import __version__
from automm.serve.models import Models, Version
from automm.serve.schema import Column, Schema, example
from automm.serve.settings import Settings

Json = dict[str, Any]
ERRORS = {
    "400": "The request is malformed.",
    "401": "An API key is needed.",
    "404": "There is no such model or version.",
    "408": "The body came too slowly.",
    "413": "The body, or the number of rows, is over the limit.",
    "415": "The content type is not read.",
    "422": "No row can be used; `error` says why, by column.",
    "429": "The queue is full; `Retry-After` says when to come again.",
    "503": "The model is not loaded yet.",
    "504": "The deadline has passed.",
}
RESULTS: dict[str, Json] = {
    "string": {"type": ["string", "null"]},
    "number": {"type": ["number", "null"]},
    "boolean": {"type": ["boolean", "null"]},
    "list": {"type": ["array", "null"], "items": {"type": "string"}},
}
FILE: Json = {
    "type": "object",
    "properties": {"base64": {"type": "string", "contentEncoding": "base64"}},
    "required": ["base64"],
    "additionalProperties": False,
}


def document(models: Models, settings: Settings) -> Json:
    """The document of everything that is served now."""
    newest = [version for model in models.models.values() if (version := model.newest) is not None]
    paths: Json = {}
    schemas: Json = {"Error": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}}
    for at, version in enumerate(newest):
        schemas |= _schemas(version, settings)
        operation = _predict(version, f"predict_{version.model}")
        paths[f"/models/{version.model}/predict"] = {"post": operation}
        if at == 0:
            paths["/predict"] = {"post": _predict(version, "predict")}
        for name in models.models[version.model].names():
            paths[f"/v2/models/{version.model}/versions/{name}/infer"] = {"post": _infer(version, name)}
        paths[f"/v2/models/{version.model}"] = {"get": _get("Metadata of the model: its tensors and versions.")}
        paths[f"/v2/models/{version.model}/ready"] = {"get": _get("200 when the model answers.")}
        paths[f"/v2/models/{version.model}/infer"] = {"post": _infer(version, None)}
    paths["/v2"] = {"get": _get("Metadata of the server.")}
    paths["/v2/health/live"] = {"get": _get("200 when the process runs.")}
    paths["/v2/health/ready"] = {"get": _get("200 when every model is loaded and its own examples come out right.")}
    paths["/metrics"] = {"get": _get("Prometheus metrics.", "text/plain")}
    found: Json = {
        "openapi": "3.1.0",
        "info": {"title": ", ".join(models.models), "version": __version__, "summary": "Packages of automm."},
        "paths": {path: paths[path] for path in sorted(paths, key=_rank)},
        "components": {"schemas": schemas},
    }
    if settings.keys:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"key": []}]
    return found


def _rank(path: str) -> tuple[bool, bool, str]:
    """What people look for first comes first."""
    return (path != "/predict", not path.startswith("/models"), path)


def _schemas(version: Version, settings: Settings) -> Json:
    schema, name = version.schema, version.model
    row: Json = {
        "type": "object",
        "properties": {column.name: _cell(column, settings) for column in schema.columns.values()},
        "examples": [example(schema)],
    }
    if not settings.allow_missing:
        row["required"] = list(schema.columns)
    form = {column.name: _part(column) for column in schema.columns.values()}
    results = {column: RESULTS[kind] for column, kind in schema.results.items()}
    results["error"] = {"type": ["string", "null"], "description": "Why the row could not be used."}
    reference = {"$ref": f"#/components/schemas/{name}.Row"}
    return {
        f"{name}.Row": row,
        f"{name}.Rows": {
            "oneOf": [
                {"type": "array", "items": reference, "minItems": 1, "maxItems": settings.limits.rows},
                {
                    "type": "object",
                    "properties": {"rows": {"type": "array", "items": reference, "minItems": 1}},
                    "required": ["rows"],
                },
                reference,
            ]
        },
        f"{name}.Form": {"type": "object", "properties": form},
        f"{name}.Result": {"type": "object", "properties": results},
        f"{name}.Answer": {
            "type": "object",
            "properties": {
                "model": {"type": "string"},
                "version": {"type": "string"},
                "predictions": {"type": "array", "items": {"$ref": f"#/components/schemas/{name}.Result"}},
            },
            "required": ["model", "version", "predictions"],
        },
    }


def _cell(column: Column, settings: Settings) -> Json:
    """What a cell may be in JSON. Text may stand for a number ("12.5"), as in a table."""
    text = describe(column)
    if column.media:
        lists = [{"type": "array", "description": "The values themselves."}] if column.inline else []
        return {"description": text, "anyOf": [FILE, *lists, {"type": "null"}]}
    if column.numeric:
        return {"description": text, "type": ["number", "string", "null"]}
    return {
        "description": text,
        "type": ["string", "number", "boolean", "array", "null"],
        "maxLength": settings.limits.characters,
    }


def _part(column: Column) -> Json:
    if column.media:
        return {"type": "string", "contentMediaType": "application/octet-stream", "description": describe(column)}
    return {"type": "string", "description": describe(column)}


def describe(column: Column) -> str:
    """A column in a few words: what it is, and its limits."""
    kind = f"{column.modality}, {column.type}" if column.type and column.type != column.modality else column.modality
    limits = ", ".join(f"{bound:,.10g} {name}" for name, bound in column.limits.items())
    return f"{kind}; at most {limits}" if limits else kind


def _predict(version: Version, operation: str) -> Json:
    def reference(name: str) -> Json:
        return {"schema": {"$ref": f"#/components/schemas/{version.model}.{name}"}}

    content = {"application/json": reference("Rows")}
    content["multipart/form-data"] = reference("Form")
    missing = {"name": "allow_missing", "in": "query", "schema": {"type": "boolean"}}
    missing["description"] = "Take columns that no row has for missing cells."
    return {
        "operationId": operation,
        "summary": f"Predict rows with {version.model}.",
        "parameters": [missing],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {
                "description": "One prediction or refusal per row.",
                "content": {"application/json": reference("Answer")},
            },
            **_errors(),
        },
    }


def _infer(version: Version, name: str | None) -> Json:
    which = f"version {name} of {version.model}" if name else version.model
    return {
        "operationId": f"infer_{version.model}_{name}" if name else f"infer_{version.model}",
        "summary": f"Open Inference Protocol: run {which} on tensors of cells.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": _request(version.schema)}}},
        "responses": {"200": {"description": "The results as tensors."}, **_errors()},
    }


def _request(schema: Schema) -> Json:
    tensor = {
        "type": "object",
        "properties": {
            "name": {"enum": list(schema.columns)},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "datatype": {"type": "string"},
            "data": {"type": "array"},
            "parameters": {"type": "object"},
        },
        "required": ["name", "shape", "datatype"],
    }
    return {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "inputs": {"type": "array", "items": tensor},
            "outputs": {"type": "array", "items": {"type": "object"}},
        },
        "required": ["inputs"],
    }


def _get(text: str, content: str = "application/json") -> Json:
    return {"summary": text, "responses": {"200": {"description": text, "content": {content: {}}}}}


def _errors() -> Json:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {code: {"description": text, "content": content} for code, text in ERRORS.items()}
