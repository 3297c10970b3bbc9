"""The Optuna study of a run: ask, report, tell, going on after a kill, and sharing it with other jobs."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import time
import uuid
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automm.errors import DatabaseAwayError, StorageError
from automm.plan.model import Plan
from automm.plugin.registry import Registry
from automm.report.folder import asked_for, read_report, trial_folder, write_json
from automm.search.journal import mend_journal
from automm.search.ladder import OPEN, Ladder, without
from automm.search.pruning import measured, pruner
from automm.search.shared import bring
from automm.search.space import first_trials, resolve

if TYPE_CHECKING:
    import optuna

INTERRUPTED = "interrupted"
NAME, JOB, FOLDER, REPORT, RUNG = "name", "job", "folder", "report", "rung"
"""Attributes of a trial: its name in the run folder, its rung; in a shared study also who trains it, where, and its
report."""
FIRST = "first"
"""The rung of the default configurations."""
QUEUED = "queued"
"""Attribute of a shared study: the job that queued the default configurations."""
IDENTITY = "study.json"
"""Names the study of a run folder."""
QUEUE_SECONDS = 10.0
"""How long a job waits for the one that made the study to queue the default configurations."""


class Study:
    """The trials of a run, in a journal file of the run folder, or in a database that several jobs share.

    What a trial tries depends on the seed, its index among the trials that count, and the trials before it. So a trial
    that a kill interrupted is simply asked for again, and a resumed study tries what an uninterrupted one would have
    tried. In a database, every job whose plan has the same digest takes part in one study; each configuration that is
    asked for belongs to the job that asked. Used on rank 0 only.

    Args:
        plan: The plan; its digest is part of the study's name.
        registry: Where configurations are validated.
        folder: The run folder.
        storage: URL of the database; None: a journal file.
        named: Name of a shared study; None: the recipe's name and the plan's digest.
        warn: Is told what was wrong and did not stop the search.
        stopping: Asks whether the user wants the run to end.
        sizes: Rung → share of the budget.
        dear: Kind and name of components that are left out, as the time does not pay for them.

    Attributes:
        ladder: The rungs.
        rung: Rung of the trial that was asked for last.
        name: Name of the trial that was asked for last; also that of its folder.
        shared: Whether other jobs may take part.

    Raises:
        StorageError: If the storage cannot be used, or the folder holds another plan's study.
    """

    def __init__(
        self, plan: Plan, registry: Registry, folder: Path, storage: str | None = None, named: str | None = None, *,
        warn: Callable[[str], None] = lambda _: None, stopping: Callable[[], bool] = lambda: False,
        sizes: Mapping[str, float] | None = None, dear: Sequence[tuple[str, str]] = (),
    ) -> None:  # fmt: skip
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        logging.getLogger("optuna").setLevel(logging.ERROR)
        self._optuna, self._plan, self._registry, self._folder = optuna, plan, registry, folder
        self.ladder, self._first = Ladder(plan, registry, sizes), first_trials(plan, registry, dear)
        self.name, self.rung, self.shared = "", FIRST, storage is not None
        self._open: dict[str, Any] = {}
        self._silent, self._dear = False, tuple(dear)
        title, self._job = self._identify(named if self.shared else None)
        self._database, self._storage = self._opened(storage, warn, stopping)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study, made = self._made(title, {
                "storage": self._storage,
                "directions": ["maximize" if plan.maximize else "minimize", *("minimize" for _ in plan.objectives)],
                "pruner": pruner(),
            })  # fmt: skip
        if self.shared:
            self._queue(made)
        self._recover()

    def _identify(self, named: str | None) -> tuple[str, str]:
        """The study's name, and this job's among those that share it: drawn once per run folder."""
        path = self._folder / IDENTITY
        if not path.exists():
            job = uuid.uuid4().hex[:8]
            of_plan = f"{named or self._plan.recipe}-{self._plan.digest}"
            write_json(
                path,
                {"name": of_plan if self.shared else f"{of_plan}-{job}", "plan": self._plan.digest, "job": job},
            )
        try:
            known = json.loads(path.read_text("utf-8"))
            name, plan, job = str(known["name"]), known["plan"], str(known.get("job", "0"))
        except (ValueError, KeyError, TypeError):
            hint = "use another --out, or remove the folder to start anew"
            raise StorageError(f"{path} cannot be read; {hint}") from None
        if plan != self._plan.digest:
            raise StorageError(
                f"the run folder holds a search of another plan ({plan}; this one is {self._plan.digest}): "
                "the recipe or the data changed since. Use another --out, or remove the folder to start anew"
            )
        return name, job

    def _opened(self, storage: str | None, warn: Callable[[str], None], stopping: Callable[[], bool]) -> Any:
        """The database (None: a journal) and what Optuna takes as storage."""
        if storage is not None:
            from automm.search.database import open_database

            database = open_database(storage, warn, stopping)
            return database, self._optuna.storages.get_storage(database)
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        path = self._folder / "study.journal"
        if problem := mend_journal(path):
            warn(problem)
        backend = JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path)))
        try:
            return None, self._optuna.storages.JournalStorage(backend)
        except Exception as problem:
            raise StorageError(
                f"{path} cannot be read ({type(problem).__name__}: {problem}); remove it to search anew: "
                "trials that are asked for again are taken over from their folders"
            ) from problem

    def _made(self, name: str, options: Mapping[str, Any]) -> tuple[Any, bool]:
        """The study, and whether this job made it: names are unique in a storage."""
        try:
            return self._optuna.create_study(study_name=name, **options), True
        except self._optuna.exceptions.DuplicatedStudyError:
            return self._optuna.create_study(study_name=name, load_if_exists=True, **options), False

    def _queue(self, made: bool) -> None:
        """Queues the default configurations of a shared study, once: taking one off the queue is atomic."""
        until = time.monotonic() + QUEUE_SECONDS
        while not made and QUEUED not in self._study.user_attrs and time.monotonic() < until:
            time.sleep(0.1)
        if QUEUED not in self._study.user_attrs:
            for _, params in self._first:
                self._study.enqueue_trial(params, user_attrs={RUNG: FIRST}, skip_if_exists=True)
            self._study.set_user_attr(QUEUED, self._job)

    def _recover(self) -> None:
        """Ends this job's trials that a kill left running: with their report, or as interrupted (they do not count)."""
        states = self._optuna.trial.TrialState
        for trial in self._study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            if self.shared and trial.user_attrs.get(JOB) != self._job:
                continue
            report = self._report(trial.user_attrs.get(NAME)) if self.shared else None
            if report is not None:
                self._storage.set_trial_user_attr(trial._trial_id, REPORT, _brief(report))
                self._end(trial.number, report["value"], report["state"], report)
                continue
            self._storage.set_trial_user_attr(trial._trial_id, INTERRUPTED, True)
            self._study.tell(trial.number, state=states.FAIL)
            if self.shared and trial.params:
                self._study.enqueue_trial(trial.params, user_attrs={RUNG: trial.user_attrs.get(RUNG, FIRST)})

    def ask(
        self, rung: str = OPEN, given: dict[str, Any] | None = None, *, attempt: int = 0,
        failing: Iterable[tuple[str, str]] = (),
    ) -> dict[str, Any]:  # fmt: skip
        """The next trial's resolved configuration: the default configurations first, then samples.

        `name` is that of the trial, `rung` its rung: a queued trial keeps its own. Several trials may be open at once.

        Args:
            rung: Whose candidates are sampled.
            given: A configuration to try in place of a sample.
            attempt: How many samples in its place were dropped. From the first on they are random: near what was good
                lies what is known already.
            failing: Kind and name of components to leave out.

        Raises:
            PluginError: If the sampled fields contradict each other; `tell` must end the trial all the same.
            DatabaseAwayError: If the database stays away.
        """
        index = self._index()
        first_job = not self.shared or self._study.user_attrs.get(QUEUED) == self._job
        salt = 0 if first_job else int(self._job, 16)  # jobs that ask at the same time must not ask the same
        waiting = self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.WAITING,))
        if not self.shared and index < len(self._first) and not waiting:
            self._study.enqueue_trial(self._first[index][1], user_attrs={RUNG: FIRST})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._study.sampler = self._optuna.samplers.TPESampler(
                seed=(self._plan.seed * 100_003 + index + salt + attempt * 1_000_003) % 2**32,
                n_startup_trials=10**9 if attempt else 8, group=True, multivariate=True,
            )  # fmt: skip
            trial = self._study.ask()
            self._silent = False
            self.name = str(trial.number if self.shared else index)
            queued = RUNG in trial.user_attrs
            self.rung = trial.user_attrs.get(RUNG, rung)
            facts = {NAME: self.name, RUNG: self.rung}
            if self.shared:
                facts |= {JOB: self._job, FOLDER: str(self._folder)}
            for key, fact in facts.items():
                trial.set_user_attr(key, fact)
            self._open[self.name] = trial
            if not self._plan.searching:
                return self._first[index][0]
            if given is not None and not queued:
                return given
            return resolve(without(self.ladder.plan(self.rung), [*failing, *self._dear]), self._registry, trial)

    def _index(self) -> int:
        """Place of the next trial: the first that no other has; in a shared study, the number of trials so far."""
        if self.shared:
            return len(self._study.get_trials(deepcopy=False))
        taken = {*self.names(), *self._open}
        return next(index for index in itertools.count() if str(index) not in taken)

    def left(self, resolved: Mapping[str, Any]) -> dict[str, Any] | None:
        """The report in the folder of the trial asked for last: it ended, and the study did not hear of it."""
        report = self._report(self.name)
        if report is None or resolved != asked_for(report):
            return None
        self.past(report)
        return report

    def past(self, report: Mapping[str, Any]) -> None:
        """Notes the epochs of a trial that was asked for and trained out of the study's sight."""
        for step, value in measured(report, self._plan.metric).items() if self._plan.searching else ():
            self.report(step, value, report["name"])

    def _report(self, name: str | None) -> dict[str, Any] | None:
        return read_report(trial_folder(self._folder, name)) if name else None

    def report(self, step: int, value: float, name: str | None = None) -> bool:
        """Notes an intermediate value of a trial (by default the one asked for last); True if it should be pruned.

        A database that is away is not waited for: the trial then goes on without being pruned. With further objectives
        nothing is pruned: what is worse may be faster.
        """
        if self._silent or self._plan.objectives:
            return False
        trial = self._open[name or self.name]
        try:
            with self._database.impatient() if self._database else contextlib.nullcontext():
                trial.report(value, step)
                return bool(trial.should_prune())
        except DatabaseAwayError:
            self._silent = True
            return False

    def tell(self, value: float | None, state: str, facts: Mapping[str, Any], name: str | None = None) -> None:
        """Ends a trial.

        Args:
            value: The metric; None unless it completed or was pruned.
            state: complete, pruned or failed.
            facts: Kept with the trial (plain JSON), the further objectives' values among them.
            name: The trial; None: the one asked for last.

        Raises:
            DatabaseAwayError: If the database stays away; the trial is told of when the run goes on.
        """
        name = name or self.name
        trial = self._open[name]
        for key, fact in facts.items():
            trial.set_user_attr(key, fact)
        if self.shared and (report := self._report(name)) is not None:
            trial.set_user_attr(REPORT, _brief(report))
        self._end(trial, value, state, facts)
        del self._open[name]

    def drop(self) -> None:
        """Forgets the trial asked for last, as if it had not been asked for."""
        trial = self._open.pop(self.name)
        trial.set_user_attr(INTERRUPTED, True)
        self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)

    def _end(self, trial: Any, value: float | None, state: str, facts: Mapping[str, Any]) -> None:
        states = self._optuna.trial.TrialState
        values = [value, *(facts.get(name) for name in self._plan.objectives)]
        if state == "complete" and None not in values:
            self._study.tell(trial, values)
        else:
            self._study.tell(trial, state=states.PRUNED if state == "pruned" else states.FAIL)

    def counted(self) -> list[optuna.trial.FrozenTrial]:
        """The trials that ended and were neither interrupted nor dropped, in order."""
        return [
            trial
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state.is_finished() and not trial.user_attrs.get(INTERRUPTED)
        ]

    def names(self) -> list[str]:
        """The names of this job's trials that count."""
        return [
            str(trial.user_attrs.get(NAME, place))
            for place, trial in enumerate(self.counted())
            if not self.shared or trial.user_attrs.get(JOB) == self._job
        ]

    def full(self) -> bool:
        """Whether the jobs that share the study have asked for all its trials, together."""
        if not self.shared or self._plan.trials is None:
            return False
        running = self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.RUNNING,))
        others = [trial for trial in running if JOB in trial.user_attrs and trial.user_attrs[JOB] != self._job]
        return len(self.counted()) + len(others) + len(self._open) >= self._plan.trials

    def others(self, known: Collection[str]) -> list[dict[str, Any]]:
        """Reports of trials that other jobs ended; weights and answers are brought into this run folder.

        Args:
            known: Names of the trials that need not be given again.
        """
        if not self.shared:
            return []
        found = []
        for trial in self.counted():
            facts = trial.user_attrs
            if facts.get(JOB) != self._job and facts.get(NAME, "") not in known and REPORT in facts:
                here, there = trial_folder(self._folder, facts[NAME]), trial_folder(Path(facts[FOLDER]), facts[NAME])
                found.append(bring(json.loads(facts[REPORT]), there, here))
        return found

    def close(self) -> None:
        """Leaves the database."""
        if self._database is not None:
            self._storage.remove_session()
            self._database.engine.dispose()


def _brief(report: Mapping[str, Any]) -> str:
    """A report as a trial's attribute: without the epochs."""
    return json.dumps({**report, "history": []}, allow_nan=False)
