"""Checks of the declaration: what can be seen without an instance."""

from __future__ import annotations

import json
import warnings
from typing import Annotated, Any

import pydantic
import pydantic.json_schema

from automm.core.config import Config
from automm.core.profile import Context, InputInfo, TargetInfo
from automm.core.space import ComponentSpace, Fixed
from automm.plan.candidates import ranges
from automm.plugin.registry import Owner, Registry, validate
from automm.recipe.schema import recipe_schema
from automm.search.space import sampled
from automm.testing.imports import BLOCKED, imported
from automm.testing.subject import Subject

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


def defaults_are_valid(subject: Subject) -> None:
    """Every default is a value that its field accepts, inside its search range."""
    cls: type[Config] = subject.cls.Config
    for name, field in cls.model_fields.items():
        if field.is_required():
            continue
        default = field.get_default(call_default_factory=True)
        problem = _refused(cls, name, default)
        assert not problem, f"Config.{name}: the default {default!r} is refused: {problem}"
        tune = cls.tunes().get(name)
        if tune is not None and tune.choices is None and isinstance(default, int | float):
            assert tune.low <= default <= tune.high, f"Config.{name}: the default {default!r} is outside {tune}"  # type: ignore[operator]


def search_space_is_valid(subject: Subject) -> None:
    """Both ends of every range and every choice are values that the configuration accepts."""
    cls: type[Config] = subject.cls.Config
    for name, tune in cls.tunes().items():
        for value in tune.choices or (tune.low, tune.high):
            problem = _refused(cls, name, value)
            assert not problem, f"Config.{name}: {tune} offers {value!r}, which Config refuses: {problem}"


def _refused(cls: type[Config], name: str, value: Any) -> str:
    """Why a field does not accept a value; empty if it does."""
    field = cls.model_fields[name]
    annotation: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(annotation)
    try:
        adapter.validate_python(value)
    except pydantic.ValidationError as problem:
        return problem.errors()[0]["msg"]
    return ""


def editor_knows_its_fields(subject: Subject) -> None:
    """The recipe's schema offers the component by its name, and every field with its description, as strict JSON."""
    registry = Registry()
    registry.add(subject.cls, Owner("kit", "kit", "0"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", pydantic.json_schema.PydanticJsonSchemaWarning)
        schema = recipe_schema(registry)
    json.dumps(schema, allow_nan=False)
    found = schema["definitions"].get(f"{subject.cls.kind}.{subject.cls.name}")
    if found is None:
        return  # recipes name it without fields
    absent = set(subject.cls.Config.model_fields) - set(found["properties"])
    assert not absent, f"the schema lacks {', '.join(sorted(absent))}"
    bare = [name for name, field in found["properties"].items() if not field.get("description")]
    assert not bare, f"the schema has no description of {', '.join(bare)}"


def unsuited_answers(subject: Subject) -> None:
    """`unsuited` gives None or a reason for every problem."""
    for context in CONTEXTS:
        reason = subject.cls.unsuited(context, subject.config)
        assert reason is None or (isinstance(reason, str) and reason.strip()), (
            f"unsuited must give None or a reason, it gave {reason!r} for {context}"
        )


def search_can_be_replayed(subject: Subject) -> None:
    """What a search asks for is a configuration, plain JSON, and the same when the trial is told its parameters."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    required = {name for name, field in subject.cls.Config.model_fields.items() if field.is_required()}
    fixed = {name: Fixed(value=value) for name, value in subject.fields.items() if name in required}
    space = ComponentSpace(name=subject.cls.name, fields=ranges(subject.cls.Config, dict(fixed), searching=True))
    registry = Registry()
    registry.add(subject.cls, Owner("kit", "kit", "0"))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(3):
        trial = study.ask()
        asked = sampled(subject.cls.kind, "kit", space, registry, trial)
        strange = [name for name in trial.params if not name.startswith("kit.")]
        assert not strange, f"suggest must begin the names of its parameters with the prefix: {', '.join(strange)}"
        json.dumps(asked, allow_nan=False)
        again = sampled(subject.cls.kind, "kit", space, registry, optuna.trial.FixedTrial(trial.params))
        assert asked == again, f"asked for {asked['config']}, the same parameters again gave {again['config']}"


def declares_without_torch(subject: Subject) -> None:
    """The module can be imported, and the schema made, where torch is absent."""
    report = imported(subject)
    problem = report["error"] or report["schemas"].get(subject.cls.__qualname__)
    assert not problem, f"importing {subject.cls.__module__} without {', '.join(BLOCKED)}: {problem}"


def imports_quietly(subject: Subject) -> None:
    """Importing the module is quick, prints nothing, starts no threads and leaves global random states alone."""
    complaints = imported(subject)["complaints"]
    assert not complaints, f"{subject.cls.__module__}: {'; '.join(complaints)}"


CHECKS = (
    registers,
    is_documented,
    config_is_json,
    config_is_strict,
    defaults_are_valid,
    search_space_is_valid,
    search_can_be_replayed,
    editor_knows_its_fields,
    unsuited_answers,
    declares_without_torch,
    imports_quietly,
)
OPERATION_CHECKS = (registers, is_documented, config_is_strict, declares_without_torch, imports_quietly)
"""For processors and decoders, whose configurations are made by encoders and tasks."""
