"""Two pages without anything from elsewhere: a form to try a model at `/`, and the API's description at `/docs`.

Style and script stand in the page and are named in the Content-Security-Policy by their digests, so nothing else runs
or loads. Everything that comes from a package is escaped here, or put in place by the script as text.
"""

from __future__ import annotations

import base64
import hashlib
import html
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

from automm.serve.models import Models, Version
from automm.serve.openapi import describe
from automm.serve.schema import Column

Json = dict[str, Any]


@cache
def _static(name: str) -> str:
    return (files("automm.serve") / "static" / name).read_text(encoding="utf-8")


@cache
def policy() -> str:
    """The Content-Security-Policy of both pages."""
    style, script = (
        f"'sha256-{base64.b64encode(hashlib.sha256(_static(name).encode()).digest()).decode()}'"
        for name in ("page.css", "page.js")
    )
    return (
        f"default-src 'none'; style-src {style}; script-src {script}; connect-src 'self'; img-src blob: data:; "
        "media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _page(title: str, body: str, script: str = "") -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{html.escape(title)}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>{_static('page.css')}</style>\n</head>\n<body>\n{body}\n{script}</body>\n</html>\n"
    )


def try_page(models: Models, chosen: Version | None) -> str:
    """The form of a model; `chosen` is None while nothing is loaded."""
    if chosen is None:
        return _page("automm", '<main><section class="card"><h1>Loading</h1><p>No model is loaded yet. '
                     "Come back in a moment.</p></section></main>")  # fmt: skip
    described = {
        "model": chosen.model,
        "version": chosen.name,
        "columns": [_described(column) for column in chosen.schema.columns.values()],
        "results": chosen.schema.results,
        "examples": chosen.examples,
    }
    # Inside a script element only "<" could end it.
    data = orjson.dumps(described).decode().replace("<", "\\u003c")
    manifest = chosen.predictor.package.manifest
    target = ", ".join(manifest.target.columns)
    body = (
        f"<header><div><h1>{html.escape(chosen.model)}</h1>"
        f"<p>Predicts <b>{html.escape(target)}</b> · version {html.escape(chosen.name)}"
        f' · <code title="digest of the package">{chosen.digest[:12]}</code></p></div>'
        f'<nav>{_others(models, chosen)}<a href="/docs">API</a></nav></header>'
        '<main><form id="form" class="card" novalidate><div id="fields"></div>'
        '<div class="actions"><button type="submit" id="predict">Predict</button>'
        '<button type="button" id="example" class="quiet" hidden>Fill in an example</button>'
        '<button type="reset" class="quiet">Clear</button></div></form>'
        '<section id="result" class="card" aria-live="polite"><h2>Result</h2>'
        '<p class="hint">Fill in what you know and press Predict. What stays empty counts as unknown.</p>'
        "</section></main>"
        "<noscript><p>This page needs JavaScript.</p></noscript>"
    )
    script = f'<script type="application/json" id="model">{data}</script>\n<script>{_static("page.js")}</script>\n'
    return _page(f"{chosen.model} – automm", body, script)


def _described(column: Column) -> Json:
    control = "file" if column.media else "number" if column.numeric else "text"
    limit = column.limits.get("bytes")
    return {
        "name": column.name,
        "control": control,
        "long": "characters" in column.limits,
        "inline": column.inline,
        "hint": describe(column),
        "bytes": limit,
    }


def _others(models: Models, chosen: Version) -> str:
    names = [model.name for model in models.models.values() if model.name != chosen.model and model.versions]
    return "".join(f'<a href="/?model={html.escape(name, quote=True)}">{html.escape(name)}</a>' for name in names)


def docs_page(document: Json) -> str:
    """The OpenAPI document, readable."""
    operations = "".join(
        _operation(method, path, operation, document)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    body = (
        f"<header><div><h1>API of {html.escape(document['info']['title'])}</h1>"
        '<p>The same as <a href="/openapi.json">openapi.json</a></p></div><nav><a href="/">Try it</a></nav></header>'
        f'<main class="docs">{operations}</main>'
    )
    return _page("API – automm", body)


def _operation(method: str, path: str, operation: Json, document: Json) -> str:
    content = operation.get("requestBody", {}).get("content", {})
    schemas = document["components"]["schemas"]
    parts = []
    if "multipart/form-data" in content:
        name = content["multipart/form-data"]["schema"]["$ref"].rpartition("/")[2].removesuffix(".Form")
        parts = [_columns(schemas[f"{name}.Row"]), _example(path, schemas[f"{name}.Row"]), _results(schemas, name)]
    errors = "".join(
        f"<tr><td>{html.escape(code)}</td><td>{html.escape(answer['description'])}</td></tr>"
        for code, answer in operation["responses"].items()
    )
    statuses = f"<details><summary>Statuses</summary><table>{errors}</table></details>" if len(errors) > 200 else ""
    return (
        f'<section class="card"><h2><span class="method">{method.upper()}</span> <code>{html.escape(path)}</code></h2>'
        f"<p>{html.escape(operation['summary'])}</p>{''.join(parts)}{statuses}</section>"
    )


def _columns(row: Json) -> str:
    cells = "".join(
        f"<tr><td><code>{html.escape(name)}</code></td><td>{html.escape(cell['description'])}</td></tr>"
        for name, cell in row["properties"].items()
    )
    return f"<table><thead><tr><th>Column</th><th>What it is</th></tr></thead>{cells}</table>"


def _example(path: str, row: Json) -> str:
    body = orjson.dumps(row["examples"][0], option=orjson.OPT_INDENT_2).decode().replace("'", "'\\''")
    call = f"curl http://HOST{path} -H 'content-type: application/json' -d '{body}'"
    return f"<pre>{html.escape(call)}</pre>"


def _results(schemas: Json, name: str) -> str:
    results = ", ".join(f"<code>{html.escape(result)}</code>" for result in schemas[f"{name}.Result"]["properties"])
    return f"<p>Each of <code>predictions</code> has {results}.</p>"
