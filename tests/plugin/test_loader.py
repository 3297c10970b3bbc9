"""Installed plugins: small real distributions on `sys.path`, in every state there is."""

from __future__ import annotations

import importlib
import json
import sys

import pytest
from fit.commands import run

from automm.errors import PluginError, UsageError
from automm.plugin.loader import load_plugins

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
