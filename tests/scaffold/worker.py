"""Runs in the environment of the scaffolded plugins: one process, so that the libraries are imported once.

Reads folders from standard input, one per line; answers with a line of JSON each.
"""

import contextlib
import io
import json
import os
import sys

import pytest

from automm.cli.main import main


def run(*arguments):
    """`automm …` in this process: exit code and what it printed."""
    out = io.StringIO()
    sys.argv = ["automm", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main()
        except SystemExit as left:
            return int(left.code or 0), out.getvalue()
    raise AssertionError("main always leaves")


answers = sys.stdout
for line in sys.stdin:
    os.chdir(line.strip())
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        tests = int(pytest.main(["-q", "-p", "no:cacheprovider", "--no-header", "tests"]))
        exec(compile(open("make_data.py").read(), "make_data.py", "exec"), {"__name__": "__main__"})  # noqa: SIM115
    fit, fitted = run("fit", "recipe.yaml", "--out", "run", "--quiet")
    print(json.dumps({"tests": tests, "said": said.getvalue(), "fit": fit, "fitted": fitted}), file=answers, flush=True)
