"""Checks of the declaration: what can be seen without an instance."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from typing import Annotated, Any

import pydantic

from automm.core.config import Config
from automm.core.profile import Context, InputInfo, TargetInfo
from automm.plugin.registry import validate
from automm.testing.subject import Subject

BLOCKED = ("torch", "lightning", "torchmetrics", "transformers")
"""What the base install does not have."""

CONTEXTS = tuple(
    Context(task, (InputInfo("cell", "any", ("cell",)),) * inputs, 100, target)
    for inputs in (1, 3)
    for task, target in (
        ("classification", TargetInfo("class", 2, ("no", "yes"), (60, 40), 100)),
        ("classification", TargetInfo("class", 5, tuple("abcde"), (90, 4, 3, 2, 1), 100)),
        ("multilabel", TargetInfo("labels", 3, ("x", "y", "z"), (10, 50, 1), 100)),
        ("regression", TargetInfo("number", 1, rows=100)),
        ("unknown", None),
    )
)


def registers(subject: Subject) -> None:
    """`register` accepts the class."""
    validate(subject.cls)


def is_documented(subject: Subject) -> None:
    """The class and every field of its configuration say what they are."""
    assert (subject.cls.__doc__ or "").strip(), f"{subject.cls.__name__} needs a docstring"
    bare = [name for name, field in subject.cls.Config.model_fields.items() if not field.description]
    assert not bare, f"fields of Config without a docstring: {', '.join(bare)}"


def config_is_json(subject: Subject) -> None:
    """The configuration survives strict JSON, and its schema is JSON."""
    text = json.dumps(subject.config.model_dump(mode="json"), allow_nan=False)
    again = subject.cls.Config.model_validate(json.loads(text))
    assert again == subject.config, f"Config changes in JSON: {subject.config!r} became {again!r}"
    json.dumps(subject.cls.Config.model_json_schema(), allow_nan=False)


def config_is_strict(subject: Subject) -> None:
    """Unknown fields are refused and values cannot be changed."""
    settings = subject.cls.Config.model_config
    assert settings.get("extra") == "forbid", "Config must refuse unknown fields (extra='forbid')"
    assert settings.get("frozen"), "Config must be frozen"


def search_space_is_valid(subject: Subject) -> None:
    """Both ends of every range and every choice are values that the configuration accepts."""
    cls: type[Config] = subject.cls.Config
    for name, tune in cls.tunes().items():
        field = cls.model_fields[name]
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(
            Annotated[(field.annotation, *field.metadata)]  # type: ignore[arg-type]
        )
        for value in tune.choices or (tune.low, tune.high):
            try:
                adapter.validate_python(value)
            except pydantic.ValidationError as problem:
                reason = problem.errors()[0]["msg"]
                raise AssertionError(
                    f"Config.{name}: {tune} offers {value!r}, which Config refuses: {reason}"
                ) from None


def unsuited_answers(subject: Subject) -> None:
    """`unsuited` gives None or a reason for every problem."""
    for context in CONTEXTS:
        reason = subject.cls.unsuited(context, subject.config)
        assert reason is None or (isinstance(reason, str) and reason.strip()), (
            f"unsuited must give None or a reason, it gave {reason!r} for {context}"
        )


def declares_without_torch(subject: Subject) -> None:
    """The module can be imported, and the schema made, where torch is absent."""
    module, name = subject.cls.__module__, subject.cls.__qualname__
    code = f"import importlib\nmodule = importlib.import_module({module!r})\n"
    if "<locals>" not in name:
        code += f"module.{name}.Config.model_json_schema()\n"
    problem = run_without_torch(code)
    assert not problem, f"importing {module} without {', '.join(BLOCKED)}: {problem}"


@functools.cache
def run_without_torch(code: str) -> str:
    """Runs Python code in a process in which torch and what builds on it cannot be imported.

    Returns:
        The last line of the error; empty if there is none.
    """
    block = f"import sys\nfor name in {BLOCKED!r}:\n    sys.modules[name] = None\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", block + code], env=environment, capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no message"])[-1]


CHECKS = (
    registers,
    is_documented,
    config_is_json,
    config_is_strict,
    search_space_is_valid,
    unsuited_answers,
    declares_without_torch,
)
OPERATION_CHECKS = (registers, is_documented, config_is_strict, declares_without_torch)
"""For processors and decoders, whose configurations are made by encoders and tasks."""
