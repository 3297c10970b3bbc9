from __future__ import annotations

from pathlib import Path

import pytest

from automm.core.space import Choices, ComponentSpace, Fixed, Range
from automm.errors import RecipeError
from automm.recipe.model import (
    DataSpec,
    GateSpec,
    InputSpec,
    ModelSpec,
    Recipe,
    SearchSpec,
    SplitSpec,
    TargetSpec,
)
from automm.recipe.parse import load_recipe, load_with_plugins


def test_the_shortest_recipe(parse, tmp_path):
    assert parse("") == Recipe(
        path=tmp_path / "recipe.yaml",
        name="recipe",
        data=DataSpec(train=("goods.csv",)),
        target=TargetSpec(columns=("season",)),
    )


FULL = """
task: classes
data: {train: products.csv, test: holdout.csv}
target: season
inputs: {title: words, photo: picture, "*": table}
split: {group: seller_id}
imbalance: auto
model:
  fusion: [concat, {name: gated, width: [8, 16]}]
  loss: [cross_entropy, reweighted]
  encoders: {title: {name: bag, checkpoint: ./minilm, adapt: [none, last_2], dropout: {low: 0.1, high: 0.3}}}
train: {epochs: 1e1, learning_rate: {low: 1e-4, high: 1e-2, log: true}, precision: 32}
metric: macro_f1
search: {trials: 60, time: 2h}
require: {macro_f1: ">= 0.80", latency_ms: <= 20}
export: [onnx, flat]
seed: 7
"""


def test_every_key(parse, tmp_path):
    assert parse(FULL, base="") == Recipe(
        path=tmp_path / "recipe.yaml",
        name="recipe",
        task=ComponentSpace(name="classes"),
        data=DataSpec(train=("products.csv",), test=("holdout.csv",)),
        target=TargetSpec(columns=("season",)),
        inputs=(
            InputSpec(name="title", modality="words"),
            InputSpec(name="photo", modality="picture"),
            InputSpec(name="*", modality="table"),
        ),
        split=SplitSpec(method="group", column="seller_id"),
        imbalance=("auto",),
        model=ModelSpec(
            fusion=(
                ComponentSpace(name="concat"),
                ComponentSpace(name="gated", fields={"width": Choices(values=(8, 16))}),
            ),
            loss=(ComponentSpace(name="cross_entropy"), ComponentSpace(name="reweighted")),
            encoders={
                "title": (
                    ComponentSpace(
                        name="bag",
                        fields={
                            "checkpoint": Fixed(value="./minilm"),
                            "adapt": Choices(values=("none", "last_2")),
                            "dropout": Range(low=0.1, high=0.3),
                        },
                    ),
                )
            },
        ),
        train={
            "epochs": Fixed(value=10),
            "learning_rate": Range(low=1e-4, high=1e-2, log=True),
            "precision": Fixed(value="32"),
        },
        metric="macro_f1",
        search=SearchSpec(trials=60, time=7200),
        require=(
            GateSpec(metric="macro_f1", operator=">=", value=0.8),
            GateSpec(metric="latency_ms", operator="<=", value=20),
        ),
        export=("onnx", "flat"),
        seed=7,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data: a.csv", DataSpec(train=("a.csv",))),
        ("data: [a.csv, b.csv]", DataSpec(train=("a.csv", "b.csv"))),
        ("data: hf://user/set:config", DataSpec(train=("hf://user/set:config",))),
        (
            "data: {train: [a, b], valid: v, test: [t], max_bad_rows: 0}",
            DataSpec(train=("a", "b"), valid=("v",), test=("t",), max_bad_rows=0),
        ),
    ],
)
def test_data(parse, text, expected):
    assert parse(text, base="target: x\n").data == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no", TargetSpec(columns=("no",))),
        ("2020", TargetSpec(columns=("2020",))),
        ("007", TargetSpec(columns=("007",))),
        ("[a, b]", TargetSpec(columns=("a", "b"))),
        ('{column: tags, separator: "|"}', TargetSpec(columns=("tags",), separator="|")),
        ("{column: tags}", TargetSpec(columns=("tags",))),
    ],
)
def test_target(parse, text, expected):
    assert parse(f"target: {text}", base="data: x\n").target == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("words", InputSpec(name="a", modality="words")),
        ("number", InputSpec(name="a", modality="number")),
        ("", InputSpec(name="a")),
        ("[t_0, t_1]", InputSpec(name="a", columns=("t_0", "t_1"))),
        ("{modality: words}", InputSpec(name="a", modality="words")),
        ("{column: b}", InputSpec(name="a", columns=("b",))),
        ("{modality: words, columns: [b, 3]}", InputSpec(name="a", modality="words", columns=("b", "3"))),
    ],
)
def test_inputs(parse, text, expected):
    assert parse(f"inputs:\n  a: {text}\n").inputs == (expected,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("random", SplitSpec()),
        ("{group: g}", SplitSpec(method="group", column="g")),
        ("{time: t, valid: 0.1, test: 0.1}", SplitSpec(method="time", column="t", valid=0.1, test=0.1)),
        ("{method: time, column: t}", SplitSpec(method="time", column="t")),
        ("{valid: 0.3}", SplitSpec(valid=0.3)),
        ("{method: random, test: 0.5}", SplitSpec(test=0.5)),
    ],
)
def test_split(parse, text, expected):
    assert parse(f"split: {text}\n").split == expected


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("20m", 1200),
        ("20 min", 1200),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("1d", 86400),
    ],
)
def test_search_time(parse, text, seconds):
    assert parse(f"search: {{time: {text}}}\n").search == SearchSpec(time=seconds)


def test_imbalance_takes_the_remedies_of_the_registered_losses(parse, problems):
    assert parse("imbalance: [none, resample, weights]\n").imbalance == ("none", "resample", "weights")
    assert parse("imbalance: resample_sqrt\n").imbalance == ("resample_sqrt",)
    assert problems("imbalance: focal\n") == [
        "3:1 imbalance: unknown imbalance remedy 'focal'; there are: none, auto, resample, resample_over, "
        "resample_under, resample_sqrt, weights"
    ]


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("dropout: 0", Fixed(value=0)),
        ("dropout: [0.1]", Fixed(value=0.1)),
        ("dropout: [0.1, 0.2]", Choices(values=(0.1, 0.2))),
        ("width: {low: 8, high: 64, step: 8}", Range(low=8, high=64, step=8, integer=True)),
        ("width: {low: 8, high: 1e2, log: true}", Range(low=8, high=100, log=True, integer=True)),
        ("kernels: [3, 5]", Fixed(value=[3, 5])),
        ("kernels: [[3], [3, 5]]", Choices(values=([3], [3, 5]))),
        ("pooling: null", Fixed(value=None)),
        ("pooling: [null, max]", Choices(values=(None, "max"))),
        ("bits: [8, 16]", Choices(values=("8", "16"))),
        ("lower: [true, false]", Choices(values=(True, False))),
        ("checkpoint: 2020", Fixed(value="2020")),
    ],
)
def test_fields(parse, text, space):
    recipe = parse(f"model: {{encoders: {{words: {{name: bag, {text}}}}}}}\n")
    (bag,) = recipe.model.encoders["words"]
    assert bag.fields == {text.split(":")[0]: space}


def test_encoders_may_be_listed_with_different_fields(parse):
    recipe = parse("model: {encoders: {words: [{name: bag, width: 8}, {name: bag, width: 16}, bag]}}\n")
    assert [c.fields for c in recipe.model.encoders["words"]] == [
        {"width": Fixed(value=8)},
        {"width": Fixed(value=16)},
        {},
    ]


def test_names_may_carry_their_owner(parse):
    assert parse("model: {fusion: 'fakes:gated'}\n").model.fusion == (ComponentSpace(name="fakes:gated"),)


def test_encoders_of_unnamed_inputs_are_left_to_the_plan(parse):
    assert "title" in parse("model: {encoders: {title: bag}}\n").model.encoders
    assert "title" in parse('inputs: {"*": table}\nmodel: {encoders: {title: bag}}\n').model.encoders


PLUGIN = """
from automm.api import Fusion, hookimpl

class Woven(Fusion):
    def __init__(self, config, widths):
        super().__init__(config, widths)
    def forward(self, inputs):
        return None

@hookimpl
def automm_register(register):
    register(Woven)
"""


def test_plugins_of_the_recipe_are_loaded_first(tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    (tmp_path / "r.yaml").write_text("data: d.csv\ntarget: t\nplugins: mine.py\nmodel: {fusion: woven}\n")
    recipe, plugins = load_with_plugins(tmp_path / "r.yaml")
    assert recipe.plugins == ("mine.py",)
    assert recipe.folder == tmp_path.resolve()
    assert plugins.registry.get("fusion", "woven").__name__ == "Woven"


def test_plugins_outside_the_folder_are_refused(tmp_path):
    (tmp_path / "out.py").write_text(PLUGIN)
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "link.py").symlink_to(tmp_path / "out.py")
    recipe = inner / "r.yaml"
    for name in ("../out.py", str(tmp_path / "out.py"), "link.py"):
        recipe.write_text(f"data: d.csv\ntarget: t\nplugins: [{name}]\n")
        with pytest.raises(RecipeError, match=r"r\.yaml:3:1 plugins: .*out\.py|link\.py lies outside"):
            load_with_plugins(recipe)
    recipe.write_text("data: d.csv\ntarget: t\nplugins: [absent.py]\n")
    with pytest.raises(RecipeError, match=r"there is no Python file absent\.py"):
        load_with_plugins(recipe)


def test_plugins_that_are_not_loaded_are_named_after_the_problems(tmp_path):
    (tmp_path / "r.yaml").write_text("data: d.csv\ntarget: t\nmodel: {fusion: concat}\n")
    with pytest.raises(RecipeError) as raised:
        load_with_plugins(tmp_path / "r.yaml", block=["fusion"])
    problem, *notes = str(raised.value).splitlines()
    assert "unknown fusion 'concat'" in problem
    assert any(note.startswith("plugin fusion (automm ") and note.endswith("blocked by --block") for note in notes)


def test_a_recipe_file(registry, tmp_path):
    file = tmp_path / "goods.yaml"
    file.write_text("data: d.csv\ntarget: t\n")
    recipe = load_recipe(file, registry)
    assert (recipe.name, recipe.path) == ("goods", Path(file))
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
