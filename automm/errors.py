"""The error tree and the exit codes.

Every error a user can cause is an `AutommError`: one message that says what is wrong, where, and how to fix it. The
command line prints that message and leaves with the error's exit code; `--debug` adds the traceback.
"""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """What the process says to a CI job."""

    OK = 0
    INTERNAL = 1  # a bug in automm
    USAGE = 2  # wrong command line
    RECIPE = 3  # the recipe has problems
    DATA = 4  # the data have problems
    PLUGIN = 5  # a component that the recipe needs is broken or absent
    MISSING_EXTRA = 6  # a package of an optional extra is not installed
    NOTHING_SUCCEEDED = 7  # no trial gave a model
    GATE_MISSED = 8  # the package exists, but a `require:` gate was missed
    PACKAGE = 9  # the package is damaged, foreign or refused
    STORAGE = 10  # disk full, no permission, run folder in use
    VERIFICATION = 11  # the exported package disagrees with the trained model
    DRIFT = 12  # the data have moved away from what the package was trained on
    INTERRUPTED = 130  # Ctrl-C or SIGTERM


class AutommError(Exception):
    """Base of all errors with a message made for the user."""

    exit_code = ExitCode.INTERNAL
    located = False
    """Whether every line of the message begins with file, line and column."""


class UsageError(AutommError):
    """The command line asks for something that does not fit."""

    exit_code = ExitCode.USAGE


class RecipeError(AutommError):
    """The recipe has one or more problems; the message lists them all."""

    exit_code = ExitCode.RECIPE


class DataError(AutommError):
    """A table, a column, or too many cells cannot be used."""

    exit_code = ExitCode.DATA


class PluginError(AutommError):
    """A component is missing, broken, blocked or ambiguous, or raised while it worked."""

    exit_code = ExitCode.PLUGIN


class MissingExtraError(AutommError):
    """A package of an optional extra is needed; the message holds the line to type."""

    exit_code = ExitCode.MISSING_EXTRA


class NothingSucceededError(AutommError):
    """Every trial failed."""

    exit_code = ExitCode.NOTHING_SUCCEEDED


class GateMissedError(AutommError):
    """A `require:` gate of the recipe was missed."""

    exit_code = ExitCode.GATE_MISSED


class TooDearError(AutommError):
    """The time budget does not pay for what a configuration needs."""


class PackageError(AutommError):
    """A package is damaged, incomplete, foreign or made by an unknown component."""

    exit_code = ExitCode.PACKAGE


class StorageError(AutommError):
    """The disk is full, not writable, or the run folder is in use."""

    exit_code = ExitCode.STORAGE


class DatabaseAwayError(StorageError):
    """The database that keeps the study does not answer."""


class RankLostError(AutommError):
    """Another process of the job is gone, or did not answer in time; a restart of the job goes on."""


class VerificationError(AutommError):
    """The package disagrees with the trained model beyond the tolerance."""

    exit_code = ExitCode.VERIFICATION


class Interrupted(AutommError):
    """The user or the scheduler asked the run to stop."""

    exit_code = ExitCode.INTERRUPTED
