"""Every example of docs/recipe.md is a recipe that loads, and that editors accept."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest

from automm.plugin.loader import load_plugins
from automm.recipe.parse import KEYS, REQUIRED, load_recipe_text
from automm.recipe.schema import recipe_schema
from automm.recipe.yaml import parse_document
from automm.train.config import TrainConfig

PAGE = (Path(__file__).parents[2] / "docs" / "recipe.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.S | re.M)


@pytest.fixture(scope="module")
def registry():
    return load_plugins().registry


@pytest.fixture(scope="module")
def validator(registry):
    return jsonschema.Draft7Validator(recipe_schema(registry))


@pytest.mark.parametrize("example", EXAMPLES)
def test_example(example, registry, validator, tmp_path):
    keys = parse_document(example).data
    text = "".join(f"{key}: {value}\n" for key, value in REQUIRED.items() if key not in keys) + example
    (tmp_path / "my_fusion.py").touch()
    (tmp_path / "minilm").mkdir()
    load_recipe_text(text, tmp_path / "recipe.yaml", registry)
    validator.validate(parse_document(text).data)


def test_every_key_and_training_field_is_on_the_page():
    assert set(re.findall(r"^### `(\w+)`", PAGE, re.M)) == set(KEYS)
    fields = PAGE.partition("### `train`")[2].partition("## Run")[0]
    defaults = dict(re.findall(r"^\| `(\w+)` \|.*\| (\S+) \|$", fields, re.M))
    assert set(defaults) == set(TrainConfig.model_fields)
    for name, shown in defaults.items():
        default = TrainConfig.model_fields[name].default
        assert shown == default if isinstance(default, str) else float(shown) == default
