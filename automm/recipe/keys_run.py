"""Readers of the keys about the run: `search`, `require`, `export`, `log`, `plugins`, `update`, `seed`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from automm.recipe.keys_model import metric_word
from automm.recipe.model import COSTS, RUNGS, GateSpec, LogSpec, SearchSpec, UpdateSpec
from automm.recipe.problems import unknown
from automm.recipe.walk import Walk, kind
from automm.recipe.yaml import Node

_PART = r"(?:(\d+(?:\.\d+)?) *{})? *"
DURATION = re.compile("".join(_PART.format(unit) for unit in ("d", "h", "m(?:in)?", "s")))
UNITS = (86_400, 3_600, 60, 1)
"""Seconds of the parts of `DURATION`."""

LOGGERS = {"tensorboard": (), "wandb": ("project", "online"), "mlflow": ("project", "uri")}
"""Logger → its fields."""

PARALLEL: dict[str, Literal["auto", "trials", "data"]] = {"auto": "auto", "trials": "trials", "data": "data"}
"""How several processes share the work."""

GATE = re.compile(r" *(>=|<=|>|<) *([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?) *")
MOST_SEED = 2**32 - 1
MOST_TRIALS = 1_000_000


def read_search(walk: Walk, node: Node) -> SearchSpec:
    """`search:` {trials, time, rungs, parallel, objectives, storage, study, baselines, ensemble}."""
    keys = ("trials", "time", "rungs", "parallel", "objectives", "storage", "study", "baselines", "ensemble")
    parts = walk.mapping(node, keys, "{trials: 60, time: 2h}")
    storage = walk.text(parts["storage"], "a storage URL") if "storage" in parts else None
    if storage is not None and "://" not in storage:
        walk.add(parts["storage"], f"{storage!r} is no URL; write postgresql+psycopg://user@host/database")
    study = walk.text(parts["study"], "the name of a shared study") if "study" in parts else None
    if study is not None and storage is None:
        walk.add(parts["study"], "needs search.storage: only a database is shared by several jobs")
    if parts and not {"trials", "time"} & {*parts, *walk.suggested}:
        walk.add(node, "name a budget: trials, time or both")
    return SearchSpec(
        trials=walk.whole(parts["trials"], 1, MOST_TRIALS) if "trials" in parts else None,
        time=_seconds(walk, parts["time"]) if "time" in parts else None,
        storage=storage,
        study=study,
        baselines=_switch(walk, parts.get("baselines")),
        ensemble=_switch(walk, parts.get("ensemble")),
        objectives=walk.choices(parts["objectives"], "objective", COSTS) if "objectives" in parts else (),
        rungs=_rungs(walk, parts["rungs"]) if "rungs" in parts else {},
        parallel=PARALLEL[(walk.choice(parts["parallel"], "way", PARALLEL) if "parallel" in parts else None) or "auto"],
    )


def _rungs(walk: Walk, node: Node) -> dict[str, float]:
    """`rungs:` {probe: 0.5, scratch: false, adapt: 0.3}: shares of the budget."""
    found = {}
    for name, part in walk.mapping(node, RUNGS, "{probe: 0.6, scratch: false}").items():
        share = 0.0 if part.value is False else walk.number(part, "a share of the budget from 0 to 1, or false")
        if share is not None and not 0 <= share <= 1:
            walk.add(part, f"must be a share of the budget from 0 to 1, or false, got {part.text}")
        found[name] = share or 0.0
    if sum(found.values()) > 1:
        walk.add(node, f"adds up to {sum(found.values()):g}; all stages together have 1")
    return found


def _switch(walk: Walk, node: Node | None) -> bool:
    """`true` or `false`; true if absent."""
    if node is None:
        return True
    if not isinstance(node.value, bool):
        walk.add(node, f"must be true or false, not {kind(node)}")
    return node.value is True


def duration(text: str) -> float | None:
    """Seconds of a time such as `90s`, `20m`, `1h 30m`; None if it is none."""
    match = DURATION.fullmatch(text.strip())
    return sum(float(part or 0) * unit for part, unit in zip(match.groups(), UNITS, strict=True)) if match else None


def _seconds(walk: Walk, node: Node) -> float | None:
    """`90`, `90s`, `20m`, `1h 30m`, `2h`, `1d` → seconds."""
    seconds: float | None = None
    if isinstance(node.value, int | float) and not isinstance(node.value, bool):
        seconds = float(node.value)
    elif isinstance(node.value, str):
        seconds = duration(node.text)
    if seconds is None or seconds <= 0:
        walk.add(node, f"must be a time such as 2h, 20m, 90s or a number of seconds, not {kind(node)}")
        return None
    return seconds


def read_require(walk: Walk, node: Node) -> tuple[GateSpec, ...]:
    """`require:` metric, latency_ms or size_mb → comparison."""
    names = [*walk.metrics(), *COSTS]
    gates = []
    for name, value in walk.mapping(node, None, '{accuracy: ">= 0.8"}').items():
        match = GATE.fullmatch(value.text) if isinstance(value.value, str) else None
        if name not in names:
            walk.add(value, unknown(f"{metric_word(walk)} or gate", name, names))
        elif match is None:
            walk.add(value, f'must be a comparison such as ">= 0.8", not {kind(value)}')
        else:
            gates.append(GateSpec.model_validate({"metric": name, "operator": match[1], "value": float(match[2])}))
    return tuple(gates)


def read_export(walk: Walk, node: Node) -> tuple[str, ...]:
    """`export:` one exporter or a list of them."""
    said = {item.text for item in (node.value if isinstance(node.value, list) else [node])}
    owners = [
        (owner, e.name) for e in walk.registry.all("exporter") for owner in (e.owner.plugin, e.owner.distribution)
    ]
    owned = {f"{owner}:{name}" for owner, name in owners} & said
    return walk.choices(node, "exporter", [*walk.registry.names("exporter"), *sorted(owned)])


def read_log(walk: Walk, node: Node) -> tuple[LogSpec, ...]:
    """`log:` loggers: names, or names with fields; `none` for none."""
    if isinstance(node.value, str) and node.text == "none":
        return ()
    found: dict[str, LogSpec] = {}
    for item in walk.items(node):
        fields = walk.mapping(item, None, "{name: wandb}") if isinstance(item.value, dict) else {"name": item}
        if "name" not in fields:
            walk.add(item, "the logger's name is missing; write {name: wandb}")
            continue
        name = walk.choice(fields["name"], "logger", tuple(LOGGERS))
        if name in found:
            walk.add(item, f"{name!r} is listed twice")
        elif name is not None:
            fields = walk.mapping(item, ("name", *LOGGERS[name]), "{name: wandb}") if len(fields) > 1 else fields
            found[name] = LogSpec.model_validate({"name": name, **_log_fields(walk, fields)})
    return tuple(found.values())


def _log_fields(walk: Walk, fields: dict[str, Node]) -> dict[str, object]:
    read: dict[str, object] = {}
    if "project" in fields:
        read["project"] = walk.text(fields["project"], "a name")
    if "online" in fields:
        read["online"] = _switch(walk, fields["online"])
    if "uri" in fields:
        read["uri"] = walk.text(fields["uri"], "a URL")
        if isinstance(read["uri"], str) and "://" not in read["uri"]:
            walk.add(fields["uri"], f"{read['uri']!r} is no URL; write https://host or sqlite:///file.db")
    return read


def read_plugins(walk: Walk, node: Node) -> tuple[str, ...]:
    """`plugins:` Python files in the recipe's folder."""
    folder = walk.folder
    files = walk.texts(node, "a Python file in the recipe's folder")
    for file in files:
        path = folder / file
        if Path(file).is_absolute() or not path.resolve().is_relative_to(folder):
            walk.add(node, f"{file} lies outside the recipe's folder; copy it there")
        elif path.suffix != ".py" or not path.is_file():
            walk.add(node, f"there is no Python file {file} in the recipe's folder {folder}")
    return files


NOTHING = "none"
MOST_ROWS = 100_000


def read_update(walk: Walk, node: Node) -> UpdateSpec | None:
    """`update:` none, or {rows, weights}."""
    if not isinstance(node.value, dict):
        if node.text != NOTHING:
            walk.add(node, f"must be none or a mapping such as {{rows: 500}}, not {kind(node)}")
        return UpdateSpec(rows=0, weights=False)
    parts = walk.mapping(node, ("rows", "weights"), "{rows: 500, weights: true}")
    values: dict[str, Any] = {}
    if "rows" in parts and (rows := walk.whole(parts["rows"], 0, MOST_ROWS)) is not None:
        values["rows"] = rows
    if "weights" in parts:
        values["weights"] = parts["weights"].value
        if values["weights"] != "auto" and not isinstance(values["weights"], bool):
            walk.add(parts["weights"], f"must be auto, true or false, not {kind(parts['weights'])}")
            return None
    return UpdateSpec(**values)


def read_seed(walk: Walk, node: Node) -> int | None:
    """`seed:` a whole number."""
    return walk.whole(node, 0, MOST_SEED)
