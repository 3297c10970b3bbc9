"""Showing a run's events: a live line with rich on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol


class Progress(Protocol):
    """Is given every event of the run."""

    def __call__(self, event: dict[str, Any]) -> None:
        """Shows an event."""

    def close(self) -> None:
        """Ends the display."""


def _trial(e: dict[str, Any]) -> str:
    name, seconds = e["name"], f"{e['seconds']:.1f} s"
    what = f" ({e['what']})" if e.get("what") else ""
    if e["state"] == "failed":
        return f"trial {name}{what} failed after {seconds}: {e['error']}"
    best = " ← best" if e.get("best") else ""
    took = f"{e['epochs']} epochs, {seconds}" if e["epochs"] > 1 else seconds
    cost = f"; {e['latency_ms']:.2f} ms a row, {e['size_mb']:.1f} MB" if e.get("latency_ms") is not None else ""
    return f"trial {name} {e['state']}: {e['metric']} {e['value']:.4f}{what}, {took}{cost}{best}"


def _decision(e: dict[str, Any]) -> str:
    gain = "" if e["gain"] is None else f": +{e['gain']:.4f} on rows that did not tune it"
    return f"decision tuned for {e['metric']}{gain}"


def _variant(e: dict[str, Any]) -> str:
    if not e["latency_ms"] or e["value"] is None:
        return f"variant {e['name']} {e['state']}: {e['reason']}"
    speed, size = e["latency_ms"]["one_thread"]["p50"], e["size_mb"]
    figures = f"{e['value']:.4f}, {speed:.2f} ms ({e['speedup']:.1f} times as fast), {size:.2f} MB"
    return f"variant {e['name']} {e['state']}: {figures}" + (f": {e['reason']}" if e["reason"] else "")


LINES: dict[str, Callable[[dict[str, Any]], str]] = {
    "started": lambda e: (
        f"recipe {e['recipe']} → {e['folder']}"
        + (" (going on)" if e["resumed"] else "")
        + (f"; attempt {e['attempt'] + 1}, {e['used']:.0f} s of the budget are used" if e.get("attempt") else "")
    ),
    "planned": lambda e: "\n".join(f"  {line}" for line in e["lines"]),
    "data": lambda e: f"data ready: {e['rows']} in {e['seconds']:.1f} s",
    "bad_rows": lambda e: f"{e['count']} bad rows left out; see {e['file']}",
    "trial": _trial,
    "baseline": lambda e: (
        f"baseline {e['name']}: {e['metric']} "
        + (f"{e['value']:.4f}" if e["value"] is not None else f"failed: {e['error']}")
    ),
    "warning": lambda e: f"warning: {e['text']}",
    "stopping": lambda e: f"stopping: {e['reason']}",
    "passed_over": lambda e: (
        f"trial {e['name']} with {e['metric']} {e['value']:.4f} costs too much: {e['latency_ms']:.2f} ms a row, "
        f"{e['size_mb']:.1f} MB (require: {', '.join(e['gates'])})"
    ),
    "ensemble_left": lambda e: f"no ensemble: {e['reason']}; trial {e['instead']} alone in its place",
    "winner": lambda e: f"winner: {e['name']} with {e['metric']} {e['value']:.4f}",
    "decision": _decision,
    "refit": lambda e: f"{e['name']}: {e['done']}",
    "compressing": lambda e: f"compressing: {'; '.join(e['variants'])}",
    "variant": _variant,
    "compressed": lambda e: f"compression: {e['adopted'] or 'nothing'} adopted in {e['seconds']:.0f} s",
    "exporting": lambda e: "writing and verifying the package",
    "kept": lambda e: (
        f"kept for updates: {e['rows']:,} training rows and {e['held']:,} held out, {e['megabytes']:.1f} MB"
        + (f"; {e['note']}" if e["note"] else "")
    ),
    "update": lambda e: f"package {e['package']} → {e['folder']}",
    "drift": lambda e: f"{e['rows']:,} new rows, drift: {', '.join(e['fields']) or 'none'}",
    "joined": lambda e: (
        f"trains on {e['rows']['new_train']:,} new and {e['rows']['kept_train']:,} kept rows (× {e['rows']['repeats']})"
        + (f"; new classes: {', '.join(e['new_classes'])}" if e["new_classes"] else "")
    ),
    "updated": lambda e: f"{e['status']}: {e['package']}",
    "export": lambda e: f"exporting to {e['name']}",
    "finished": lambda e: f"{e['status']}: {e['package'] or 'no package'} in {e['wall_seconds']:.0f} s",
}
"""Event → the line that people read; other events are not shown."""


class Plain:
    """One line per event on standard error."""

    def __call__(self, event: dict[str, Any]) -> None:
        """Prints an event."""
        if event["event"] in LINES:
            print(LINES[event["event"]](event), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing to end."""


class Live:
    """Lines as in `Plain`, with a status line below: trials done, best so far, time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.status import Status

        self._console = Console(stderr=True, highlight=False)
        self._status = Status("preparing", console=self._console)
        self._status.start()
        self._done, self._best = 0, ""

    def __call__(self, event: dict[str, Any]) -> None:
        """Prints an event and refreshes the status line."""
        kind = event["event"]
        if kind in LINES:
            self._console.print(LINES[kind](event), markup=False)
        if kind == "trial":
            self._done += 1
            if event.get("best"):
                self._best = f", best {event['metric']} {event['value']:.4f}"
        if kind == "epoch":
            left = f", {event['left']:.0f} s left" if event.get("left") is not None else ""
            of = f" of {event['trials']}" if event.get("trials") else ""
            self._status.update(
                f"{self._done}{of} trials{self._best}{left} · {event['name']} epoch {event['epoch'] + 1}"
            )

    def close(self) -> None:
        """Removes the status line."""
        self._status.stop()


def progress(quiet: bool = False) -> Progress:
    """What suits this terminal."""
    if quiet:
        return _Quiet()
    if sys.stderr.isatty():
        try:
            return Live()
        except ImportError:
            pass
    return Plain()


class _Quiet:
    def __call__(self, event: dict[str, Any]) -> None:
        """Shows nothing."""

    def close(self) -> None:
        """Nothing to end."""
