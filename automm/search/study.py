"""The Optuna study of a run: ask, report, tell, and going on after a kill."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automm.errors import StorageError
from automm.plan.model import Plan
from automm.plugin.registry import Registry
from automm.search.space import first_trials, resolve

if TYPE_CHECKING:
    import optuna

REASON = "reason"
INTERRUPTED = "interrupted"


class Study:
    """The trials of a run, in a journal file of the run folder (or a database by URL).

    The sampler is seeded anew for every trial from the seed and the trial's number, so a resumed study samples what an
    uninterrupted one would have sampled. Used on rank 0 only.

    Args:
        plan: The plan; its digest is part of the study's name.
        registry: Where configurations are validated.
        folder: The run folder.
        storage: Optuna storage URL; None: a journal file.

    Raises:
        StorageError: If the storage cannot be used or holds another plan's study.
    """

    def __init__(self, plan: Plan, registry: Registry, folder: Path, storage: str | None = None) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        logging.getLogger("optuna").setLevel(logging.ERROR)
        self._optuna, self._plan, self._registry = optuna, plan, registry
        self._storage = self._open(folder, storage)
        self._name = f"{plan.recipe}-{plan.digest}"
        self._check_digest()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study = optuna.create_study(
                study_name=self._name,
                storage=self._storage,
                direction="maximize" if plan.maximize else "minimize",
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=3),
            )
        self._recover()

    def _open(self, folder: Path, storage: str | None) -> Any:
        if storage is not None:
            try:
                return self._optuna.storages.get_storage(storage)
            except Exception as problem:
                raise StorageError(f"search.storage: cannot open {storage.split('@')[-1]}: {problem}") from problem
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "study.journal"
        _drop_torn_line(path)
        backend = JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path)))
        return self._optuna.storages.JournalStorage(backend)

    def _check_digest(self) -> None:
        names = [study.study_name for study in self._storage.get_all_studies()]
        others = [n for n in names if n.rpartition("-")[0] == self._plan.recipe and n != self._name]
        if others and self._name not in names:
            raise StorageError(
                f"the run folder holds a search of another plan ({others[-1]}; this one is {self._name}): the "
                "recipe or the data changed since. Use another --out, or remove the folder to start anew"
            )

    def _recover(self) -> None:
        """Marks trials that a kill left running and queues them again; queues the default configurations first."""
        states = self._optuna.trial.TrialState
        for trial in self._study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            self._storage.set_trial_user_attr(trial._trial_id, REASON, INTERRUPTED)
            self._study.tell(trial.number, state=states.FAIL)
            self._study.enqueue_trial(dict(trial.params), user_attrs={"again": trial.number})
        for _, params in first_trials(self._plan, self._registry):
            self._study.enqueue_trial(params, skip_if_exists=True)

    def ask(self) -> tuple[int, dict[str, Any]]:
        """The next trial.

        Returns:
            Its index among the trials that count (a trial that a kill interrupted keeps its index) and its resolved
            configuration.
        """
        index = len(self.counted())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._study.sampler = self._optuna.samplers.TPESampler(
                seed=self._plan.seed * 100_003 + index, n_startup_trials=8, group=True, multivariate=True
            )
            self._trial = self._study.ask()
            try:
                return index, resolve(self._plan, self._registry, self._trial)
            except BaseException:
                self.fail("the configuration could not be made")
                raise

    def report(self, step: int, value: float) -> bool:
        """Notes an intermediate value of the asked trial; True if it should be pruned."""
        self._trial.report(value, step)
        return bool(self._trial.should_prune())

    def tell(self, value: float | None, state: str, facts: dict[str, Any]) -> None:
        """Ends the asked trial.

        Args:
            value: The metric; None unless it completed or was pruned.
            state: complete, pruned or failed.
            facts: Kept with the trial (plain JSON).
        """
        for key, fact in facts.items():
            self._trial.set_user_attr(key, fact)
        states = self._optuna.trial.TrialState
        if state == "complete" and value is not None:
            self._study.tell(self._trial, value)
        else:
            self._study.tell(self._trial, state=states.PRUNED if state == "pruned" else states.FAIL)

    def fail(self, reason: str) -> None:
        """Ends the asked trial as failed."""
        self.tell(None, "failed", {REASON: reason})

    def counted(self) -> list[optuna.trial.FrozenTrial]:
        """The trials that ended and were not interrupted, in order."""
        return [
            trial
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state.is_finished() and trial.user_attrs.get(REASON) != INTERRUPTED
        ]

    def waiting(self) -> int:
        """Trials that are queued."""
        return len(self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.WAITING,)))


def _drop_torn_line(path: Path) -> None:
    """Cuts a last journal line that a kill left without its end; the operations before it are kept."""
    if not path.exists():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
