"""Commands of the pages exist with their options; those of the quickstart do what the pages say."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import subprocess

import click
import pytest

from automm.cli.main import cli
from automm.recipe.yaml import parse_document
from docs.conftest import run
from docs.pages import PAGES, ROOT, blocks, commands, text

LINES = [(block, command) for block in blocks("sh") for command in commands(block)]


def parse(words: list[str]) -> str:
    """Parses an automm command line without running it; returns the command's name."""
    assert words[0] == "automm"
    command: click.Command = cli
    context, rest, name = click.Context(cli, info_name="automm"), words[1:], ""
    while isinstance(command, click.Group):
        name, command, rest = command.resolve_command(context, rest)
        context = click.Context(command, context, info_name=name)
    command.make_context(name, rest, parent=context.parent)
    return name


@pytest.mark.parametrize(("block", "command"), LINES, ids=lambda value: str(value))
def test_command_exists(block, command):
    words = shlex.split(command)
    if words[0] == "automm":
        parse(words)
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file()
    else:
        assert words[0] in ("python3", ".", "pip", "pytest"), command


def test_readme_has_two_commands_in_one_line_each():
    for name in ("quickstart", "tests"):
        found = re.search(rf"<!-- command: {name} -->\n```sh\n(.*?)\n```", text("README.md"), re.S)
        assert found, name
        assert "\n" not in found[1]
        assert "-c constraints.txt" in found[1]


def test_continuous_integration_runs_the_readme_command():
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "pip install" not in script
    assert 'bash -euo pipefail -c "$command"' in script
    extract = re.search(r"^command=.*$", script, re.M)[0]
    done = subprocess.run(
        ["bash", "-c", f'{extract}; printf %s "$command"'],
        env={**os.environ, "checkout": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    expected = re.search(r"<!-- command: tests -->\n```sh\n(.*?)\n```", text("README.md"), re.S)[1]
    assert done.stdout == expected
    assert 'pytest -m "not slow"' in expected


def test_constraints_pin_what_is_installed_and_nothing_local():
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line) for line in lines)
    assert "torch==2.13.0" in lines


def test_quickstart_commands_work(quickstart):
    folder, outputs = quickstart
    with (folder / "predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == [str(number) for number in range(1, 31)]
    assert all(row["prediction"] in set("0123456789") and not row["error"] for row in rows)
    fit = next(done for command, done in outputs.items() if command.startswith("automm fit"))
    assert {"only-image", "only-text", "only-tabular"} <= set(fit.stdout.split())


def test_evaluate_repeats_the_summary(quickstart):
    folder, outputs = quickstart
    said = next(done.stdout for command, done in outputs.items() if command.startswith("automm evaluate"))
    summary = json.loads((folder / "runs" / "quickstart" / "summary.json").read_text("utf-8"))
    shown = dict(line.split() for line in said.splitlines())
    assert float(shown["accuracy"]) == pytest.approx(summary["test"]["accuracy"], abs=1e-4)


def test_init_writes_the_recipe_of_the_page(quickstart):
    folder, _ = quickstart
    shown = parse_document(blocks("yaml", "quickstart.md")[0].text).data
    assert parse_document((folder / "first.yaml").read_text("utf-8")).data == shown


def test_five_line_recipe_is_the_quickstart_recipe():
    page, recipe = blocks("yaml", "quickstart.md")[1].text, (ROOT / "recipes" / "quickstart.yaml").read_text("utf-8")
    assert parse_document(page).data == parse_document(recipe).data
    assert len(page.splitlines()) == 5


def test_page_on_predicting(quickstart, monkeypatch):
    folder, _ = quickstart
    monkeypatch.chdir(folder)
    scope: dict[str, object] = {}
    exec(blocks("python", "predict.md")[0].text, scope)
    assert len(scope["found"].columns["prediction"]) == 1
    assert scope["found"].refused == {}
    head = (folder / "predictions.csv").read_text("utf-8").partition("\n")[0].split(",")
    assert head[:2] == ["row", "prediction"]
    assert head[-1] == "error"


def test_every_page_is_in_the_index():
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)\)", text("README.md")))
    assert linked == {path.name for path in (ROOT / "docs").glob("*.md")}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text(page)):
        path, _, anchor = target.partition("#")
        file = (PAGES[page].parent / path).resolve() if path else PAGES[page]
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, target


def test_missing_target_is_a_data_error(quickstart):
    folder, _ = quickstart
    (folder / "wrong.yaml").write_text("data: recipes/data/quickstart/train.csv\ntarget: digits\n", "utf-8")
    done = run("automm check wrong.yaml", folder)
    assert done.returncode == 4
    assert "did you mean 'digit'" in done.stderr
