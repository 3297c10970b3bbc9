"""The plugins of docs/plugins.md load, pass the conformance kit, and work in a recipe."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tomllib

import pytest

from automm.core.processor import Processor
from automm.plugin.loader import load_plugins
from docs.pages import blocks

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
