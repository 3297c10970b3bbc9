"""Plugins with every kind of mistake: found at the earliest point, with one message that says what to change."""

from __future__ import annotations

import contextlib
import io
import re
import sys

import pytest
from fit.commands import run

from automm.errors import PluginError
from automm.plugin.loader import load_plugins
from automm.plugin.manners import watched
from automm.testing import checks_for, fakes

FUSION = """
from automm.api import Features, Fusion, hookimpl, nn, torch
{top}
class Mine(Fusion):
    '''A sum.'''

    def __init__(self, config, widths):
        super().__init__(config, widths)
        self.width = 4
        self.project = nn.ModuleList([nn.Linear(width, 4) for width in widths.values()])
        {init}

    def forward(self, inputs{more}):
        joint = sum(p(f.mean()) for p, f in zip(self.project, inputs.values(), strict=True))
        {forward}
        return Features.vector(joint)

@hookimpl
def automm_register(register):
    register(Mine){register}
"""


def source(top="", init="", more="", forward="", register=""):
    return FUSION.format(top=top, init=init, more=more, forward=forward, register=register)


WHO = r"plugin mine \(local 0\)"
REFUSED = {
    "wrong signature": (
        source(more=", times"),
        r"fusion Mine: forward\(self, inputs, times\) must accept forward\(self, ",
    ),
    "missing attribute": (
        source().replace("Fusion)", "Loss)").replace("Fusion,", "Loss,"),
        r"loss Mine: set the class attribute `targets`",
    ),
    "missing method": (source().replace("def forward", "def forwards"), r"fusion Mine: write the method `forward`"),
    "registered twice": (source(register="; register(Mine)"), "fusion 'mine' is registered twice by plugin mine"),
    "newer interface": (source(top="AUTOMM_API = 99"), "written for plugin API 99, this automm has 1: upgrade automm"),
    "newer name": (
        source().replace("nn, torch", "nn, torch, Planner"),
        r"automm.api has no 'Planner' in automm [\d.]+ \(plugin API 1\): upgrade automm to a version that has it",
    ),
    "misspelt name": (
        source().replace("Features, F", "Feature, F"),
        r"automm.api has no 'Feature'; did you mean 'Features'\?",
    ),
    "missing extra": (source(top="import numpyy"), "needs the package 'numpyy': pip install numpyy"),
    "unknown hook": (
        source().replace("def automm_register", "def automm_registers"),
        "unknown hook 'automm_registers'",
    ),
}
"""What is wrong → the plugin, and what is said when it is registered."""

COMPLAINED = {
    "prints": (
        source(top="print('ready')"),
        r"it prints to standard output when it is imported \('ready'\): use the logging",
    ),
    "seeds Python": (source(top="import random; random.seed(3)"), "it changes the global random state of random when"),
    "seeds NumPy": (
        source(top="import numpy; numpy.random.seed(3)"),
        "random state of numpy.random when it is imported: use a",
    ),
    "seeds torch": (
        source(top="import torch as t; t.manual_seed(3)"),
        "the global random state of torch when it is imported",
    ),
    "starts threads": (
        source(top="import threading; threading.Thread(target=threading.Event().wait, args=(1,), name='poll').start()"),
        r"it starts threads when it is imported \(poll\): start them where they are used",
    ),
    "slow import": (
        source(top="import time; time.sleep(0.3)"),
        r"it takes 0\.\d s to import: move the work into the function",
    ),
    "heavy import": (source(top="import acme_heavy"), r"it imports acme_heavy when it is imported, for every command"),
}
"""What is wrong → the plugin, and what is said about it; it is loaded all the same, except under `--strict`."""

FIRST_BATCH = {
    "wrong shape": (
        source(forward="return Features.vector(joint[:, :3])"),
        r"must give tokens \[batch, time, 4\] \(its width\)",
    ),
    "no features": (source(forward="return joint"), rf"fusion 'mine' of {WHO} must give Features, it gave Tensor"),
    "NaN": (
        source(forward="joint = joint / 0 * 0"),
        rf"fusion 'mine' of {WHO} gives NaN or infinity in the first training",
    ),
    "no width": (source(init="del self.width"), rf"fusion 'mine' of {WHO} must set self.width in __init__, it is None"),
    "raises": (source(forward="{}['x']"), rf"fusion 'mine' of {WHO}: forward raised KeyError: 'x'"),
}
"""What is wrong → the plugin, and what the trial says."""

CHECKED = {
    "prints": (source(forward="print('step')"), "minds_its_own_business", r"it prints to standard output \('step'\)"),
    "seeds": (
        source(init="torch.manual_seed(1)"),
        "minds_its_own_business",
        "global random state of torch: use a generator",
    ),
    "NaN": (source(forward="joint = joint / 0 * 0"), "any_input_may_be_missing", "missing inputs must not give NaN"),
    "wrong shape": (
        source(forward="return Features.vector(joint[:, :3])"),
        "gives_its_width",
        r"\[16, 1, 3\], width 4",
    ),
}
"""What is wrong → the plugin, the check that finds it, and what it says."""


@pytest.fixture
def load(tmp_path, monkeypatch):
    import torch  # noqa: F401  (its seed is only watched once it is loaded)

    monkeypatch.setattr("automm.plugin.manners.WALL_SECONDS", 0.25)
    monkeypatch.setattr("automm.plugin.manners.HEAVY", ("acme_heavy",))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "acme_heavy.py").write_text("")

    def loaded(text):
        (tmp_path / "mine.py").write_text(text, "utf-8")
        sys.modules.pop("acme_heavy", None)
        with contextlib.redirect_stderr(io.StringIO()):
            return load_plugins(files=[tmp_path / "mine.py"])

    return loaded


@pytest.mark.parametrize("mistake", REFUSED)
def test_refused_when_it_is_registered(load, mistake):
    text, said = REFUSED[mistake]
    with pytest.raises(Exception, match=said) as raised:
        load(text)
    assert "mine.py" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("mistake", COMPLAINED)
def test_complained_about_when_it_is_registered(load, mistake, tmp_path):
    text, said = COMPLAINED[mistake]
    plugins = load(text)
    (complaint,) = [line for line in plugins.problems() if "plugin mine" in line and "s to import" in line] or [
        line for line in plugins.problems() if "plugin mine" in line
    ]
    assert re.search(rf"^{WHO}: .*{said}", complaint), complaint
    assert "mine" in plugins.registry.names("fusion")
    with pytest.raises(PluginError, match=said), contextlib.redirect_stderr(io.StringIO()):
        sys.modules.pop("acme_heavy", None)
        load_plugins(files=[tmp_path / "mine.py"], strict=True)


@pytest.mark.parametrize("mistake", CHECKED)
def test_found_by_the_kit(load, mistake):
    text, name, said = CHECKED[mistake]
    cls = load(text).registry.get("fusion", "mine")
    with pytest.raises(AssertionError, match=said):
        {check.name: check for check in checks_for(cls)}[name]()


@pytest.mark.parametrize("mistake", FIRST_BATCH)
def test_found_at_the_first_batch(mistake, tmp_path):
    text, said = FIRST_BATCH[mistake]
    fakes.write(tmp_path, "numbers", "categories", rows=30)
    (tmp_path / "mine.py").write_text(text, "utf-8")
    recipe = "data: train.csv\ntarget: verdict\nplugins: [mine.py]\nmodel: {fusion: mine}\ntrain: {epochs: 30}\n"
    (tmp_path / "r.yaml").write_text(recipe)
    done = run("fit", "r.yaml", "--out", "run", cwd=tmp_path)
    assert done.code == 7, done.err
    assert re.search(said, done.said), done.said


def test_random_states_are_put_back():
    import random

    import numpy as np

    random.seed(5)
    np.random.seed(5)
    expected = random.Random(5).random(), np.random.RandomState(5).random()
    with watched() as seen:
        random.seed(1)
        np.random.seed(1)
    assert (random.random(), np.random.random()) == expected
    assert len(seen.complaints) == 1
