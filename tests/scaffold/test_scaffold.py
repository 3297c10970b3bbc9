"""`automm plugins new`: every kind is installed in an environment of its own, tested, and used by its recipe."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from fit.commands import run

from automm.core.kinds import KINDS as ALL_KINDS
from automm.scaffold import KINDS, LICENCES, scaffold
from automm.scaffold.make import WITH

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}  # fmt: skip
WORKER = Path(__file__).parent / "worker.py"


def children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An environment that sees the packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    seen = dict.fromkeys(path for path in sys.path if path.endswith(("site-packages", "dist-packages")))
    # As `import` would find them there: with their own .pth files, among them those of editable installs.
    (site / "parent.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in seen))
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def plugins(tmp_path_factory, python):
    """Kind → folder of its scaffolded plugin, all installed by pip."""
    root = tmp_path_factory.mktemp("plugins")
    made = {kind: scaffold(kind, f"acme:my_{kind}", root / kind) for kind in KINDS}
    editable = [argument for one in made.values() for argument in ("-e", str(one.folder))]
    command = [python, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", *editable]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {kind: one.folder for kind, one in made.items()}


@pytest.fixture(scope="module")
def worker(python, plugins):
    """A process in that environment that tests and fits the plugin in a folder."""
    command = [python, "-W", "ignore", WORKER]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=None, text=True, env=ENVIRONMENT) as process:
        yield process
        process.stdin.close()


def ask(worker, folder, *commands):
    """Runs commands in the environment; every one must succeed."""
    worker.stdin.write(json.dumps({"folder": str(folder), "run": commands}) + "\n")
    worker.stdin.flush()
    answers = json.loads(worker.stdout.readline())
    for command, (code, said) in zip(commands, answers, strict=True):
        assert code == 0, f"{command}: {said}"
    return [said for _, said in answers]


def summary(folder):
    return json.loads((folder / "summary.json").read_text("utf-8"))


@pytest.mark.parametrize("kind", KINDS)
def test_scaffolded_plugin_is_installed_tested_and_fitted(kind, plugins, worker):
    folder = plugins[kind]
    fit = ["automm", "fit", "recipe.yaml", "--out", "run", "--quiet"]
    tested, *_ = ask(worker, folder, ["pytest"], ["make_data"], fit)
    assert " passed" in tested
    found = summary(folder / "run")
    assert found["status"] == "ok"
    if kind in ("exporter", "compressor"):
        assert f"acme:my_{kind}" in json.dumps(found)
    elif kind == "fusion":  # its recipe searches over it and a built-in one
        reports = [json.loads(path.read_text("utf-8")) for path in (folder / "run" / "trials").glob("*/report.json")]
        assert {report["resolved"]["fusion"]["name"] for report in reports} == {"acme:my_fusion", "fusion:gated"}
        assert "failed" not in {report["state"] for report in reports}
    else:
        resolved = json.loads((folder / "run" / "package" / "provenance" / "resolved.json").read_text("utf-8"))
        owner = {"plugin": "acme", "distribution": f"acme-my-{kind}", "version": "0.1.0"}
        assert owner in resolved["components"].values()


def test_every_kind_can_be_scaffolded():
    assert {*KINDS, *WITH} == set(ALL_KINDS)


@pytest.mark.parametrize("licence", LICENCES)
def test_licence_and_metadata(tmp_path, licence):
    made = scaffold("loss", "firm_loss", tmp_path / "x", licence, "Ann Example")
    project = tomllib.loads((made.folder / "pyproject.toml").read_text("utf-8"))["project"]
    assert (project["name"], project["license"]) == ("automm-firm-loss", licence)
    assert project["authors"] == [{"name": "Ann Example"}]
    text = (made.folder / "LICENSE").read_text("utf-8")
    assert {"Apache-2.0": "Apache License", "MIT": "MIT License", "BSD-3-Clause": "BSD 3-Clause"}[licence] in text
    assert licence == "Apache-2.0" or "Ann Example" in text
    assert {path.relative_to(made.folder).as_posix() for path in made.folder.rglob("*") if path.is_file()} == {
        ".github/workflows/ci.yml", ".gitignore", "LICENSE", "README.md", "make_data.py", "pyproject.toml",
        "recipe.yaml", "src/automm_firm_loss/__init__.py", "tests/test_automm_firm_loss.py",
    }  # fmt: skip
    assert "model: {loss: firm_loss, encoders: {text: ngram}}" in (made.folder / "README.md").read_text("utf-8")
    assert "${{ matrix.python }}" in (made.folder / ".github/workflows/ci.yml").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("metric", "x"), "there is nothing to start from for the kind 'metric' (there are: encoder, fusion"),
        (("processor", "x"), "a processor comes with its encoder: automm plugins new encoder NAME"),
        (("fusion", "3x"), "'3x' is no name for a component: write NAME or OWNER:NAME in lower case"),
        (("fusion", "Router"), "'Router' is no name for a component"),
        (("fusion", "class"), "'class' is no name for a component"),
        (("fusion", "acme:"), "'acme:' is no name for a component"),
        (("fusion", "text"), "there is a Python package automm_text here already; choose another name, or an owner"),
        (("fusion", "router", "-o", "full"), "holds something already; name another folder with -o"),
        (("fusion", "router", "--licence", "GPL"), "licence 'GPL': choose one of Apache-2.0, MIT, BSD-3-Clause"),
    ],
)
def test_bad_requests(tmp_path, arguments, said):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    done = run("plugins", "new", *arguments, cwd=tmp_path)
    assert done.code == 2
    assert said in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_command_says_what_to_do_next(tmp_path):
    done = run("plugins", "new", "fusion", "gated", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "wrote automm-gated: the fusion gated:gated in src/automm_gated/__init__.py" in done.out  # a built-in's name
    assert "cd automm-gated\n  pip install -e '.[test]'\n  pytest" in done.out
    assert "model: {fusion: [gated:gated, fusion:gated]}" in (tmp_path / "automm-gated" / "recipe.yaml").read_text(
        "utf-8"
    )
