"""A study in a database: no password is shown, and a database that goes away is waited for."""

from __future__ import annotations

import functools
import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage

from automm.errors import DatabaseAwayError, MissingExtraError, StorageError

PATIENCE = float(os.environ.get("AUTOMM_STORAGE_TIMEOUT", "600"))
"""Seconds that a run waits for a database that went away."""
PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between attempts; the last one repeats."""
OPENING = 60.0
"""Seconds that a run waits at its start for a server that does not answer."""
RACES = 4
"""Attempts at opening a database whose tables another job makes at the same time."""
CONNECTION = {
    "connect_timeout": "10", "keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}  # fmt: skip
"""Of PostgreSQL connections, unless the URL says otherwise: a host that vanished is noticed within about a minute."""
AWAY = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, sqlalchemy.exc.PendingRollbackError)
"""What SQLAlchemy raises when a connection is lost; the last where Optuna goes on in the same transaction."""
METHODS = (
    "create_new_study", "delete_study", "set_study_user_attr", "set_study_system_attr", "get_study_id_from_name",
    "get_study_name_from_id", "get_study_directions", "get_study_user_attrs", "get_study_system_attrs",
    "get_all_studies", "create_new_trial", "_create_new_trial", "set_trial_param", "_set_trial_param",
    "get_trial_id_from_study_id_trial_number", "get_trial_number_from_id", "get_trial_param",
    "set_trial_state_values", "set_trial_intermediate_value", "set_trial_user_attr", "set_trial_system_attr",
    "get_trial", "get_all_trials", "_get_trials", "get_n_trials", "get_best_trial", "get_trial_params",
    "get_trial_user_attrs", "get_trial_system_attrs",
)  # fmt: skip
"""What a study asks of its storage; each may be repeated."""


def shown(url: str) -> str:
    """A storage URL without password and options, for messages."""
    try:
        made = sqlalchemy.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        return url.split("@")[-1].partition("?")[0]
    return made._replace(password=None).set(query={}).render_as_string()


def open_database(url: str, say: Callable[[str], None], stopping: Callable[[], bool]) -> PatientStorage:
    """Opens a database.

    Args:
        url: SQLAlchemy URL.
        say: Is told when the database goes away and when it answers again.
        stopping: Asks whether the user wants the run to end: nothing is waited for then.

    Raises:
        MissingExtraError: If the driver is not installed.
        StorageError: If the database cannot be opened; the message holds no password.
    """
    if url.startswith("postgresql+psycopg:") and importlib.util.find_spec("psycopg") is None:
        raise MissingExtraError(
            "search.storage: postgresql+psycopg needs a driver that is not installed: pip install 'automm[postgres]'"
        )
    began, races, waiting = time.monotonic(), 0, False
    while True:
        try:
            return PatientStorage(url, say, stopping)
        except Exception as problem:
            reason, waited = _reason(problem), time.monotonic() - began
            # Two jobs that find a new database at the same time both make its tables: the one that loses looks again.
            raced = isinstance(problem, sqlalchemy.exc.IntegrityError) or "already exists" in str(problem)
            races += raced
            silent = _unanswered(url, problem) and waited < min(OPENING, PATIENCE) and not stopping()
            if not silent and (not raced or races == RACES):
                raise StorageError(f"search.storage: cannot open {shown(url)}: {reason}") from None
        if silent and not waiting:
            say(f"the database at {shown(url)} does not answer; waiting for up to {OPENING:.0f} s")
            waiting = True
        time.sleep(PAUSES[1])


def _unanswered(url: str, problem: Exception) -> bool:
    """Whether a server did not answer, or is about to start; that user or database are refused is an answer."""
    if not isinstance(problem, sqlalchemy.exc.OperationalError) or not sqlalchemy.make_url(url).host:
        return False
    text = str(problem.orig)
    return "FATAL" not in text or any(words in text for words in ("starting up", "shutting down", "recovery mode"))


class PatientStorage(RDBStorage):
    """Optuna's database storage; what fails because the database is away is repeated for `PATIENCE` seconds.

    Repeating is safe: an operation is one transaction, and a second time sets the same again. Only an answer that was
    lost after a commit can leave a trial that nobody trains.

    Args:
        url: SQLAlchemy URL.
        say: Is told when the database goes away and when it answers again.
        stopping: Asks whether the user wants the run to end.
    """

    def __init__(self, url: str, say: Callable[[str], None], stopping: Callable[[], bool]) -> None:
        self._where, self._say, self._stopping = shown(url), say, stopping
        self._patience, self._inside = PATIENCE, True  # a database that does not answer at the start is an error
        made = sqlalchemy.make_url(url)
        options: dict[str, Any] = {"pool_pre_ping": True}
        if made.drivername in ("postgresql", "postgresql+psycopg", "postgresql+psycopg2"):
            options["connect_args"] = {key: value for key, value in CONNECTION.items() if key not in made.query}
        try:
            super().__init__(url, engine_kwargs=options)
        except BaseException:
            if hasattr(self, "engine"):
                self.engine.dispose()
            raise
        self._inside = False

    @contextmanager
    def impatient(self) -> Iterator[None]:
        """What fails within this block is not repeated."""
        self._patience = 0.0
        try:
            yield
        finally:
            self._patience = PATIENCE

    def patiently(self, work: Callable[[], Any]) -> Any:
        """Does one operation, again and again while the database is away.

        Raises:
            DatabaseAwayError: If it stays away.
        """
        if self._inside:
            return work()
        began, attempt = time.monotonic(), 0
        while True:
            self._inside = True
            try:
                done = work()
                if attempt:
                    self._say(f"the database at {self._where} answers again after {time.monotonic() - began:.0f} s")
                return done
            except UpdateFinishedTrialError:
                if not attempt:
                    raise
                return True  # the attempt whose answer was lost had ended the trial
            except (StorageInternalError, sqlalchemy.exc.DBAPIError) as problem:
                if isinstance(problem, StorageInternalError) and not _away(problem):
                    raise StorageError(f"search.storage: {self._where}: {_reason(problem)}") from problem
                if not _away(problem):
                    raise
                reason = _reason(problem)
            finally:
                self._inside = False
            waited = time.monotonic() - began
            if waited >= self._patience or self._stopping():
                raise DatabaseAwayError(
                    f"search.storage: the database at {self._where} does not answer, for {waited:.0f} s now "
                    f"({reason}). Every trial that ended is kept: run the same command again when it is back"
                ) from None
            if not attempt:
                self._say(f"the database at {self._where} went away; waiting for up to {self._patience:.0f} s")
            time.sleep(min(PAUSES[min(attempt, len(PAUSES) - 1)], max(self._patience - waited, 0.01)))
            attempt += 1


def _patient(name: str) -> Callable[..., Any]:
    method = getattr(RDBStorage, name)

    @functools.wraps(method)
    def call(self: PatientStorage, *args: Any, **kwargs: Any) -> Any:
        return self.patiently(lambda: method(self, *args, **kwargs))

    return call


for _name in METHODS:
    setattr(PatientStorage, _name, _patient(_name))


def _away(problem: BaseException | None) -> bool:
    """Whether an error says that the database is away, or too busy."""
    while problem is not None:
        if isinstance(problem, AWAY):
            return True
        if isinstance(problem, sqlalchemy.exc.DBAPIError) and problem.connection_invalidated:
            return True
        problem = problem.__cause__
    return False


def _reason(problem: BaseException) -> str:
    """The driver's own words, on one line; neither statements nor their parameters."""
    while problem.__cause__ is not None and not isinstance(problem, sqlalchemy.exc.DBAPIError):
        problem = problem.__cause__
    if isinstance(problem, sqlalchemy.exc.DBAPIError) and problem.orig is not None:
        problem = problem.orig
    return " ".join(str(problem).split()) or type(problem).__name__
