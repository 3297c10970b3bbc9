"""Environments of their own for what the pages install, which see the packages of the tests' environment."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": "",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_BUILD_ISOLATION": "0",  # sic: 0 turns isolation off
    "PIP_NO_DEPS": "1",  # what is borrowed needs no resolver, which takes its time
    "PIP_NO_INDEX": "1",
}


def make_environment(folder: Path) -> Path:
    """Makes a virtual environment; returns its Python."""
    venv.create(folder, symlinks=True)
    borrow_packages(folder)
    return folder / "bin" / "python"


def borrow_packages(folder: Path) -> None:
    """Lets a virtual environment see what is installed here, editable installs included."""
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    line = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    (site / "borrowed.pth").write_text(line, "utf-8")


def run_in(python: Path, *arguments: object, folder: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs an environment's Python in a folder."""
    done = subprocess.run(
        [python, *map(str, arguments)],
        cwd=folder, env={**os.environ, **SETTINGS}, capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip
    assert not check or done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done


def install(python: Path, *what: object, folder: Path) -> None:
    """Installs distributions from here, without their dependencies and without a network."""
    run_in(python, "-m", "pip", "install", "-q", *what, folder=folder)


def stand_in(folder: Path) -> Path:
    """A folder for PATH with a `python3` whose new environments borrow the packages installed here.

    So `python3 -m venv` and `pip install` work as a page writes them, without a network and in no time.
    """
    folder.mkdir()
    _write_script(folder / "python3", sys.executable)
    return folder


def make_stand_in(folder: Path) -> None:
    """Makes an environment with the commands that a page uses; its `python3` makes further ones."""
    python = make_environment(folder)
    (folder / "bin" / "python3").unlink()
    _write_script(folder / "bin" / "python3", str(python))
    for name in ("automm", "pip", "pytest"):
        command = folder / "bin" / name
        command.write_text(f'#!/bin/sh\nexec "{python}" -m {name} "$@"\n', "utf-8")
        command.chmod(0o755)


def _write_script(path: Path, python: str) -> None:
    here = str(Path(__file__).parents[1])
    path.write_text(f"#!{sys.executable}\n{STAND_IN.format(here=here, python=python)}", "utf-8")
    path.chmod(0o755)


STAND_IN = """
import os, sys
if sys.argv[1:3] == ["-m", "venv"]:
    sys.path.insert(0, {here!r})
    from pathlib import Path
    from docs.environment import make_stand_in
    make_stand_in(Path(sys.argv[3]).absolute())
else:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
"""
