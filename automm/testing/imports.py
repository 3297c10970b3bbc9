"""Importing modules in a process of its own, in which torch and what builds on it is absent."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from typing import Any

from automm.testing.subject import Subject, installed

BLOCKED = ("torch", "lightning", "torchmetrics", "transformers")
"""What the base install does not have."""

IMPORT = """
import importlib, json, sys
import automm.api
from automm.core.component import Component
from automm.plugin.manners import watched
found = {}
for name in json.loads(sys.argv[1]):
    report = {"error": "", "schemas": {}}
    with watched(importing=True) as seen:
        try:
            module = importlib.import_module(name)
        except BaseException as problem:
            report["error"] = f"{type(problem).__name__}: {problem}"
    report["complaints"] = seen.complaints
    for value in [] if report["error"] else list(vars(module).values()):
        if isinstance(value, type) and issubclass(value, Component) and value.__module__ == name:
            try:
                value.Config.model_json_schema()
            except BaseException as problem:
                report["schemas"][value.__qualname__] = f"{type(problem).__name__}: {problem}"
    found[name] = report
print(json.dumps(found))
"""


def run_without_torch(code: str, *arguments: str) -> tuple[str, str]:
    """Runs Python code in a process in which torch and what builds on it cannot be imported.

    Returns:
        What it printed, and the last line of the error; the latter is empty if there is none.
    """
    block = f"import sys\nfor name in {BLOCKED!r}:\n    sys.modules[name] = None\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", block + code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout, "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no message"])[-1]


def imported(subject: Subject) -> dict[str, Any]:
    """What importing the component's module does: "error", "complaints", and "schemas" that cannot be made."""
    module = subject.cls.__module__
    top = module.partition(".")[0]
    together = {entry.cls.__module__ for entry in installed().all()}
    neighbours = {name for name in together if name.partition(".")[0] == top}
    report: dict[str, Any] = _imported(tuple(sorted(neighbours | {module})))[module]
    return report


@functools.cache
def _imported(modules: tuple[str, ...]) -> dict[str, Any]:
    """One process for all modules of a plugin: starting Python takes longer than importing them."""
    out, problem = run_without_torch(IMPORT, json.dumps(modules))
    assert not problem, f"importing {', '.join(modules)}: {problem}"
    found: dict[str, Any] = json.loads(out)
    return found
