"""What docs/editor.md promises, with a real language server: completions, explanations and problems of plugins too."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import jsonschema
import pytest

from docs.language_server import LanguageServer, server_script
from docs.pages import blocks

PLUGIN = '''
from typing import Annotated, Optional
from pydantic import Field
from automm.api import Features, Fusion, Tune, hookimpl


class Router(Fusion):
    """Sends every row to its expert.

    More about it.
    """

    class Config(Fusion.Config):
        """Settings.

        Attributes:
            experts: How many experts
                there are.
        """

        experts: Annotated[int, Field(ge=2, le=16), Tune(2, 8)] = 4
        sharpness: Annotated[Optional[float], Field(gt=0, le=5)] = None
        """How sure the router is."""

    def __init__(self, config, widths):
        super().__init__(config, widths)

    def forward(self, inputs):
        return Features.vector(next(iter(inputs.values())).mean())


@hookimpl
def automm_register(register):
    register(Router)
'''
RECIPE = """data: products.csv
target: season
model:
  fusion: router
  loss: cross_entropy
metric: macro_f1
"""
LINE = "# yaml-language-server: $schema=recipe.schema.json\n"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with the schema as `automm schema` writes it where the distribution acme-router is installed."""
    folder = tmp_path_factory.mktemp("editor")
    site = folder / "site"
    information = site / "acme_router-1.2.dist-info"
    information.mkdir(parents=True)
    (site / "acme_router.py").write_text(PLUGIN, "utf-8")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-router\nVersion: 1.2\n", "utf-8")
    (information / "entry_points.txt").write_text("[automm]\nacme = acme_router\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "automm", "schema", "-o", "recipe.schema.json"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def schema(workspace):
    return json.loads((workspace / "recipe.schema.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def server(workspace):
    found = LanguageServer(server_script(), workspace, {})
    yield found
    found.close()


def test_fields_of_a_plugin_have_words_and_ranges(schema):
    fields = schema["definitions"]["fusion.router"]["properties"]
    assert fields["experts"]["description"] == "How many experts there are. Searched by default: 2 to 8."
    assert fields["experts"]["default"] == 4
    assert fields["experts"]["anyOf"][0] == {"maximum": 16, "minimum": 2, "type": "integer"}
    span = fields["sharpness"]["anyOf"][-1]["properties"]
    assert span["high"] == {"type": "number", "exclusiveMinimum": 0, "maximum": 5}


def test_schema_and_recipe_agree_on_plugins(schema):
    judge = jsonschema.Draft7Validator(schema)
    base = {"data": "a.csv", "target": "y"}
    assert judge.is_valid({**base, "model": {"fusion": ["gated", {"name": "router", "experts": [2, 4]}]}})
    assert judge.is_valid({**base, "model": {"fusion": {"name": "router", "sharpness": {"low": 1, "high": 5}}}})
    assert not judge.is_valid({**base, "model": {"fusion": {"name": "router", "experts": 17}}})
    assert not judge.is_valid({**base, "model": {"fusion": {"name": "router", "sharpness": {"low": 1, "high": 6}}}})


def test_plugin_that_cannot_be_loaded_is_named(workspace):
    site = workspace / "other"
    information = site / "acme_broken-1.0.dist-info"
    information.mkdir(parents=True)
    (site / "acme_broken.py").write_text("raise RuntimeError('no model file')\n", "utf-8")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-broken\nVersion: 1.0\n", "utf-8")
    (information / "entry_points.txt").write_text("[automm]\nbroken = acme_broken\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "automm", "schema"],
        cwd=workspace, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert json.loads(done.stdout)["title"] == "automm recipe"
    assert "plugin broken (acme-broken 1.0) is broken: RuntimeError: no model file" in done.stderr
    assert "the schema leaves its components out" in done.stderr


def test_completion_offers_components_of_plugins(server):
    server.open("complete.yaml", LINE + RECIPE.replace("router", ""))
    offered = server.complete("complete.yaml", 5, 10)
    assert {"gated", "concat", "router", "any"} <= set(offered)
    assert offered["router"] == "Sends every row to its expert. (acme-router 1.2)"
    assert not {"cross_entropy", "tfidf_svd"} & set(offered)


def test_completion_offers_fields_of_plugins(server):
    text = LINE + RECIPE.replace("fusion: router", "fusion:\n    name: router\n    ")
    server.open("fields.yaml", text)
    offered = server.complete("fields.yaml", 7, 4)
    assert {"experts", "sharpness"} <= set(offered)
    assert offered["experts"].startswith("How many experts there are. Searched by default: 2 to 8.")


def test_hover_explains(server):
    server.open("hover.yaml", LINE + RECIPE.replace("router", "{name: router, experts: 3}"))
    assert "How many experts there are" in server.hover("hover.yaml", 5, 27)
    assert "The metric that is optimised" in server.hover("hover.yaml", 7, 2)


def test_good_recipe_has_no_problems(server):
    assert server.open("good.yaml", LINE + RECIPE) == []


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("router", "ruoter", 5, 'Value must be "any" | "aligned" | '),
        ("metric:", "metrc:", 7, "Property metrc is not allowed"),
        ("router", "{name: router, experts: 99}", 5, "above the maximum of 16"),
        ("router", "{name: router, expert: 3}", 5, "Property expert is not allowed"),
        ("target: season\n", "", 2, 'Missing property "target"'),
    ],
)
def test_problems_are_underlined(server, old, new, line, said):
    assert old in RECIPE
    name = f"bad{re.sub('[^a-z]', '', new)}.yaml"
    problems = server.open(name, LINE + RECIPE.replace(old, new))
    assert any(problem.startswith(f"{line}: ") and said in problem for problem in problems), problems


def test_settings_of_the_page_find_the_schema(workspace):
    settings = json.loads(blocks("json", "editor.md")[0].text)
    server = LanguageServer(server_script(), workspace, {"schemas": settings["yaml.schemas"]})
    try:
        problems = server.open("recipe-7.yaml", RECIPE.replace("metric:", "metrc:"))
        assert any("Property metrc is not allowed" in problem for problem in problems), problems
        assert server.open("notes.yaml", "metrc: 3\n") == []
    finally:
        server.close()


def test_neovim_has_the_settings_of_vs_code():
    (pattern,) = re.findall(r"schemas = \{ (.*) \} \},", blocks("lua", "editor.md")[0].text)
    translated = pattern.replace("[", "").replace("]", "").replace(" =", ":").replace("{", "[").replace("}", "]")
    assert json.loads(f"{{{translated}}}") == json.loads(blocks("json", "editor.md")[0].text)["yaml.schemas"]
