from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path

import jsonschema
import pytest

from automm.plugin.loader import load_plugins
from automm.recipe.parse import load_recipe_text
from automm.recipe.problems import InvalidRecipeError
from automm.recipe.schema import recipe_schema
from automm.recipe.yaml import parse_document

BASE = "data: goods.csv\ntarget: season\n"
COMMITTED = Path(__file__).parents[2] / "recipes" / "recipe.schema.json"


@pytest.fixture
def validator(registry):
    schema = recipe_schema(registry)
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


GOOD = [
    "",
    "task: classes",
    "task: {name: classes, smoothing: 0.1}",
    "inputs: {title: words, 2020: number, photo: , sensor: [t_0, t_1], x: {modality: words, columns: [a]}, '*': table}",
    "ignore: [a, 2020]",
    "split: random",
    "split: {group: g, valid: 0.1, test: 0.1}",
    "split: {method: time, column: t}",
    "imbalance: [none, weights, resample]",
    "model: {fusion: gated}",
    "model: {fusion: [concat, {name: gated, width: [8, 16], heads: {low: 1, high: 4}}]}",
    "model: {loss: {name: huber, delta: {low: 0.1, high: 1, log: true}}}",
    "model: {encoders: {words: {name: bag, dropout: {low: 0, high: 0.3, step: 0.1}, kernels: [[3], [3, 5]]}}}",
    "model: {encoders: {words: {name: bag, pooling: [null, max], bits: [8, '16'], checkpoint: 2020, lower: false}}}",
    "model: {encoders: {title: [bag, pixels]}}",
    "train: {epochs: 3, precision: 32, learning_rate: {low: 1e-4, high: 1e-2, log: true}}",
    "metric: rmse",
    "search: {trials: 60, time: 2h}",
    "search: {time: 90, storage: 'postgresql://h/d'}",
    "require: {macro_f1: '>= 0.80', latency_ms: <= 20}",
    "export: [onnx, flat]",
    "export: onnx",
    "plugins: mine.py",
    "seed: 7",
]

BROKEN = [
    "modle: {fusion: gated}",
    "task: clases",
    "task: {name: classes, smothing: 0.1}",
    "task: {name: classes, smoothing: 2}",
    "inputs: {title: wrods}",
    "inputs: {title: {modalty: words}}",
    "inputs: {}",
    "split: group",
    "split: {valid: 0}",
    "split: {method: rnd}",
    "imbalance: focal",
    "model: {fusion: gatd}",
    "model: {fusion: {name: gated, widht: 8}}",
    "model: {fusion: []}",
    "model: {loss: huber}",
    "model: {encoders: {words: pixels}}",
    "model: {encoders: {words: {name: bag, width: 0}}}",
    "model: {encoders: {words: {name: bag, width: [8, 0]}}}",
    "model: {encoders: {words: {name: bag, width: {low: 0, high: 8}}}}",
    "model: {encoders: {words: {name: bag, width: {low: 8}}}}",
    "model: {encoders: {words: {name: bag, pooling: median}}}",
    "model: {encoders: {title: bga}}",
    "train: {epochs: 0}",
    "train: {epoch: 3}",
    "metric: acuracy",
    "search: {trials: 0}",
    "search: {storage: 'postgresql://h/d'}",
    "search: {trails: 3}",
    "require: {accuracy: 0.8}",
    "require: {latency: '<= 20'}",
    "export: mlflow",
    "seed: -1",
    "seed: yes",
]


@pytest.mark.parametrize("text", GOOD)
def test_schema_and_parser_accept(text, validator, registry, tmp_path):
    (tmp_path / "mine.py").touch()
    load_recipe_text(BASE + text + "\n", tmp_path / "recipe.yaml", registry)
    validator.validate(parse_document(BASE + text + "\n").data)


@pytest.mark.parametrize("text", BROKEN)
def test_schema_and_parser_refuse(text, validator, registry, tmp_path):
    with pytest.raises(InvalidRecipeError):
        load_recipe_text(BASE + text + "\n", tmp_path / "recipe.yaml", registry)
    assert not validator.is_valid(parse_document(BASE + text + "\n").data)


@pytest.mark.parametrize("text", ["data: x\n", "target: x\n", "data: {test: x}\ntarget: y\n", "data: \ntarget: y\n"])
def test_data_and_target_are_required(text, validator):
    assert not validator.is_valid(parse_document(text).data)


def test_fields_carry_words_defaults_and_ranges(registry):
    field = recipe_schema(registry)["definitions"]["encoder.bag"]["properties"]["dropout"]
    assert field["description"] == "Share of features dropped. Searched by default: 0.0 to 0.5."
    assert field["default"] == 0.1
    assert field["anyOf"][0] == {"exclusiveMaximum": 1, "minimum": 0, "type": "number"}
    assert field["anyOf"][2]["properties"]["low"] == {"exclusiveMaximum": 1, "minimum": 0, "type": "number"}


def test_the_committed_schema_is_fresh():
    foreign = {p.dist.name for p in entry_points(group="automm") if p.dist and p.dist.name != "automm"}
    fresh = recipe_schema(load_plugins(block=foreign).registry)
    committed = json.loads(COMMITTED.read_text(encoding="utf-8"))
    assert committed == fresh, "refresh it: automm schema -o recipes/recipe.schema.json"
