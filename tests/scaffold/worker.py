"""Runs in the environment of the scaffolded plugins: one process, so that the libraries are imported once.

Reads lines of JSON from standard input, {"folder": …, "run": [["pytest"], ["make_data"], ["automm", …]]}, and answers
with a line: a list of [exit code, what was printed].
"""

import contextlib
import io
import json
import os
import runpy
import sys

import pytest

from automm.cli.main import main


def automm(*arguments):
    """`automm …` in this process."""
    sys.argv = ["automm", *arguments]
    try:
        main()
    except SystemExit as left:
        return int(left.code or 0)
    raise AssertionError("main always leaves")


def make_data():
    """The script beside the recipe."""
    runpy.run_path("make_data.py", run_name="__main__")
    return 0


def tests():
    """The plugin's own tests."""
    return int(pytest.main(["-q", "-p", "no:cacheprovider", "--no-header", "tests"]))


COMMANDS = {"automm": automm, "make_data": make_data, "pytest": tests}
answers = sys.stdout
for line in sys.stdin:
    asked, done = json.loads(line), []
    os.chdir(asked["folder"])
    for name, *arguments in asked["run"]:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = COMMANDS[name](*arguments)
        done.append([code, said.getvalue()])
    print(json.dumps(done), file=answers, flush=True)
