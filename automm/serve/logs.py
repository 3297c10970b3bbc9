"""Structured logs: one JSON object per line, without anything that a user sent.

Messages of exceptions may quote cells ("could not convert 'Jane Doe'"), so an exception is logged as its type and the
lines of code it came through. Addresses of clients are personal data in many places and are left out.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from datetime import UTC, datetime

import orjson

LOGGER = logging.getLogger("automm.serve")
FIELDS = "fields"
FORMS = "python_multipart.multipart"
"""A logger whose warnings quote requests."""


class JsonFormatter(logging.Formatter):
    """A record → one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """`time`, `level`, `event`, `worker`, then the event's own fields."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.msg if record.name == LOGGER.name else f"{record.name}: {record.getMessage()}",
            "worker": os.getpid(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            entry["exception"] = exception(record.exc_info[1])
        return orjson.dumps(entry, default=str).decode()


def exception(problem: BaseException) -> dict[str, object]:
    """The type and the way of an exception, without its message."""
    frames = traceback.extract_tb(problem.__traceback__)[-8:]
    found: dict[str, object] = {
        "type": type(problem).__name__,
        "at": [f"{os.path.basename(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames],
    }
    if problem.__cause__ is not None:
        found["cause"] = exception(problem.__cause__)
    return found


def set_up(level: str) -> None:
    """Sends our logs and uvicorn's to the standard output as JSON lines."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    for name, lowest in (
        (LOGGER.name, level.upper()),
        ("uvicorn.error", "ERROR"),
        ("asyncio", "ERROR"),
        (FORMS, "ERROR"),
    ):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(lowest)


def log(event: str, *, level: int = logging.INFO, problem: BaseException | None = None, **fields: object) -> None:
    """Logs an event with its fields; None is left out."""
    if LOGGER.isEnabledFor(level):
        kept = {name: value for name, value in fields.items() if value is not None}
        LOGGER.log(level, event, extra={FIELDS: kept}, exc_info=problem)
