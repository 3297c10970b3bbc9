"""The key `compress`: what it takes, and what it says about what it does not take."""

from __future__ import annotations

import jsonschema
import pytest

from automm.core.space import ComponentSpace, Fixed
from automm.plugin.loader import load_plugins
from automm.recipe.model import CompressSpec, Recipe
from automm.recipe.parse import load_recipe_text
from automm.recipe.problems import InvalidRecipeError
from automm.recipe.schema import recipe_schema
from automm.recipe.yaml import parse_document

INT8, FP16, PRUNE = (ComponentSpace(name=name) for name in ("int8", "fp16", "prune"))


@pytest.fixture(scope="module")
def registry():
    return load_plugins().registry


@pytest.fixture(scope="module")
def validator(registry):
    return jsonschema.Draft7Validator(recipe_schema(registry))


def load(text, registry, folder):
    return load_recipe_text(f"data: a.csv\ntarget: b\n{text}\n", folder / "r.yaml", registry)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("compress: auto", CompressSpec()),
        ("compress: int8", CompressSpec(chains=((INT8,),))),
        ("compress: [int8, fp16]", CompressSpec(chains=((INT8,), (FP16,)))),
        ("compress: [[prune, int8], fp16]", CompressSpec(chains=((PRUNE, INT8), (FP16,)))),
        (
            "compress: {name: int8, bits: 7}",
            CompressSpec(chains=((ComponentSpace(name="int8", fields={"bits": Fixed(value=7)}),),)),
        ),
        ("compress: {max_loss: 0.5%}", CompressSpec(max_loss=0.005)),
        ("compress: {max_loss: 2 %, sure: true}", CompressSpec(max_loss=0.02, sure=True)),
        ("compress: {max_loss: 0.01, try: auto}", CompressSpec(max_loss=0.01)),
        ("compress: {max_loss: 0, try: fp16}", CompressSpec(chains=((FP16,),), max_loss=0.0)),
    ],
)
def test_forms(text, spec, registry, validator, tmp_path):
    recipe = load(text, registry, tmp_path)
    assert recipe.compress == spec
    validator.validate(parse_document(f"data: a.csv\ntarget: b\n{text}\n").data)
    assert Recipe.model_validate(recipe.model_dump(mode="json")).compress == spec


def test_absent_is_none(registry, tmp_path):
    assert load("seed: 1", registry, tmp_path).compress is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("compress: in8", "3:1 compress: unknown compressor 'in8'; did you mean 'int8'? (distill, drop_layers, "),
        ("compress: []", "3:1 compress: the list is empty"),
        ("compress: {try: [int8], max_los: 1%}", "3:25 compress.max_los: unknown key 'max_los'; did you mean 'max_los"),
        ("compress: {max_loss: 5}", "3:12 compress.max_loss: must be a share such as 0.5% or 0.005, below 100%, not "),
        ("compress: {max_loss: half}", "3:12 compress.max_loss: must be a share such as 0.5% or 0.005"),
        ("compress: {sure: yes}", "3:12 compress.sure: must be true or false, not 'yes'"),
        ("compress: [int8, int8]", "3:18 compress: 'int8' is listed twice with the same fields"),
        ("compress: [[int8, prune]]", "3:12 compress: a chain goes from the student over the model to the graph ("),
        ("compress: [{name: prune, units: [0.2, 0.4]}]", "units takes one value here; list the variants to compare"),
        ("compress: [{name: prune, units: 1.5}]", "3:26 compress.units: must be less than 1, got 1.5"),
        ("compress: [{name: int8, bit: 7}]", "unknown field of compressor 'int8' 'bit'; did you mean 'bits'?"),
    ],
)
def test_problems(text, message, registry, tmp_path):
    with pytest.raises(InvalidRecipeError) as problem:
        load(text, registry, tmp_path)
    assert message in str(problem.value)
    assert len(problem.value.problems) == 1
