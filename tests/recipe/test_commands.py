from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from automm.cli.check import command as check
from automm.cli.init import command as init
from automm.cli.init import quoted
from automm.cli.schema import command as schema
from automm.errors import DataError, ExitCode, RecipeError, UsageError
from automm.recipe.parse import load_with_plugins
from automm.recipe.yaml import parse_document

SEASONS = ("Summer", "Winter")


@pytest.fixture
def goods(tmp_path, monkeypatch):
    """A table of 60 rows with an id, a text, a number, a category and a target."""
    monkeypatch.chdir(tmp_path)
    words = ("red linen shirt for", "warm wool coat against", "light sandals and", "thick socks beside")
    lines = ["sku,title,price,color,season"]
    for at in range(60):
        title = f"{words[at % 4]} {'the beach' if at % 2 else 'cold days'} {at * 7}"
        lines.append(
            f"SKU-{1000 + at * 13},{title},{at % 17 + 0.5},{('red', 'blue', 'green')[at % 3]},{SEASONS[at % 2]}"
        )
    (tmp_path / "goods.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def run(command, *arguments):
    result = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_init_writes_a_recipe_that_checks(goods):
    result = run(init, "goods.csv", "--target", "season", "-o", "recipes/goods.yaml")
    text = (goods / "recipes" / "goods.yaml").read_text()
    assert text in result.output
    assert 5 <= len(text.splitlines()) <= 15
    assert "data: ../goods.csv  # 60 rows, 5 columns" in text.replace('"', "")
    assert "  - sku  # " in text
    recipe, _ = load_with_plugins(goods / "recipes" / "goods.yaml")
    assert recipe.ignore == ("sku",)
    assert recipe.task is not None
    assert recipe.task.name == "classification"
    assert {spec.name: spec.modality for spec in recipe.inputs} == {"title": "text", "*": "tabular"}
    assert "season" in run(check, "recipes/goods.yaml").output


def test_init_replaces_a_recipe_only_when_told(goods):
    (goods / "recipe.yaml").write_text("mine")
    with pytest.raises(UsageError, match=r"recipe\.yaml exists"):
        run(init, "goods.csv", "--target", "season")
    assert (goods / "recipe.yaml").read_text() == "mine"
    run(init, "goods.csv", "--target", "season", "--force")
    assert "target: season" in (goods / "recipe.yaml").read_text()


def test_init_names_the_nearest_column(goods):
    with pytest.raises(DataError, match="no column 'saeson'; did you mean 'season'"):
        run(init, "goods.csv", "--target", "saeson")
    assert not (goods / "recipe.yaml").exists()


@pytest.mark.parametrize(
    "text",
    ["a", "a b", "no", "null", "true", "12", "1e3", "a: b", "a #b", "#x", "*", "é", "a,b", "[x", "'", '"', "x "],
)
def test_names_are_quoted_where_yaml_would_read_them_otherwise(text):
    assert parse_document(f"k: {quoted(text)}\n{quoted(text)}: [{quoted(text)}]\n").data == {"k": text, text: [text]}


def test_check_shows_every_problem(goods):
    (goods / "r.yaml").write_text("data: goods.csv\ntarget: season\nmodel: {fusion: gatd}\nmetric: acuracy\n")
    with pytest.raises(RecipeError) as raised:
        run(check, "r.yaml")
    first, second = str(raised.value).splitlines()
    assert first.startswith("r.yaml:3:9 model.fusion: unknown fusion 'gatd'; did you mean 'gated'?")
    assert second.startswith("r.yaml:4:1 metric: unknown metric 'acuracy'; did you mean 'accuracy'?")


def test_check_as_json(goods):
    (goods / "r.yaml").write_text("data: goods.csv\ntarget: season\nseed: x\n")
    result = run(check, "r.yaml", "--json")
    assert result.exit_code == ExitCode.RECIPE
    found = json.loads(result.output)
    assert found["ok"] is False
    assert found["problems"] == [
        {
            "file": "r.yaml",
            "line": 3,
            "column": 1,
            "key": "seed",
            "message": "must be a whole number from 0 to 4294967295, not 'x'",
        }
    ]
    (goods / "r.yaml").write_text("data: goods.csv\ntarget: saeson\n")
    result = run(check, "r.yaml", "--json")
    assert result.exit_code == ExitCode.DATA
    assert "saeson" in json.loads(result.output)["problems"][0]["message"]
    (goods / "r.yaml").write_text("data: goods.csv\ntarget: season\n")
    result = run(check, "r.yaml", "--json")
    assert result.exit_code == ExitCode.OK
    found = json.loads(result.output)
    assert found["ok"] is True
    assert any("season" in line for line in found["plan"])


def test_check_without_the_plugin_that_the_recipe_needs(goods):
    (goods / "r.yaml").write_text("data: goods.csv\ntarget: season\nmodel: {fusion: concat}\n")
    with pytest.raises(RecipeError, match=r"(?s)unknown fusion 'concat'.*plugin fusion .* is blocked"):
        run(check, "r.yaml", "--block", "fusion")


def test_schema_to_a_file_and_to_the_terminal(tmp_path):
    run(schema, "-o", tmp_path / "new" / "s.json")
    written = json.loads((tmp_path / "new" / "s.json").read_text())
    assert written == json.loads(run(schema).output)
    assert "fusion.concat" in written["definitions"]
    assert "fusion.concat" not in json.loads(run(schema, "--block", "fusion").output)["definitions"]


def test_no_command_imports_torch(goods):
    run(init, "goods.csv", "--target", "season")
    code = (
        "import sys\nfrom click.testing import CliRunner\n"
        "from automm.cli import check, init, schema\n"
        "for module, arguments in ((init, ['goods.csv', '--target', 'season', '--force']), (check, ['recipe.yaml']),\n"
        "                          (schema, [])):\n"
        "    result = CliRunner().invoke(module.command, arguments, catch_exceptions=False)\n"
        "    assert result.exit_code == 0, result.output\n"
        "sys.exit('torch was imported' if 'torch' in sys.modules else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=goods, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
