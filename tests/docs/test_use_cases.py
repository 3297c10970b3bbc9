"""The use cases: every recipe checks, learns from its made table, and predicts by the commands of its page."""

from __future__ import annotations

import csv
import json
import re
import shlex
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from fit.commands import run

from automm.plugin.loader import load_plugins
from automm.recipe.parse import KEYS, load_recipe_text
from automm.recipe.schema import recipe_schema
from automm.recipe.yaml import parse_document
from docs.pages import ROOT
from docs.test_docs_commands import parse

RECIPES = {path.stem: path for path in sorted((ROOT / "recipes").glob("*.yaml")) if path.stem != "quickstart"}
INDEX = ROOT / "docs" / "use-cases" / "index.md"
PAGES = {path.stem: path for path in sorted(INDEX.parent.glob("*.md")) if path != INDEX}
USE_CASE = {name: Path(yaml.safe_load(path.read_text("utf-8"))["data"]).parent.name for name, path in RECIPES.items()}

LINEAR, TREES = {"learner": "linear"}, {"learner": "lightgbm"}
# Rows, model and trials of a short run, and what the metric must reach on the test rows.
CASES = {
    "review-sentiment": (200, LINEAR, 1, ("accuracy", 0.8)),
    "product-photo-title": (160, LINEAR, 1, ("macro_f1", 0.7)),
    "fraud": (1200, None, 3, ("average_precision", 0.5)),
    "medical-record": (120, None, 3, ("roc_auc", 0.85)),
    "machine-failure": (160, LINEAR, 2, ("macro_f1", 0.65)),
    "machine-life": (160, LINEAR, 1, ("r2", 0.6)),
    "surveillance-clip": (48, LINEAR, 1, ("accuracy", 0.8)),
    "spoken-command": (96, LINEAR, 1, ("accuracy", 0.8)),
    "vehicle-sensors": (80, LINEAR, 1, ("accuracy", 0.75)),
    "visual-question": (240, LINEAR, 1, ("accuracy", 0.7)),
    "recommendation": (600, TREES, 1, ("roc_auc", 0.62)),
}
CHECKPOINTS = ("minilm", "dinov2-small", "scan-vit", "videomae", "wav2vec2-base", "clip")


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page; those inside of a list without their indent."""
    found = re.finditer(rf"^( *)```{language}\n(.*?)^ *```$", page.read_text("utf-8"), re.S | re.M)
    return [re.sub(rf"^{match[1]}", "", match[2], flags=re.M) for match in found]


def commands(page: Path) -> list[str]:
    return [line for block in blocks(page, "sh") for line in block.splitlines()]


@pytest.fixture(scope="module")
def make():
    """The function that makes the data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "recipes")
        import make_data

        yield make_data.make
    for name in ("make_data", "made_media"):
        sys.modules.pop(name)


@pytest.fixture(scope="module")
def checkout(make, tmp_path_factory):
    """Recipe → a folder with `recipes/`, and in it all recipes as committed and this one's data in few rows."""
    folders: dict[str, Path] = {}

    def of(recipe: str) -> Path:
        case = USE_CASE[recipe]
        if case not in folders:
            folders[case] = tmp_path_factory.mktemp(case)
            make(case, folders[case] / "recipes" / "data" / case, CASES[recipe][0])
        (folders[case] / "recipes" / f"{recipe}.yaml").write_text(RECIPES[recipe].read_text("utf-8"), "utf-8")
        return folders[case]

    return of


def shorten(path: Path) -> None:
    """The recipe with a small search, on descriptors that need no training."""
    _, model, trials, _ = CASES[path.stem]
    short = yaml.safe_load(path.read_text("utf-8"))
    assert "model" not in short
    short |= {"model": model} if model else {}
    short["search"] = {"trials": trials, "baselines": False, "ensemble": False}
    path.write_text(yaml.safe_dump(short), "utf-8")


def test_every_recipe_has_a_case_and_a_page():
    assert set(CASES) == set(RECIPES)
    assert set(USE_CASE.values()) == set(PAGES)
    row = re.compile(r"^\| \[.*?\]\((.*?)\.md\) .*\[.*?\]\(\.\./\.\./recipes/(.*?)\.yaml\) \|$", re.M)
    listed = row.findall(INDEX.read_text("utf-8"))
    assert {recipe: page for page, recipe in listed} == USE_CASE


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_is_short_and_checks_as_committed(recipe, checkout):
    lines = [line for line in RECIPES[recipe].read_text("utf-8").splitlines() if not line.startswith("#")]
    assert 5 <= len(lines) <= 12
    done = run("check", f"recipes/{recipe}.yaml", cwd=checkout(recipe))
    assert done.code == 0, done.said
    assert re.search(r"^budget +\d+ s$", done.out, re.M)


@pytest.mark.parametrize("recipe", CASES)
def test_recipe_learns_and_predicts(recipe, checkout):
    folder, (metric, least) = checkout(recipe), CASES[recipe][-1]
    shorten(folder / "recipes" / f"{recipe}.yaml")
    for command in commands(PAGES[USE_CASE[recipe]]):
        if re.search(rf"\b{recipe}\b[./]", command) and command.startswith("automm "):
            done = run(*shlex.split(command)[1:], cwd=folder)
            assert done.code == 0, done.said
    summary = json.loads((folder / "runs" / recipe / "summary.json").read_text("utf-8"))
    assert summary["test"][metric] >= least
    with (folder / f"{recipe}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert all(row["prediction"] and not row["error"] for row in rows)
    if recipe == "recommendation":
        check_ranking(folder, rows)


def check_ranking(folder, rows):
    """The page's code puts the candidates with the highest scores first."""
    scope: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(blocks(PAGES["recommendation"], "python")[0], scope)
    scores = [float(row["probability_yes"]) for row in rows]
    assert [scores[row] for row in scope["best"]] == pytest.approx(sorted(scores, reverse=True)[:5])


@pytest.mark.parametrize("case", PAGES)
def test_page_shows_the_table_and_the_recipes(case, make, tmp_path):
    make(case, tmp_path, 3)
    assert blocks(PAGES[case], "csv") == [(tmp_path / "table.csv").read_text("utf-8")]
    columns = (tmp_path / "table.csv").read_text("utf-8").partition("\n")[0].split(",")
    table = re.search(r"^\| column .*?\n\n", PAGES[case].read_text("utf-8"), re.S | re.M)[0]
    assert set(re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\|[^|]*\|", table, re.M)))) == set(columns)
    own = [recipe for recipe, of in USE_CASE.items() if of == case]
    assert blocks(PAGES[case], "yaml")[: len(own)] == [RECIPES[recipe].read_text("utf-8") for recipe in own]


@pytest.mark.parametrize("case", PAGES)
def test_changes_that_the_page_proposes_are_valid(case, tmp_path):
    """Each block below the recipes, and each `key: value` in the text, is a recipe together with the page's recipe."""
    registry = load_plugins().registry
    validator = jsonschema.Draft7Validator(recipe_schema(registry))
    for name in CHECKPOINTS:
        (tmp_path / name).mkdir()
    own = [recipe for recipe, of in USE_CASE.items() if of == case]
    _, _, below = PAGES[case].read_text("utf-8").partition("## What to change")
    inline = [text for text in re.findall(r"`([^`\n]+: [^`\n]+)`", below) if text.partition(":")[0] in KEYS]
    changes = [*blocks(PAGES[case], "yaml")[len(own) :], *inline]
    assert changes
    for change in changes:
        keys = parse_document(change).data
        base = next((name for name in own if "quantile" in change and name.endswith("life")), own[0])
        recipe = yaml.safe_load(RECIPES[base].read_text("utf-8")) | keys
        text = yaml.safe_dump(recipe, sort_keys=False)
        load_recipe_text(text, tmp_path / "recipe.yaml", registry)
        validator.validate(parse_document(text).data)


@pytest.mark.parametrize("page", [INDEX, *PAGES.values()], ids=lambda path: path.stem)
def test_links_and_commands_of_the_page(page):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text("utf-8")):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve()
        assert file.is_file(), target
        headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.M)
        assert not anchor or anchor in {heading.lower().replace(" ", "-") for heading in headings}, target
    for command in commands(page):
        words = shlex.split(command)
        if words[0] == "python":
            assert words[1:] == ["recipes/make_data.py", words[2]]
            assert words[2] in PAGES
        else:
            parse(words)


def test_script_writes_the_same_rows_every_time(make, tmp_path):
    for name, rows in (("once", 6), ("again", 9)):
        make("spoken-command", tmp_path / name, rows)
    once, again = ((tmp_path / name / "table.csv").read_text("utf-8").splitlines() for name in ("once", "again"))
    assert (len(once), len(again)) == (7, 10)
    assert again[:7] == once
    sounds = [(tmp_path / name / "recordings" / "00005.wav").read_bytes() for name in ("once", "again")]
    assert sounds[0] == sounds[1]
