"""Learning curves for TensorBoard, Weights & Biases and MLflow; a logger that fails never fails a run."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from automm.recipe.model import LogSpec

LOCAL = {
    "wandb": {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"},
    "mlflow": {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"},
}
"""Logger → environment that keeps its package quiet, and from reporting about itself over the network."""
WANDB_SECONDS = 30
"""How long the server of Weights & Biases may take to answer; then it is left out."""

Make = Callable[[LogSpec, Path, str, str], Logger]


def _tensorboard(spec: LogSpec, folder: Path, recipe: str, trial: str) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(folder, name="tensorboard", version=trial, default_hp_metric=False)


def _wandb(spec: LogSpec, folder: Path, recipe: str, trial: str) -> Logger:
    import wandb  # type: ignore[import-not-found,unused-ignore]
    from lightning.pytorch.loggers import WandbLogger

    settings = wandb.Settings(
        silent=True, console="off", save_code=False, disable_git=True, x_disable_stats=True,
        x_disable_machine_info=True, init_timeout=WANDB_SECONDS,
    )  # fmt: skip
    return WandbLogger(
        name=f"{recipe}/{trial}", group=folder.name, project=spec.project or recipe, save_dir=folder,
        offline=not spec.online, settings=settings,
    )  # fmt: skip


def _mlflow(spec: LogSpec, folder: Path, recipe: str, trial: str) -> Logger:
    import mlflow  # type: ignore[import-not-found,unused-ignore]  # noqa: F401 - Lightning's own message names no package to install
    from lightning.pytorch.loggers import MLFlowLogger

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return MLFlowLogger(
        experiment_name=spec.project or recipe, run_name=f"{folder.name}/{trial}",
        tracking_uri=spec.uri or f"sqlite:///{folder / 'mlflow.db'}", tags={"trial": trial},
    )  # fmt: skip


MAKERS: dict[str, Make] = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}


class Loggers:
    """The loggers of a run. Rank 0 only.

    Args:
        specs: What the recipe names; None: TensorBoard, if it is installed.
        folder: The run folder.
        recipe: Name of the recipe.
        warn: Is told of a logger that failed, once; it is left out from then on.
    """

    def __init__(self, specs: Sequence[LogSpec] | None, folder: Path, recipe: str, warn: Callable[[str], None]) -> None:
        self._default = specs is None
        named = (LogSpec(name="tensorboard"),) if specs is None else specs
        self._specs: dict[str, LogSpec] = {spec.name: spec for spec in named}
        self._folder, self._recipe, self._warn = folder, recipe, warn

    def trial(self, name: str, resolved: Mapping[str, Any]) -> TrialLogger | None:
        """The loggers of one trial, as one; None if there are none.

        Args:
            name: The trial.
            resolved: Its configuration.
        """
        made: dict[str, Logger] = {}
        for kind, spec in list(self._specs.items()):
            if not spec.online and spec.uri is None:
                for variable, value in LOCAL.get(kind, {}).items():
                    os.environ.setdefault(variable, value)
            try:
                made[kind] = MAKERS[kind](spec, self._folder, self._recipe, name)
            except Exception as problem:
                self.leave_out(kind, problem)
        logger = TrialLogger(made, self, name) if made else None
        if logger is not None:
            logger.log_hyperparams(dict(resolved))
        return logger

    def leave_out(self, kind: str, problem: Exception) -> None:
        """Does without a logger that failed."""
        if self._specs.pop(kind, None) is None:
            return
        absent = isinstance(problem, ModuleNotFoundError)
        if absent and self._default:
            return
        hint = f"; pip install 'automm[{'train' if kind == 'tensorboard' else kind}]'" if absent else ""
        reason = " ".join(str(problem).split())[:300]
        self._warn(f"log: {kind} is left out from here on ({type(problem).__name__}: {reason}){hint}")


class TrialLogger(Logger):
    """Several loggers as one; one that raises is left out.

    Args:
        loggers: Kind → Lightning logger.
        owner: Is told of what raises.
        trial: Name of the trial.
    """

    def __init__(self, loggers: dict[str, Logger], owner: Loggers, trial: str) -> None:
        super().__init__()
        self._loggers, self._owner, self._trial = loggers, owner, trial

    def _each(self, work: Callable[[str, Logger], object]) -> None:
        for kind, logger in list(self._loggers.items()):
            try:
                work(kind, logger)
            except Exception as problem:
                del self._loggers[kind]
                self._owner.leave_out(kind, problem)

    @property
    def name(self) -> str:
        """What Lightning calls the experiment."""
        return "automm"

    @property
    def version(self) -> str:
        """The trial."""
        return self._trial

    @property
    def experiment(self) -> Any:
        """What the first logger writes to, for callbacks of plugins (TensorBoard's writer, by default)."""
        return next((logger.experiment for logger in self._loggers.values()), None)  # type: ignore[attr-defined]

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The configuration of the trial; TensorBoard has no use for one without a figure of merit."""
        self._each(lambda kind, logger: kind == "tensorboard" or logger.log_hyperparams(params))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Figures of an epoch; `recall@5` is written `recall_at_5`, as not every logger takes the sign."""
        named = {name.replace("@", "_at_"): figure for name, figure in metrics.items()}
        self._each(lambda _, logger: logger.log_metrics(named, step))

    def save(self) -> None:
        """Writes what is buffered."""
        self._each(lambda _, logger: logger.save())

    def finalize(self, status: str) -> None:
        """Ends the trial for the loggers."""
        self._each(lambda _, logger: logger.finalize(status))
        # Lightning leaves a run of Weights & Biases open, and the next trial would go on in it.
        self._each(lambda kind, logger: kind == "wandb" and logger.experiment.finish())  # type: ignore[attr-defined]
