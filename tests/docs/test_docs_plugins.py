"""What docs/plugins.md and docs/plugins/ show works: plugins, the tutorial, the reference and the picture."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from automm import api
from automm.cli.main import cli
from automm.core.component import Component
from automm.core.kinds import KINDS
from automm.core.processor import Processor
from automm.plugin.deprecation import warn_removed
from automm.plugin.loader import load_plugins
from automm.plugin.manners import watched
from automm.plugin.registry import validate
from automm.testing import fakes, parametrize
from docs.environment import SETTINGS, stand_in
from docs.pages import ROOT, blocks

CODE = {block.text.partition("\n")[0].removeprefix("# "): block.text for block in blocks("python", "plugins.md")}


@pytest.fixture
def folder(tmp_path):
    """The page's files."""
    for name, code in CODE.items():
        (tmp_path / name).write_text(code, "utf-8")
    return tmp_path


def test_files_load_as_plugins_without_torch(folder):
    components = {
        "fusion": "mean_fusion", "encoder": "letter_bag word_lengths", "learner": "nearest_mean", "": "say_when_done",
    }  # fmt: skip
    files = [f"{name}.py" for listed in components.values() for name in listed.split()]
    code = (
        "import sys; from pathlib import Path; from automm.plugin.loader import load_plugins\n"
        f"r = load_plugins(files=[Path(name) for name in {files}]).registry\n"
        f"print(*(r.get(kind, name).name for kind, names in {components}.items() if kind for name in names.split()))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["mean_fusion", "letter_bag", "word_lengths", "nearest_mean", "False"]


def test_page_s_own_tests_pass(folder):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_acme.py"],
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_entry_points_name_what_the_files_hold(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    points = tomllib.loads(blocks("toml", "plugins.md")[0].text)["project"]["entry-points"]
    assert hasattr(importlib.import_module(points["automm"]["acme"]), "automm_register")
    for op, target in points["automm_ops"].items():
        module, _, name = target.partition(":")
        processor = getattr(importlib.import_module(module), name)
        assert issubclass(processor, Processor)
        assert processor.op == op


def test_hook_is_called_with_the_arguments_it_wants(folder, capsys):
    plugins = load_plugins(files=[folder / "say_when_done.py"])
    warned = []
    plugins.call("automm_package_written", warned.append, package=folder, manifest={})
    assert capsys.readouterr().out == f"look into {folder}\n"
    assert warned == []


PAGES = ROOT / "docs" / "plugins"


def tutorial_blocks():
    """Language, file name (of a file) and text of every block of the tutorial, in order."""
    for match in re.finditer(r"^```(\w+)\n(.*?)^```$", (PAGES / "tutorial.md").read_text("utf-8"), re.S | re.M):
        name = re.match(r"# (\S+\.\w+)\n", match[2])
        yield match[1], name[1] if name else "", match[2]


@pytest.mark.timeout(900)  # many processes: a busy machine takes its time
@pytest.mark.slow  # installs distributions into environments of its own
def test_tutorial(tmp_path):
    """Every block in order: files are written, commands run, and what they are said to print is printed."""
    path = f"{stand_in(tmp_path / 'bin')}:{os.environ['PATH']}"
    environment = {**os.environ, **SETTINGS, "PATH": path, "OMP_NUM_THREADS": "1"}
    folder, activated, said, ran = tmp_path, "", "", 0
    failing = False
    for language, name, text in tutorial_blocks():
        assert language == "text" or not failing, said
        if name:
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
        elif language == "sh":
            script = f"set -eo pipefail\n{activated}\n{text}\npwd > {tmp_path}/folder"
            done = subprocess.run(
                ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            said, ran = done.stdout + done.stderr, ran + 1
            failing = done.returncode != 0
            if not failing:  # a block may change the folder
                folder = Path((tmp_path / "folder").read_text("utf-8").strip())
            if ".venv/bin/activate" in text:
                activated = f". {folder}/.venv/bin/activate"
        elif language == "text":
            assert failing == ("FAILED" in text), said
            for line in text.splitlines():
                assert line in said, said
            failing = False
    assert not failing, said
    assert ran == sum(language == "sh" for language, _, _ in tutorial_blocks()) > 5
    assert (folder / "dist" / "acme_fusion-1.0.0-py3-none-any.whl").exists()
    summary = json.loads((folder / "run" / "summary.json").read_text("utf-8"))
    assert summary["status"] == "ok"
    assert max(summary["baselines"].values()) < 0.85 < summary["best"]["value"]
    assert not list((folder / ".venv").rglob("torch")), "the tutorial installs nothing that is there"


SNIPPETS = {path.stem: path for path in sorted((PAGES / "snippets").glob("*.py"))}


def load(path):
    """A script's names, without running it as a script."""
    return runpy.run_path(str(path))


def test_what_is_made_from_the_code_is_fresh():
    reference, diagram = load(PAGES / "reference.py"), load(PAGES / "diagram.py")
    assert reference["PAGE"].read_text("utf-8") == reference["page"](), "run python docs/plugins/reference.py"
    assert reference["CHECKS_PAGE"].read_text("utf-8") == reference["checks_page"](), "run docs/plugins/reference.py"
    assert diagram["PICTURE"].read_text("utf-8") == diagram["picture"](), "run python docs/plugins/diagram.py"


def page(name):
    """The text of a page for authors."""
    return (PAGES / name).read_text("utf-8")


def python_blocks(name):
    """The Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```$", page(name), re.S | re.M)


def test_page_on_testing(tmp_path, monkeypatch, capsys):
    for text in python_blocks("testing.md"):
        (tmp_path / text.partition("\n")[0].removeprefix("# ")).write_text(text, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    load(tmp_path / "list_checks.py")
    assert "pass missing_tokens_do_not_matter" in capsys.readouterr().out
    from automm.testing.fixtures import Project  # not before pytest has taken it in as a plugin

    assert load(tmp_path / "conftest.py")["pytest_plugins"] == [Project.__module__]
    (tmp_path / "project").mkdir()
    load(tmp_path / "test_run.py")["test_run"](Project(tmp_path / "project"))
    words = set(re.findall(r"`(\w+)`", re.search(r"`automm.testing.fakes` writes.*?\.\n", page("testing.md"), re.S)[0]))
    assert words == set(fakes.KINDS)
    parameters = set(inspect.signature(parametrize).parameters)
    for argument in re.findall(r"^\| `(\w+)=", page("testing.md"), re.M):
        assert argument in parameters
    commands = (("plugins", "check"), ("plugins", "list"), ("fit",))
    options = {flag for words in commands for option in find_command(*words).params for flag in option.opts}
    assert set(re.findall(r"`?(--[a-z]+)", page("testing.md"))) <= options


def find_command(*words):
    """A command of automm."""
    found, context = cli, click.Context(cli)
    for word in words:
        found = found.get_command(context, word)
    return found


def test_page_on_distributing(tmp_path):
    scope = {}
    for code in python_blocks("distributing.md"):
        exec(compile(code, "distributing.md", "exec", dont_inherit=True), scope)
    with pytest.raises(api.MissingExtraError, match="pyshp"):
        scope["reader"]()
    text = page("distributing.md")
    (command,) = re.findall(r"^automm (plugins new .*)$", text, re.M)
    assert CliRunner().invoke(cli, [*command.split(), "-o", str(tmp_path / "made")]).exit_code == 0
    assert tomllib.loads((tmp_path / "made" / "pyproject.toml").read_text("utf-8"))["project"]["license"] == "MIT"
    for kind in KINDS:
        assert kind in text
    points, pytest_settings = (tomllib.loads(text) for text in re.findall(r"^```toml\n(.*?)^```$", text, re.S | re.M))
    real = tomllib.loads((ROOT / "docs/examples/automm-tracks/pyproject.toml").read_text("utf-8"))
    assert points["project"]["entry-points"] == real["project"]["entry-points"]
    assert pytest_settings["tool"]["pytest"]["ini_options"] == {"filterwarnings": ["error"]}
    deprecated, complaint = re.findall(r"^```text\n(.*)\n```$", text, re.M)
    with pytest.warns(api.RemovedInAutomm2Warning, match=f"^{deprecated}$"):
        warn_removed("automm.api.Feature", "automm.api.Features", "1.3")
    with watched(importing=True) as seen:
        print("ready")
    assert seen.complaints[0].startswith(complaint.partition(": ")[2])


def test_every_base_class_and_hook_has_an_example():
    made = load(PAGES / "reference.py")
    wanted = {made["snake"](name) for name in made["bases"]()} | set(made["hooks"]())
    assert wanted <= set(SNIPPETS)
    assert set(SNIPPETS) - wanted == {"array_spec", "config", "features"}


@pytest.mark.parametrize("name", SNIPPETS)
def test_example_of_the_reference_runs(name):
    scope = load(SNIPPETS[name])
    for thing in scope.values():
        if isinstance(thing, type) and issubclass(thing, Component) and thing.__module__ == "<run_path>":
            validate(thing)  # what `register` does


def test_reference_names_what_is_in_the_interface():
    headings = set(re.findall(r"^### (\w+)$", page("reference.md"), re.M))
    made = load(PAGES / "reference.py")
    assert headings == set(api.__all__) | set(made["hooks"]())


def test_diagram_names_methods_that_exist():
    made = load(PAGES / "diagram.py")
    hooks = load(PAGES / "reference.py")["hooks"]()
    kinds = {base.__name__: kind for kind, base in KINDS.items()}
    assert set(made["CALLS"]) == {*kinds, "hooks"}
    for kind, phases in made["CALLS"].items():
        assert set(phases) <= set(made["PHASES"])
        bases = [thing for name in api.__all__ if getattr(thing := getattr(api, name), "kind", None) == kinds.get(kind)]
        for method in (method for methods in phases.values() for method in methods):
            known = method in hooks if kind == "hooks" else any(hasattr(base, method) for base in bases)
            assert known, f"{kind}.{method}"
