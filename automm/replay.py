"""`automm fit --trial`: one trial of a finished run, trained again. Same machine, same numbers."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automm.errors import StorageError, UsageError
from automm.recipe.parse import load_with_plugins
from automm.report.folder import RunFolder, read_report, trial_folder, write_json
from automm.report.progress import progress
from automm.train.ranks import joined

if TYPE_CHECKING:
    from automm.run import FitOptions, Run

FILE = "replay.json"
PACKAGES = (
    "numpy", "torch", "lightning", "transformers", "peft", "scikit-learn", "lightgbm", "optuna", "onnxruntime",
)  # fmt: skip
"""Packages whose versions a trial's numbers may depend on."""


class _UntilEpoch:
    """Ends a trial after as many epochs as it had when the search pruned it."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def report(self, step: int, value: float) -> bool:
        """Whether this was the last epoch."""
        return step + 1 >= self._epochs


def replay(path: Path, options: FitOptions, name: str) -> dict[str, Any]:
    """Trains a trial of a run again, in `replays/<name>` of the run folder; the run itself is only read.

    Args:
        path: The recipe.
        options: What the command line adds; `out` names the run folder.
        name: The trial: its number, or the name of a baseline.

    Returns:
        name, metric, value, original (the value of the run), same, state, error, seconds, and the folder; also in
        `replay.json` there.

    Raises:
        UsageError: If the run has no such trial.
        StorageError: If recipe or data changed since the run.
    """
    from automm.orchestrate import planned, run_folder
    from automm.trial import Asked, train

    began = time.monotonic()
    with joined() as ranks:
        recipe, plugins = load_with_plugins(
            path, block=options.block, files=options.plugin_files, strict=options.strict
        )
        home = run_folder(path, options.out)
        original = ranks.first(lambda: _original(home, name))
        folder = home / "replays" / name
        show = progress(quiet=options.quiet or not ranks.main)
        log = ranks.keep(lambda: RunFolder(folder, show))
        try:
            if log is not None:
                log.event("started", recipe=str(path), folder=str(folder), resumed=False, processes=ranks.world)
            run = planned(recipe.model_copy(update={"log": ()}), plugins, ranks, folder, log, began)
            ranks.first(lambda: _check_plan(home, run))
            pruned = original["state"] == "pruned"
            asked = Asked(name, original["resolved"], original.get("rung", ""))
            report = train(run, asked, _UntilEpoch(original["epochs"]) if pruned else None, None)
            found = {
                "name": name, "metric": run.plan.metric, "value": report["value"], "original": original["value"],
                "same": report["value"] == original["value"], "state": report["state"], "error": report["error"],
                "seconds": report["seconds"], "folder": str(folder),
            }  # fmt: skip
            if log is not None:
                write_json(folder / FILE, found)
                shutil.rmtree(folder / "work", ignore_errors=True)
            return found
        finally:
            show.close()
            if log is not None:
                log.close()


def _original(home: Path, name: str) -> dict[str, Any]:
    """The report of the trial in the run folder."""
    report = read_report(trial_folder(home, name)) if "/" not in name and not name.startswith(".") else None
    if report is None or "encoders" not in report["resolved"]:
        folder = home / "trials"
        known = sorted(path.name for path in folder.iterdir() if read_report(path)) if folder.is_dir() else []
        there = f"; there are: {', '.join(known)}" if known else ""
        raise UsageError(f"--trial {name}: {home} holds no such trial{there}. --out names the folder of the run")
    return report


def _check_plan(home: Path, run: Run) -> None:
    try:
        known = json.loads((home / "plan.json").read_text("utf-8"))["digest"]
    except (OSError, ValueError, KeyError):
        raise StorageError(f"{home / 'plan.json'} cannot be read: the run cannot be compared with") from None
    if known != run.plan.digest:
        raise StorageError(
            f"{home} is a run of another plan ({known}; this one is {run.plan.digest}): the recipe or the data changed "
            f"since. The recipe of the run is {home / 'recipe.yaml'}"
        )


def how_to_repeat(run: Run, names: list[str]) -> dict[str, Any]:
    """What it takes to train the winner's models again: commands, data, machine, versions."""
    import torch

    from automm.train.run import device

    processes = ["--nproc", str(run.ranks.world)] if run.ranks.world > 1 else []
    command = ["automm", "fit", str(run.recipe.path), "--out", str(run.folder), *processes, "--trial"]
    kinds = run.plugins.registry.entries.values()
    owners = {entry.owner.distribution for kind in kinds for named in kind.values() for entry in named}
    versions = {}
    for package in (*PACKAGES, *sorted(owners)):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # a file of the recipe, or not installed
            continue
    where = device()
    return {
        "commands": [shlex.join([*command, name]) for name in names],
        "data": dict(run.plan.data),
        "machine": {
            "platform": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count(),
            "device": torch.cuda.get_device_name(where) if where.type == "cuda" else where.type,
            "threads": torch.get_num_threads(),
        },
        "python": sys.version.partition(" ")[0],
        "packages": versions,
    }  # fmt: skip
