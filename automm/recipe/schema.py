"""The JSON schema (draft 7) of recipes, for editors: every registered component with its fields, ranges and words."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from automm.core.config import Config, Tune
from automm.core.space import ANY, NONE
from automm.plugin.blame import blamed
from automm.plugin.registry import Entry, Registry
from automm.recipe.components import leaf_types
from automm.recipe.keys_compress import AUTO
from automm.recipe.keys_data import METHODS
from automm.recipe.keys_model import remedies
from automm.recipe.keys_run import LOGGERS, MOST_ROWS, MOST_SEED, MOST_TRIALS, NOTHING, PARALLEL
from automm.recipe.model import COSTS, RUNGS
from automm.recipe.walk import metric_names
from automm.train.config import TrainConfig

Schema = dict[str, Any]

NAME: Schema = {"type": ["string", "number", "boolean"]}
NAMES: Schema = {"anyOf": [NAME, {"type": "array", "items": NAME, "minItems": 1, "uniqueItems": True}]}
_UP_TO_ONE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
SHARE: Schema = {"type": "number", "minimum": 0, "exclusiveMaximum": 1}
KINDS = ("task", "encoder", "fusion", "loss", "objective", "learner", "compressor")
"""The kinds that recipes write with fields."""


def recipe_schema(registry: Registry) -> Schema:
    """Builds the schema of the recipes that the registered components allow.

    Args:
        registry: The components to offer.

    Returns:
        A JSON schema; equal registries give equal schemas.
    """
    definitions: Schema = {"column": NAME, "columns": NAMES}
    for kind in KINDS:
        definitions[kind] = _choice(_entries(registry, kind))
        for name, entry in _entries(registry, kind).items():
            title = {"const": name, "description": _about(entry)}
            with blamed(registry, entry.cls, "Config"):
                fields = _fields(entry.cls.Config, f"{kind}.{name}", definitions)
            definitions[f"{kind}.{name}"] = _object({"name": title, **fields}, ["name", *_required(entry.cls.Config)])
    encoders = {
        name: _one_or_more(_choice(mine))
        for name in registry.names("modality")
        if (mine := _encoders_of(registry, registry.get("modality", name).name))
    }
    modality = {"anyOf": [_words(_entries(registry, "modality")), {"enum": _types(registry)}]}
    definitions["modality"] = modality
    metrics = list(metric_names(registry))
    comparison = {"type": "string", "pattern": r"^ *(>=|<=|>|<) *[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)? *$"}
    keys: Schema = {
        "task": _say("What is predicted; by default inferred from the target.", {"$ref": "#/definitions/task"}),
        "data": _say(
            "The tables: a path (relative to the recipe), a list of paths, hf://name[:config], or these by split.",
            {
                "anyOf": [
                    NAMES,
                    _object(
                        {
                            "train": _say("Training rows.", NAMES),
                            "valid": _say("Validation rows; by default split off the training rows.", NAMES),
                            "test": _say("Test rows; by default none.", NAMES),
                            "unlabeled": _say("Rows without an answer, from which `model.objective` learns.", NAMES),
                            "max_bad_rows": _say(
                                "Largest share of unusable rows before the run stops.",
                                {"type": "number", "minimum": 0, "maximum": 1, "default": 0.05},
                            ),
                        },
                        ["train"],
                    ),
                ]
            },
        ),
        "target": _say(
            "The column to predict; a list of 0/1 columns; or a column that lists labels.",
            {"anyOf": [NAMES, _object({"column": NAME, "separator": {"type": "string", "minLength": 1}}, ["column"])]},
        ),
        "inputs": _say(
            'Input → modality, columns, or both; "*" is every column not named elsewhere. By default all, inferred.',
            {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {
                    "anyOf": [
                        {"$ref": "#/definitions/modality"},
                        {"type": "array", "items": NAME, "minItems": 1},
                        {"type": "null"},
                        _object({"modality": {"$ref": "#/definitions/modality"}, "column": NAME, "columns": NAMES}),
                    ]
                },
            },
        ),
        "ignore": _say("Columns left out; a split may still use them.", NAMES),
        "split": _say(
            "How validation rows are held out: at random, whole groups, or the latest.",
            {
                "anyOf": [
                    {"const": "random"},
                    _object(
                        {
                            "method": {"enum": list(METHODS)},
                            "column": NAME,
                            "group": _say("Column whose groups stay on one side.", NAME),
                            "time": _say("Column by which the latest rows are held out.", NAME),
                            "valid": _say("Share for validation.", {**SHARE, "exclusiveMinimum": 0, "default": 0.2}),
                            "test": _say("Share for a test split.", {**SHARE, "default": 0.0}),
                        }
                    ),
                ]
            },
        ),
        "imbalance": _say(
            "Remedies for rare classes: one, or several to search over.", _one_or_more({"enum": remedies(registry)})
        ),
        "model": _say(
            "The candidates; a list is searched.",
            _object(
                {
                    "encoders": _say(
                        "Input or modality → encoder.",
                        {
                            "type": "object",
                            "minProperties": 1,
                            "properties": encoders,
                            "additionalProperties": _one_or_more({"$ref": "#/definitions/encoder"}),
                        },
                    ),
                    "fusion": _say(
                        "How inputs are joined; `any` tries all that suit.",
                        _one_or_more({"anyOf": [{"const": ANY}, {"$ref": "#/definitions/fusion"}]}),
                    ),
                    "loss": _say("What training minimises.", _one_or_more({"$ref": "#/definitions/loss"})),
                    "objective": _say(
                        "What is learned from rows alone beside their answers; `any` tries all that suit, and none.",
                        _one_or_more({"anyOf": [{"enum": [NONE, ANY]}, {"$ref": "#/definitions/objective"}]}),
                    ),
                    "learner": _say(
                        "What learns: the network, or boosted trees and linear models on fixed descriptors.",
                        _one_or_more({"$ref": "#/definitions/learner"}),
                    ),
                }
            ),
        ),
        "train": _say("Training settings.", _object(_fields(TrainConfig, "train", definitions))),
        "metric": _say("The metric that is optimised; by default the task's.", {"enum": metrics}),
        "search": _say(
            "The budget of a search; without it one model is fitted.",
            {
                **_object(
                    {
                        "trials": _say("Most trials.", {"type": "integer", "minimum": 1, "maximum": MOST_TRIALS}),
                        "time": _say(
                            "Wall-clock time for everything: 2h, 20m, 90s, or seconds.",
                            {
                                "anyOf": [
                                    {"type": "number", "exclusiveMinimum": 0},
                                    {"type": "string", "pattern": r"^\d"},
                                ]
                            },
                        ),
                        "storage": _say("URL of a study shared by several jobs.", {"type": "string", "pattern": "://"}),
                        "study": _say("Name of the shared study; by default that of the recipe and its plan.", NAME),
                        "baselines": _say(
                            "Train each modality alone as well, and let trials leave one of three or more out.",
                            {"type": "boolean"},
                        ),
                        "ensemble": _say("Average several models where that pays.", {"type": "boolean"}),
                        "objectives": _say(
                            "What is searched to be small beside the metric; nothing is pruned then.",
                            _one_or_more({"enum": list(COSTS)}),
                        ),
                        "rungs": _say(
                            "Share of the budget of each stage; false leaves it out.",
                            _object({rung: {"anyOf": [{"const": False}, _UP_TO_ONE]} for rung in RUNGS}),
                        ),
                        "parallel": _say(
                            "Several processes: each trains trials of its own, all train the same one, or by size.",
                            {"enum": list(PARALLEL), "default": "auto"},
                        ),
                    }
                ),
                "anyOf": [{"required": ["trials"]}, {"required": ["time"]}],
            },
        ),
        "require": _say(
            'Quality gates such as {accuracy: ">= 0.8"}; a missed gate fails the run.',
            _object(dict.fromkeys([*metrics, *COSTS], comparison)),
        ),
        "compress": _say(
            "Makes the package smaller and faster, where the metric allows: auto, variants, or these with a bound.",
            {
                "anyOf": [
                    *_variants()["anyOf"],
                    _object(
                        {
                            "try": _say("Variants; a list in the list is applied one after the other.", _variants()),
                            "max_loss": _say(
                                "Largest loss of the metric, relative: 0.5% or 0.005.",
                                {
                                    "anyOf": [
                                        {**SHARE, "default": 0.005},
                                        {"type": "string", "pattern": r"^ *(\d+(\.\d+)?|\.\d+) *% *$"},
                                    ]
                                },
                            ),
                            "sure": _say(
                                "Adopt only if the whole 95 % interval of the loss is within the bound.",
                                {"type": "boolean", "default": False},
                            ),
                        }
                    ),
                ]
            },
        ),
        "export": _say("Formats to write.", _one_or_more(_words(_entries(registry, "exporter")))),
        "log": _say(
            "Where learning curves go beside events.jsonl; by default to TensorBoard, if it is installed.",
            {"anyOf": [{"const": "none"}, *_one_or_more({"anyOf": [{"enum": list(LOGGERS)}, *_loggers()]})["anyOf"]]},
        ),
        "plugins": _say("Python files in the recipe's folder that register components.", NAMES),
        "update": _say(
            "What the package keeps so that `automm update` can go on from it: training rows and weights, or none.",
            {
                "anyOf": [
                    {"const": NOTHING},
                    _object(
                        {
                            "rows": _say(
                                "Most training rows that are stored in the package.",
                                {"type": "integer", "minimum": 0, "maximum": MOST_ROWS, "default": 2000},
                            ),
                            "weights": _say(
                                "Store the weights of networks; auto: if they are small.",
                                {"enum": ["auto", True, False]},
                            ),
                        }
                    ),
                ]
            },
        ),
        "seed": _say("Seed of everything.", {"type": "integer", "minimum": 0, "maximum": MOST_SEED, "default": 0}),
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "automm recipe",
        **_object(keys, ["data", "target"]),
        "definitions": dict(sorted(definitions.items())),
    }


def _variants() -> Schema:
    """`auto`, a compressor, or a list of compressors and chains of them."""
    step: Schema = {"$ref": "#/definitions/compressor"}
    chain = {"type": "array", "items": step, "minItems": 1}
    return {"anyOf": [{"const": AUTO}, step, {"type": "array", "items": {"anyOf": [step, chain]}, "minItems": 1}]}


def _loggers() -> list[Schema]:
    """Loggers with their fields."""
    fields: Schema = {
        "project": _say("What groups the trials; by default the recipe's name.", NAME),
        "online": _say("Send to the server; otherwise only the run folder is written to.", {"type": "boolean"}),
        "uri": _say("URL of a tracking server; by default a file in the run folder.", {"type": "string"}),
    }
    return [
        _object({"name": {"const": name}, **{field: fields[field] for field in own}}, ["name"])
        for name, own in LOGGERS.items()
    ]


def _object(properties: Mapping[str, Schema], required: Iterable[str] = ()) -> Schema:
    schema: Schema = {
        "type": "object",
        "properties": dict(properties),
        "additionalProperties": False,
        "minProperties": 1,
    }
    return {**schema, "required": list(required)} if required else schema


def _say(description: str, schema: Schema) -> Schema:
    # Draft 7 ignores what stands beside a reference, hence allOf.
    return {"description": description, **({"allOf": [schema]} if "$ref" in schema else schema)}


def _one_or_more(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "array", "items": schema, "minItems": 1}]}


def _entries(registry: Registry, kind: str) -> dict[str, Entry]:
    return {name: registry.entry(kind, name) for name in registry.names(kind)}


def _encoders_of(registry: Registry, modality: str) -> dict[str, Entry]:
    return {n: e for n, e in _entries(registry, "encoder").items() if getattr(e.cls, "modality", "") == modality}


def _types(registry: Registry) -> list[str]:
    return sorted({name for entry in registry.all("modality") for name in getattr(entry.cls, "types", ())})


def _choice(entries: Mapping[str, Entry]) -> Schema:
    """A component by its bare name, unless it has fields without a default, or with fields."""
    bare = {name: entry for name, entry in entries.items() if not _required(entry.cls.Config)}
    return {"anyOf": [_words(bare), *({"$ref": f"#/definitions/{e.kind}.{name}"} for name, e in entries.items())]}


def _about(entry: Entry) -> str:
    """The first paragraph of the docstring, and for a component of somebody else's where it comes from."""
    about = (inspect.getdoc(entry.cls) or "").partition("\n\n")[0].replace("\n", " ")
    owner = entry.owner
    if owner.distribution == "automm":
        return about
    source = f"{owner.plugin}.py" if owner.distribution == "local" else f"{owner.distribution} {owner.version}"
    return f"{about} ({source})"


def _words(entries: Mapping[str, Entry]) -> Schema:
    """The names with their first sentence each, which editors show while completing."""
    return {"anyOf": [{"const": name, "description": _about(entry)} for name, entry in entries.items()] or [False]}


def _required(config: type[Config]) -> list[str]:
    tuned = config.tunes()
    return [name for name, field in config.model_fields.items() if field.is_required() and name not in tuned]


def _fields(config: type[Config], prefix: str, definitions: Schema) -> Schema:
    """Field → schema that takes a value, a list to search over, or a range of numbers."""
    schema = config.model_json_schema(ref_template=f"#/definitions/{prefix}.{{model}}")
    for name, definition in schema.get("$defs", {}).items():
        definitions[f"{prefix}.{name}"] = definition
    tunes = config.tunes()
    return {
        name: _field(body, config.model_fields[name].annotation, tunes.get(name))
        for name, body in schema.get("properties", {}).items()
    }


def _field(body: Schema, annotation: Any, tune: Tune | None) -> Schema:
    value = {key: part for key, part in body.items() if key not in ("title", "default", "description")}
    value = _with_numbers(value)
    ways = [value, {"type": "array", "items": value, "minItems": 1}]
    types = set(leaf_types(annotation))
    if types & {int, float}:
        bound = {"type": "number"} if float in types else {"type": "integer"}
        limits = {k: part for way in (value, *value.get("anyOf", ())) for k, part in way.items() if "imum" in k}
        step = {**bound, "exclusiveMinimum": 0}
        parts = {"low": {**bound, **limits}, "high": {**bound, **limits}, "log": {"type": "boolean"}, "step": step}
        ways.append(_object(parts, ["low", "high"]))
    words = [" ".join(body.get("description", "").split())]
    if tune is not None:
        what = list(tune.choices) if tune.choices is not None else f"{tune.low} to {tune.high}"
        words.append(f"Searched by default: {what}{', on a log scale' * tune.log}.")
    default = {"default": body["default"]} if "default" in body else {}
    return {"description": " ".join(filter(None, words)), **default, "anyOf": ways}


def _with_numbers(schema: Schema) -> Schema:
    """Texts that read as numbers may be written as numbers (`precision: 32`)."""
    if "enum" in schema:
        twins = [int(word) for word in schema["enum"] if isinstance(word, str) and word.isdecimal()]
        if twins:
            return {"enum": [*schema["enum"], *twins]}
    if schema.get("type") == "string" and "pattern" not in schema:
        return {**schema, "type": ["string", "number"]}
    return {**schema, "anyOf": [_with_numbers(part) for part in schema["anyOf"]]} if "anyOf" in schema else schema
