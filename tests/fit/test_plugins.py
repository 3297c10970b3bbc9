"""Plugins that misbehave: the message names them, and what does not need them goes on."""

from __future__ import annotations

import json
import re

import pytest

from fit.commands import reviews, run, save
from fit.conftest import events, summary

RECIPE = "data: train.csv\ntarget: verdict\nignore: [review]\ntrain: {epochs: 1}\nplugins: [mine.py]\n"

PLUGIN = """
from automm.api import AUTOMM_API, Config, Features, Fusion, Loss, Modality, hookimpl, nn, torch

class Mine(Fusion):
    def __init__(self, config, widths):
        super().__init__(config, widths)
        self.width = 4
        self.project = nn.ModuleDict({name: nn.Linear(width, 4) for name, width in widths.items()})

    def forward(self, inputs):
        return Features.vector(sum(self.project[name](features.mean()) for name, features in inputs.items()))

class MyLoss(Loss):
    targets = frozenset({"class"})

    def forward(self, output, target):
        return nn.functional.cross_entropy(output, target, reduction="none")

@hookimpl
def automm_register(register):
    register(Mine)
    register(MyLoss)
"""
WHO = r"plugin mine \(local 0\)"


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "train.csv", reviews(tmp_path))
    return tmp_path


def write(folder, plugin=PLUGIN, more="model: {fusion: mine, loss: my_loss}\n", recipe=RECIPE):
    (folder / "mine.py").write_text(plugin, "utf-8")
    (folder / "r.yaml").write_text(recipe + more, "utf-8")


def report(folder, trial):
    return json.loads((folder / "run" / "trials" / trial / "report.json").read_text("utf-8"))


def broken(old, new):
    assert PLUGIN.count(old) == 1
    return PLUGIN.replace(old, new)


def test_plugin_file_is_trained_and_packaged(folder):
    write(folder)
    done = run("fit", "r.yaml", "--out", "run", cwd=folder)
    assert done.code == 0, done.err
    resolved = report(folder, "0")["resolved"]
    assert (resolved["fusion"]["name"], resolved["loss"]["name"]) == ("mine", "my_loss")
    assert (folder / "run" / "package" / "automm.json").exists()


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        ("import automm_nowhere\n", r"mine.py: needs the package 'automm_nowhere': pip install automm_nowhere"),
        (
            "from automm.api import MissingExtraError\nraise MissingExtraError('pip install kit[audio]')\n",
            r"mine.py: pip install kit\[audio\]",
        ),
        ("raise RuntimeError('not today')\n", r"mine.py: RuntimeError: not today \(mine.py:1\)"),
        ("def f(:\n", r"mine.py: SyntaxError"),
        ("AUTOMM_API = 99\n", r"mine.py: written for plugin API 99, this automm has 1: upgrade automm"),
        ("AUTOMM_API = 'two'\n", r"mine.py: AUTOMM_API must be a whole number, it is 'two'"),
        (broken("register(Mine)", "1 / 0"), r"mine.py: ZeroDivisionError: division by zero \(mine.py:21\)"),
        (
            broken("register(Mine)", "register(dict)"),
            r"register\(<class 'dict'>\): a component is a class that inherits",
        ),
        (
            broken("register(Mine)", "register(Mine); register(Mine)"),
            r"fusion 'mine' is registered twice by plugin mine",
        ),
        (broken("    targets =", "    other ="), r"loss MyLoss: set the class attribute `targets`"),
        (broken("(self, inputs)", "(self)"), r"fusion Mine: forward\(self\) must accept forward\(self, inputs"),
        (broken("def automm_register", "def automm_registre"), r"unknown hook 'automm_registre'"),
        ("raise SystemExit(3)\n", r"mine.py: SystemExit: 3"),
    ],
)
def test_plugin_file_that_cannot_be_loaded(folder, plugin, said):
    write(folder, plugin)
    done = run("fit", "r.yaml", "--out", "run", cwd=folder)
    assert done.code == (6 if "pip install" in said else 5), done.err
    assert done.err.startswith("error: ")
    assert re.search(said, done.err), done.err


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        (
            broken("self.width = 4", "raise KeyError('width')"),
            rf"fusion 'mine' of {WHO}: __init__ raised KeyError: 'width'",
        ),
        (broken("self.width = 4", "pass"), rf"fusion 'mine' of {WHO} must set self.width in __init__, it is None"),
        (
            broken("return Features.vector(sum", "raise ValueError('no'); return (sum"),
            rf"fusion 'mine' of {WHO}: forward raised ValueError: no",
        ),
        (
            broken("self.width = 4", "self.width = 5"),
            rf"fusion 'mine' of {WHO} must give tokens \[batch, time, 5\] \(its width\) and a mask \[batch, time\]; "
            r"it gave \[16, 1, 4\] and \[16, 1\]",
        ),
        (
            broken("return Features.vector(sum", "return (sum"),
            rf"fusion 'mine' of {WHO} must give Features, it gave Tensor",
        ),
        (
            broken('reduction="none")', 'reduction="none") / 0'),
            rf"loss 'my_loss' of {WHO} gives NaN or infinity in the first training batch",
        ),
        (
            broken("return Features.vector(sum", "return Features.vector(float('nan') * sum"),
            rf"fusion 'mine' of {WHO} gives NaN or infinity in the first training batch",
        ),
        (
            broken('reduction="none")', 'reduction="mean")'),
            rf"loss 'my_loss' of {WHO} must give one value per row, \[16\]; it gave \[\]",
        ),
        (
            broken('return nn.functional.cross_entropy(output, target, reduction="none")', "return None"),
            rf"loss 'my_loss' of {WHO} must give one value per row, \[16\]; it gave NoneType",
        ),
        (
            broken("nn.functional.cross_entropy(output,", "nn.functional.cross_entropy(output[:3],"),
            rf"loss 'my_loss' of {WHO}: forward raised ValueError",
        ),
    ],
)
def test_component_that_fails_alone(folder, plugin, said):
    write(folder, plugin)
    done = run("fit", "r.yaml", "--out", "run", cwd=folder)
    assert done.code == 7, done.err
    assert re.search("no trial gave a model:\n  " + said, done.said), done.said
    found = summary(folder / "run")
    assert (found["status"], found["exit_code"], found["package"]) == ("failed", 7, None)


def test_search_goes_on_without_the_failing_component(folder):
    """Lack of memory is met with half the batch; what fails otherwise fails twice and no more."""
    short = (
        "if self.training and len(next(iter(inputs.values())).mask) > 10: raise RuntimeError('out of memory')\n"
        "        return Features"
    )
    plugin = broken("return Features", short)
    plugin += "\n\nclass Broken(Mine):\n    def forward(self, inputs):\n        raise ValueError('no')\n"
    plugin = plugin.replace("register(Mine)", "register(Mine)\n    register(Broken)")
    write(folder, plugin, "model: {fusion: [mine, broken, concat]}\nsearch: {trials: 12, baselines: false}\n")
    done = run("fit", "r.yaml", "--out", "run", cwd=folder)
    assert done.code == 0, done.err
    reports = [report(folder, trial["name"]) for trial in events(folder / "run", "trial")]
    by_fusion = {}
    for each in reports:
        by_fusion.setdefault(each["resolved"]["fusion"]["name"], []).append(each)
    assert len(by_fusion["broken"]) == 2
    assert len(by_fusion["concat"]) > 2
    assert {each["state"] for each in by_fusion["broken"]} == {"failed"}
    for each in by_fusion["mine"]:
        assert each["state"] == "complete"
        assert (each["asked"]["train"]["batch_size"], each["resolved"]["train"]["batch_size"]) == (16, 8)
    warnings = [event["text"] for event in events(folder / "run", "warning")]
    assert any(text.startswith("trial 0: ") and text.endswith("once more with batches of 8") for text in warnings)
    assert sum("fusion 'broken' is left out" in text for text in warnings) == 1
    assert summary(folder / "run")["status"] == "ok"


HOOKS = (
    PLUGIN
    + """
@hookimpl
def automm_callbacks(resolved):
    raise RuntimeError("callbacks")

@hookimpl
def automm_trial_finished(report):
    print("printed by a plugin")
    raise RuntimeError("finished " + report["state"])

@hookimpl
def automm_package_written(package):
    raise RuntimeError("written " + package.name)
"""
)


def test_hooks_that_raise_are_named_and_prints_stay_out_of_the_json(folder):
    write(folder, HOOKS + "\nprint('printed at import')\n")
    done = run("fit", "r.yaml", "--out", "run", "--json", cwd=folder)
    assert done.code == 0, done.err
    assert json.loads(done.out) == summary(folder / "run")
    assert "printed by a plugin" in done.err
    assert "printed at import" in done.err
    texts = [event["text"] for event in events(folder / "run", "warning")]
    assert texts == [
        "plugin mine (local 0): it prints to standard output when it is imported ('printed at import'): use the "
        "logging module; commands write their results there",
        "plugin mine (local 0): hook automm_callbacks raised RuntimeError: callbacks",
        "plugin mine (local 0): hook automm_trial_finished raised RuntimeError: finished complete",
        "plugin mine (local 0): hook automm_package_written raised RuntimeError: written package",
    ]


@pytest.mark.parametrize("given", ["object()", "[object()]"])
def test_callbacks_that_are_none(folder, given):
    failing = broken("self.width = 4", "raise KeyError")  # spares the export
    write(folder, failing + f"\n@hookimpl\ndef automm_callbacks(resolved):\n    return {given}\n")
    run("fit", "r.yaml", "--out", "run", cwd=folder)
    texts = [event["text"] for event in events(folder / "run", "warning")]
    assert texts == ["plugin mine (local 0): hook automm_callbacks must give a list of Lightning callbacks"]


def test_planning_methods_that_raise_are_named(folder):
    unsuited = broken(
        "    def forward(self, inputs)",
        "    @classmethod\n    def unsuited(cls, context, config):\n        raise RuntimeError('eh')\n\n"
        "    def forward(self, inputs)",
    )
    write(folder, unsuited)
    done = run("check", "r.yaml", cwd=folder)
    assert done.code == 5
    assert "fusion 'mine' of plugin mine (local 0): unsuited raised RuntimeError: eh" in done.err
    claim = (
        PLUGIN
        + """
class Smell(Modality):
    @classmethod
    def claim(cls, column):
        raise RuntimeError("eh")

@hookimpl(specname="automm_register")
def more(register):
    register(Smell)
"""
    )
    write(folder, claim)
    done = run("check", "r.yaml", cwd=folder)
    assert done.code == 5
    assert "modality 'smell' of plugin mine (local 0): claim raised RuntimeError: eh" in done.err


def test_debug_shows_the_traceback(folder):
    write(folder, "raise RuntimeError('not today')\n")
    done = run("--debug", "check", "r.yaml", cwd=folder)
    assert done.code == 5
    assert "Traceback (most recent call last)" in done.err


def test_same_name_in_two_plugins(folder):
    write(
        folder, PLUGIN.replace("class Mine", "class Concat").replace("(Mine)", "(Concat)"), "model: {fusion: concat}\n"
    )
    done = run("check", "r.yaml", cwd=folder)
    assert done.code == 3, done.err
    assert "fusion:concat" in done.err
    assert "mine:concat" in done.err
    write(
        folder,
        PLUGIN.replace("class Mine", "class Concat").replace("(Mine)", "(Concat)"),
        "model: {fusion: 'mine:concat'}\n",
    )
    done = run("plan", "r.yaml", cwd=folder)
    assert done.code == 0, done.err
    assert "fusion     mine:concat" in done.out
    write(folder, PLUGIN.replace("class Mine", "class Concat").replace("(Mine)", "(Concat)"), "")
    done = run("plan", "r.yaml", cwd=folder)  # names no fusion: the default is one of the two
    assert done.code == 0, done.err
    assert "fusion     fusion:concat" in done.out


@pytest.mark.parametrize(
    ("name", "more", "code", "said"),
    [
        ("fusion", "model: {fusion: concat}\n", 3, "unknown fusion 'concat'"),
        ("fusion", "", 5, "no fusion is installed"),
        ("tasks", "", 5, "no task is installed"),
        ("losses", "", 5, "no loss is installed"),
        ("export", "", 5, "unknown exporter 'onnx'"),
    ],
)
def test_blocked_plugin_that_is_needed(folder, name, more, code, said):
    write(folder, more=more, recipe=RECIPE.replace("plugins: [mine.py]\n", ""))
    done = run("fit", "r.yaml", "--out", "run", "--block", name, cwd=folder)
    assert done.code == code
    assert said in done.err
    assert done.err.rstrip().endswith(f"plugin {name} (automm 0.1.0) is blocked: blocked by --block")
