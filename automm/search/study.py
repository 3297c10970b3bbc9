"""The Optuna study of a run: ask, report, tell, and going on after a kill."""

from __future__ import annotations

import json
import logging
import uuid
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automm.errors import StorageError
from automm.plan.model import Plan
from automm.plugin.registry import Registry
from automm.report.folder import write_json
from automm.search.space import first_trials, resolve

if TYPE_CHECKING:
    import optuna

INTERRUPTED = "interrupted"
IDENTITY = "study.json"
"""Names the study of a run folder."""


class Study:
    """The trials of a run, in a journal file of the run folder (or a database by URL).

    What a trial tries depends on the seed, its index among the trials that count, and the trials before it. So a trial
    that a kill interrupted is simply asked for again, and a resumed study tries what an uninterrupted one would have
    tried. Used on rank 0 only.

    Args:
        plan: The plan; its digest is part of the study's name.
        registry: Where configurations are validated.
        folder: The run folder.
        storage: Optuna storage URL; None: a journal file.

    Raises:
        StorageError: If the storage cannot be used, or the folder holds another plan's study.
    """

    def __init__(self, plan: Plan, registry: Registry, folder: Path, storage: str | None = None) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        logging.getLogger("optuna").setLevel(logging.ERROR)
        self._optuna, self._plan, self._registry = optuna, plan, registry
        self._first = first_trials(plan, registry)
        name = self._identify(folder)
        self._storage = self._open(folder, storage)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study = optuna.create_study(
                study_name=name,
                storage=self._storage,
                direction="maximize" if plan.maximize else "minimize",
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=3),
            )
        self._recover()

    def _identify(self, folder: Path) -> str:
        """The study's name, drawn once per run folder: a database may hold many runs of one plan."""
        path = folder / IDENTITY
        if not path.exists():
            name = f"{self._plan.recipe}-{self._plan.digest}-{uuid.uuid4().hex[:8]}"
            write_json(path, {"name": name, "plan": self._plan.digest})
        known = json.loads(path.read_text("utf-8"))
        if known["plan"] != self._plan.digest:
            raise StorageError(
                f"the run folder holds a search of another plan ({known['plan']}; this one is {self._plan.digest}): "
                "the recipe or the data changed since. Use another --out, or remove the folder to start anew"
            )
        return str(known["name"])

    def _open(self, folder: Path, storage: str | None) -> Any:
        if storage is not None:
            try:
                return self._optuna.storages.get_storage(storage)
            except Exception as problem:
                raise StorageError(f"search.storage: cannot open {storage.split('@')[-1]}: {problem}") from problem
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        path = folder / "study.journal"
        _drop_torn_line(path)
        backend = JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path)))
        return self._optuna.storages.JournalStorage(backend)

    def _recover(self) -> None:
        """Marks trials that a kill left running; they do not count."""
        states = self._optuna.trial.TrialState
        for trial in self._study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            self._storage.set_trial_user_attr(trial._trial_id, INTERRUPTED, True)
            self._study.tell(trial.number, state=states.FAIL)

    def ask(self) -> dict[str, Any]:
        """The next trial's resolved configuration: the default configurations first, then samples.

        Raises:
            PluginError: If the sampled fields contradict each other; `tell` must end the trial all the same.
        """
        index = len(self.counted())
        waiting = self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.WAITING,))
        if index < len(self._first) and not waiting:
            self._study.enqueue_trial(self._first[index][1])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._study.sampler = self._optuna.samplers.TPESampler(
                seed=(self._plan.seed * 100_003 + index) % 2**32, n_startup_trials=8, group=True, multivariate=True
            )
            self._trial = self._study.ask()
            if not self._plan.searching:
                return self._first[index][0]
            return resolve(self._plan, self._registry, self._trial)

    def report(self, step: int, value: float) -> bool:
        """Notes an intermediate value of the asked trial; True if it should be pruned."""
        self._trial.report(value, step)
        return bool(self._trial.should_prune())

    def tell(self, value: float | None, state: str, facts: dict[str, Any]) -> None:
        """Ends the asked trial.

        Args:
            value: The metric; None unless it completed or was pruned.
            state: complete, repeated, pruned or failed.
            facts: Kept with the trial (plain JSON).
        """
        for key, fact in facts.items():
            self._trial.set_user_attr(key, fact)
        states = self._optuna.trial.TrialState
        if state in ("complete", "repeated") and value is not None:
            self._study.tell(self._trial, value)
        else:
            self._study.tell(self._trial, state=states.PRUNED if state == "pruned" else states.FAIL)

    def counted(self) -> list[optuna.trial.FrozenTrial]:
        """The trials that ended and were not interrupted, in order."""
        return [
            trial
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state.is_finished() and not trial.user_attrs.get(INTERRUPTED)
        ]


def _drop_torn_line(path: Path) -> None:
    """Cuts a last journal line that a kill left without its end; the operations before it are kept."""
    if not path.exists():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
