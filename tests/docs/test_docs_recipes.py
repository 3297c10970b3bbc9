"""Every recipe of the pages loads, suits editors, and fits a table with the columns it names."""

from __future__ import annotations

import csv
import random
import shlex

import jsonschema
import pytest
import yaml

from automm.plan import check_data
from automm.plugin.loader import load_plugins
from automm.recipe.parse import KEYS, load_with_plugins
from automm.recipe.schema import recipe_schema
from automm.recipe.yaml import parse_document
from docs.conftest import make_quickstart
from docs.pages import blocks
from docs.test_docs_commands import parse

YAML = [block for block in blocks("yaml") if block.page != "recipe.md"]  # tests/recipe/test_docs.py has those
RECIPES = [block for block in YAML if set(yaml.safe_load(block.text)) <= set(KEYS)]
PIPELINES = [block for block in YAML if block not in RECIPES]
CODE = {block.text.partition("\n")[0].removeprefix("# "): block.text for block in blocks("python", "plugins.md")}

ROWS = 90
COLUMNS = {
    "products.csv": ("season", "zip_code", "seller_id"),
    "holdout.csv": ("season", "zip_code", "seller_id"),
    "parts.csv": ("state",),
    "houses.csv": ("price", "sold_at"),
    "later_houses.csv": ("price", "sold_at"),
    "films.csv": ("drama", "comedy", "thriller"),
    "catalogue.csv": ("genres",),
}
CELLS = {
    "season": lambda at: ("spring", "summer", "autumn")[at % 3],
    "zip_code": lambda at: str(10115 + at % 7),
    "seller_id": lambda at: f"S{at % 12}",
    "state": lambda at: "broken" if at % 6 == 0 else "whole",
    "price": lambda at: f"{100_000 + 997 * at}.50",
    "sold_at": lambda at: f"2025-{at % 12 + 1:02d}-{at % 28 + 1:02d}",
    "drama": lambda at: at % 2,
    "comedy": lambda at: int(at % 3 == 0),
    "thriller": lambda at: int(at % 5 == 0),
    "genres": lambda at: ("drama", "drama|comedy", "thriller", "comedy|thriller")[at % 4],
    "rooms": lambda at: random.Random(at).randint(1, 9),
    "internal_note": lambda at: f"note {at}",
    "title": lambda at: f"a {random.Random(at).choice(['red', 'green'])} thing number {at} with handles",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with every table and plugin file that a recipe of the pages names."""
    folder = tmp_path_factory.mktemp("recipes")
    for name, columns in COLUMNS.items():
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            names = [*columns, "rooms", "internal_note", "title"]
            writer = csv.writer(file)
            writer.writerow(names)
            writer.writerows([CELLS[column](at) for column in names] for at in range(ROWS))
    make_quickstart(folder)
    (folder / "data").symlink_to(folder / "recipes" / "data")
    (folder / "mean_fusion.py").write_text(CODE["mean_fusion.py"], "utf-8")
    return folder


@pytest.mark.parametrize("block", RECIPES, ids=str)
def test_recipe_fits_its_table(block, folder):
    path = folder / "recipe.yaml"
    path.write_text(block.text, "utf-8")
    recipe, plugins = load_with_plugins(path)
    jsonschema.Draft7Validator(recipe_schema(plugins.registry)).validate(parse_document(block.text).data)
    lines = check_data(recipe, plugins)
    assert any(line.startswith("target") and recipe.target.columns[0] in line for line in lines)


def test_there_are_recipes_on_every_task_page():
    pages = {block.page for block in RECIPES}
    assert {"classification.md", "regression.md", "multilabel.md", "data.md", "quickstart.md"} <= pages


@pytest.mark.parametrize("block", PIPELINES, ids=str)
def test_pipeline(block):
    assert block.page == "ci.md", "a YAML block is a recipe, or a pipeline of ci.md"
    content = yaml.safe_load(block.text)
    jobs = content.get("jobs", {key: value for key, value in content.items() if isinstance(value, dict)})
    for job in jobs.values():
        lines = job.get("script") or [step["run"] for step in job["steps"] if "run" in step]
        used = [parse(shlex.split(line)) for line in lines if line.startswith("automm ")]
        assert used == ["check", "fit"]


@pytest.mark.parametrize("task", load_plugins().registry.all("task"), ids=lambda entry: entry.name)
def test_task_page_names_the_metrics(task):
    from docs.pages import names, text

    _, _, below = text(f"{task.name}.md").partition("## Metrics\n\n")
    assert names(below.partition("\n\n")[0]) == list(task.cls.metric_names())
