"""The quickstart on a small part of its table, with the commands as the pages write them."""

from __future__ import annotations

import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from docs.pages import ROOT, blocks, commands

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs an automm command in a folder."""
    program, *arguments = shlex.split(command)
    assert program == "automm"
    return subprocess.run(
        [sys.executable, "-m", "automm", *arguments],
        cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def make_quickstart(folder: Path) -> None:
    """A checkout's `recipes/`, with 90 training rows, one epoch, one trial and small pictures."""
    recipes = folder / "recipes"
    recipes.mkdir()
    data = recipes / "data" / "quickstart"
    runpy.run_path(str(ROOT / "recipes" / "quickstart_data.py"))["main"](data)
    for name, count in (("train.csv", 90), ("test.csv", 30)):
        lines = (data / name).read_text("utf-8").splitlines(keepends=True)
        (data / name).write_text("".join(lines[: count + 1]), "utf-8")
    recipe = yaml.safe_load((ROOT / "recipes" / "quickstart.yaml").read_text("utf-8"))
    recipe |= {"search": {"trials": 1}, "train": {"epochs": 1}, "require": {"size_mb": "< 500"}}
    recipe["model"] = {"encoders": {"photo": {"name": "small_cnn", "size": 32, "width": 8}}}
    (recipes / "quickstart.yaml").write_text(yaml.safe_dump(recipe), "utf-8")


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory):
    """The folder in which every automm command of README's quickstart and of quickstart.md was run once."""
    folder = tmp_path_factory.mktemp("quickstart")
    make_quickstart(folder)
    shell = [*blocks("sh", "README.md")[:1], *blocks("sh", "quickstart.md")]
    written = [command for block in shell for command in commands(block)]
    outputs = {}
    for command in dict.fromkeys(command for command in written if command.startswith("automm ")):
        done = run(command, folder)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        outputs[command] = done
    return folder, outputs
