"""Installed plugins: small real distributions on `sys.path`, in every state there is."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
from fit.commands import run

from automm.core.profile import Context, InputInfo
from automm.errors import PluginError, RecipeError, UsageError
from automm.plan.candidates import Chooser
from automm.plugin.loader import load_plugins
from automm.recipe.parse import load_recipe
from automm.testing import fakes

GOOD = """
from automm.api import Features, Fusion, hookimpl

class {name}(Fusion):
    '''{name} of the tests.'''

    def __init__(self, config, widths):
        super().__init__(config, widths)
        self.width = 1

    def forward(self, inputs):
        return next(iter(inputs.values()))

@hookimpl
def automm_register(register):
    register({name})
"""
SOURCES = {
    "fine": GOOD.format(name="FineFusion"),
    "broken": "value = 1\nraise RuntimeError('it is Monday')\n",
    "halfway": GOOD.format(name="Halfway") + "    raise ValueError('after registering')\n",
    "newer": "AUTOMM_API = 2\n",
    "older": "AUTOMM_API = 0\n",
    "lacking": "import numpyy.linalg\n",
    "extra": "from automm.api import MissingExtraError\nraise MissingExtraError(\"pip install 'kit[audio]'\")\n",
    "quitter": "raise SystemExit('bye')\n",
    "mistyped": GOOD.format(name="Mistyped") + "\n@hookimpl\ndef automm_finish():\n    pass\n",
    "loud": "print('{')\n" + GOOD.format(name="Loud"),
}
STATES = {
    "fine": ("loaded", ""),
    "broken": ("broken", "RuntimeError: it is Monday (acme_broken.py:2)"),
    "halfway": ("broken", "ValueError: after registering (acme_halfway.py:17)"),
    "newer": ("outdated", "written for plugin API 2, this automm has 1: upgrade automm"),
    "older": ("outdated", "written for plugin API 0, this automm has 1: upgrade the plugin"),
    "lacking": ("unavailable", "needs the package 'numpyy': pip install numpyy"),
    "extra": ("unavailable", "pip install 'kit[audio]'"),
    "quitter": ("broken", "SystemExit: bye (acme_quitter.py:1)"),
    "mistyped": ("broken", "unknown hook 'automm_finish'"),
    "loud": ("loaded", ""),
}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a plugin as pip would leave it: a module, and a .dist-info with an entry point."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def add(name, source, distribution=None):
        distribution = distribution or f"acme-{name}"
        module = distribution.replace("-", "_")
        (site / f"{module}.py").write_text(source, "utf-8")
        info = site / f"{module}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[automm]\n{name} = {module}\n")
        importlib.invalidate_caches()

    yield add
    for name in set(sys.modules) - before:
        if name.startswith("acme_"):
            del sys.modules[name]


@pytest.fixture
def everything(install):
    for name, source in SOURCES.items():
        install(name, source)


BUILT_IN = {"tabular", "text", "image", "timeseries", "fusion", "losses", "tasks", "export"}


def test_every_state_and_nothing_takes_the_rest_down(everything):
    plugins = load_plugins(block=["acme-fine"])
    found = {status.owner.plugin: (status.state, status.reason) for status in plugins.statuses}
    assert {name: found[name] for name in BUILT_IN} == dict.fromkeys(BUILT_IN, ("loaded", ""))
    assert found.pop("fine") == ("blocked", "blocked by --block")
    for name, (state, reason) in STATES.items():
        if name != "fine":
            assert found[name][0] == state, name
            assert reason in found[name][1]
    assert {"concat", "gated", "loud"} <= set(plugins.registry.names("fusion"))
    assert not {"halfway", "mistyped", "fine_fusion"} & set(plugins.registry.names("fusion"))
    registered = {str(name) for name, _ in plugins.manager.list_name_plugin()}
    assert "loud (acme-loud 1.5)" in registered
    assert not any("halfway" in name for name in registered)


def test_strict_makes_broken_and_outdated_plugins_an_error(everything):
    with pytest.raises(PluginError) as raised:
        load_plugins(strict=True)
    lines = str(raised.value).splitlines()
    named = {line.split()[1] for line in lines if line.startswith("plugin ")}
    assert named == {"broken", "halfway", "newer", "older", "quitter", "mistyped", "loud"}


def test_list_shows_states_and_stays_json(everything, tmp_path):
    done = run("plugins", "list", "--json", "--block", "fine", cwd=tmp_path)
    assert done.code == 0
    rows = {row["name"]: row for row in json.loads(done.out) if row["distribution"].startswith("acme")}
    assert rows.keys() == STATES.keys()
    assert rows["fine"]["state"] == "blocked"
    assert rows["loud"] | {"about": ""} == {
        "kind": "fusion", "name": "loud", "plugin": "loud", "distribution": "acme-loud", "version": "1.5",
        "state": "loaded", "about": "",
    }  # fmt: skip
    assert rows["broken"]["about"] == "RuntimeError: it is Monday (acme_broken.py:2)"
    assert done.err == "{\n"  # what the plugin printed
    text = run("plugins", "list", cwd=tmp_path).out
    assert "acme-lacking" in text
    assert "unavailable  needs the package 'numpyy': pip install numpyy" in text


def test_list_strict(everything, tmp_path):
    done = run("plugins", "list", "--strict", cwd=tmp_path)
    assert done.code == 5
    assert "error: plugin broken (acme-broken 1.5) is broken: RuntimeError: it is Monday" in done.err


def test_two_distributions_with_the_same_plugin_name(install):
    install("fusion", GOOD.format(name="Concat"), "acme-one")
    install("fusion", SOURCES["broken"], "acme-two")
    plugins = load_plugins()
    states = {status.owner.distribution: status.state for status in plugins.statuses if status.owner.plugin == "fusion"}
    assert states == {"automm": "loaded", "acme-one": "loaded", "acme-two": "broken"}
    registry = plugins.registry
    assert {"acme-one:concat", "automm:concat"} <= set(registry.names("fusion"))
    with pytest.raises(PluginError, match=r"'concat' is offered by 2 plugins; write automm:concat or acme-one:concat"):
        registry.get("fusion", "concat")
    assert registry.entry("fusion", "acme-one:concat").owner.distribution == "acme-one"
    assert registry.entry("fusion", "automm:concat").cls.__module__ == "automm_fusion.concat"


def test_unknown_name_to_block():
    with pytest.raises(UsageError, match="--block fuson: no such plugin or distribution"):
        load_plugins(block=["fuson"])


def test_local_files(tmp_path):
    (tmp_path / "one.py").write_text(GOOD.format(name="One"), "utf-8")
    (tmp_path / "two.py").write_text(GOOD.format(name="Two"), "utf-8")
    plugins = load_plugins(files=[tmp_path / "one.py", tmp_path / "two.py", tmp_path / "." / "one.py"])
    assert {"one", "two"} <= set(plugins.registry.names("fusion"))
    assert str(plugins.registry.entry("fusion", "one").owner) == "one (local 0)"
    assert [status.file for status in plugins.statuses if status.file] == [tmp_path / "one.py", tmp_path / "two.py"]
    with pytest.raises(PluginError, match=r"three.py: file not found"):
        load_plugins(files=[tmp_path / "three.py"])


def test_commands_of_plugins(install, tmp_path):
    install(
        "hello",
        "import click\nfrom automm.api import hookimpl\n\n@hookimpl\ndef automm_commands(group):\n"
        "    group.add_command(click.Command('hello', callback=lambda: click.echo('hello')))\n",
    )
    grump = "from automm.api import hookimpl\n\n@hookimpl\ndef automm_commands(group):\n    raise OSError('no')\n"
    install("grump", grump)
    done = run("hello", cwd=tmp_path)
    assert (done.code, done.out) == (0, "hello\n")
    assert "warning: plugin grump (acme-grump 1.5): hook automm_commands raised OSError: no" in done.err
    assert run("hallo", cwd=tmp_path).code == 2


RECIPE = "data: train.csv\ntarget: verdict\nsearch: {{trials: 9}}\nmodel: {{fusion: {fusion}}}\n"


@pytest.mark.parametrize(
    ("fusion", "first", "others"),
    [
        ("[gated, 'acme:router']", ["gated", "acme:router"], False),
        ("[{name: 'acme:router', hidden: 8}, gated]", ["acme:router", "gated"], False),
        ("any", [], True),
        ("[gated, any]", ["gated"], True),
        ("['acme:router', any]", ["acme:router"], True),
    ],
)
def test_installed_fusions_are_searched_over_by_name_and_by_any(install, tmp_path, fusion, first, others):
    config = "    class Config(Fusion.Config):\n        hidden: int = 4\n        'Width.'\n\n"
    install("acme", GOOD.format(name="Router").replace("    def __init__", config + "    def __init__"), "acme-router")
    fakes.write(tmp_path, rows=20)
    (tmp_path / "r.yaml").write_text(RECIPE.format(fusion=fusion))
    plugins = load_plugins()
    recipe = load_recipe(tmp_path / "r.yaml", plugins.registry)
    context = Context("classification", (InputInfo("a", "text", ("a",)), InputInfo("b", "tabular", ("b",))), 20)
    chooser = Chooser(plugins.registry, context, searching=True)
    found = [space.name for space in chooser.fusions(recipe.model.fusion, "vector", 2)]
    assert found[: len(first)] == first
    assert len(found) == len(set(found))
    if others:
        assert len(found) > 6
        assert len({"router", "acme:router"} & set(found)) == 1
        assert "gated" in found
    else:
        assert found == first


def test_a_typo_beside_any_is_told(tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE.format(fusion="[any, gatd]"))
    with pytest.raises(RecipeError, match=r"r.yaml:4:23 model.fusion: unknown fusion 'gatd'; did you mean 'gated'\?"):
        load_recipe(tmp_path / "r.yaml", load_plugins().registry)


ZIP = """
from automm.api import Exporter, hookimpl

class ZipFile(Exporter):
    'A zip.'

    def export_package(self, package, folder):
        raise AssertionError

@hookimpl
def automm_register(register):
    register(ZipFile)
"""


def test_names_with_owners_where_recipes_choose_exporters_and_modalities(install, tmp_path):
    install("acme", ZIP, "acme-zip")
    fakes.write(tmp_path, rows=20)
    text = "data: train.csv\ntarget: verdict\ninputs: {review: 'text:text'}\nexport: ['acme:zip_file']\n"
    (tmp_path / "r.yaml").write_text(text)
    recipe = load_recipe(tmp_path / "r.yaml", load_plugins().registry)
    assert recipe.export == ("acme:zip_file",)
    assert recipe.inputs[0].modality == "text:text"
    (tmp_path / "r.yaml").write_text(text.replace("acme:zip", "acme:zap"))
    with pytest.raises(RecipeError, match="unknown exporter 'acme:zap_file'"):
        load_recipe(tmp_path / "r.yaml", load_plugins().registry)


def test_check_command(install, tmp_path):
    install("fine", SOURCES["fine"])
    quick = ("--only", "registers", "--only", "documented", "--only", "strict")
    done = run("plugins", "check", "fine_fusion", *quick, cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        "fusion fine_fusion, plugin fine (acme-fine 1.5)",
        "  pass  registers",
        "  pass  is_documented",
        "  pass  config_is_strict",
        "3 passed, 0 failed",
    ]
    failing = run("plugins", "check", "fine:fine_fusion", "--only", "its_width", "--json", cwd=tmp_path)
    assert failing.code == 5
    (found,) = json.loads(failing.out)
    assert found | {"reason": ""} == {
        "kind": "fusion", "name": "fine_fusion", "owner": "fine (acme-fine 1.5)", "check": "gives_its_width",
        "reason": "",
    }  # fmt: skip
    assert found["reason"].startswith("joint tokens where vector are needed: [16, 4, 6], width 1")
    assert run("plugins", "check", "acme-fine", *quick, cwd=tmp_path).out == done.out
    text = run("plugins", "check", "fine", "--only", "its_width", cwd=tmp_path).out
    assert "  FAIL  gives_its_width: joint tokens where vector are needed" in text
    assert text.endswith("0 passed, 1 failed\n")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("brokn",), 5, "no component or plugin 'brokn'"),
        (("broken",), 5, "plugin broken (acme-broken 1.5) is broken: RuntimeError: it is Monday"),
        (("gatd",), 5, "no component or plugin 'gatd'; did you mean 'gated'?"),
        (("gated", "--kind", "loss"), 5, "no component or plugin 'gated'"),
        (("gated", "--set", "hidden"), 2, "--set hidden: write FIELD=VALUE"),
    ],
)
def test_check_command_says_what_is_wrong(install, tmp_path, arguments, code, said):
    install("broken", SOURCES["broken"])
    done = run("plugins", "check", *arguments, cwd=tmp_path)
    assert done.code == code, done.out
    assert said in done.err


OTHER_TASK = """
from automm.api import hookimpl
from automm_tasks import Classification as Base

class Classification(Base):
    '''Classes once more.'''

@hookimpl
def automm_register(register):
    register(Classification)
"""


def test_evaluate_does_without_a_plugin(install, tmp_path):
    """A plugin that came later offers a task of the package's name: either is left out by `--block`."""
    package = Path(__file__).parents[1] / "package" / "fixtures" / "v1"
    rows = ["note,degrees,place,season", "sun sun beach,-0.8,south,warm", "ice wind,2.2,north,cold"]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n", "utf-8")
    install("classes", OTHER_TASK)
    evaluate = ("evaluate", package, "rows.csv", "--allow-missing", "--json")
    done = run(*evaluate, cwd=tmp_path)
    assert done.code == 5
    assert "'classification' is offered by 2 plugins; write tasks:classification or classes:classification" in done.err
    done = run(*evaluate, "--block", "classes", cwd=tmp_path)
    assert done.code == 0, done.err
    assert json.loads(done.out)["rows"] == 2
