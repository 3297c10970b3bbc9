"""Naming the plugin whose code raised."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from automm.core.component import Component
from automm.core.processor import BadCells
from automm.errors import AutommError, PluginError
from automm.plugin.registry import Registry

MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "memoryerror")
NAMED = re.compile(r"(\w+) '([^']+)'(?: of plugin |: )")
"""How errors begin that name a component."""

PLANNING = ("claim", "claim_family", "unsuited")
"""Methods that are asked of every component, whether the recipe needs it or not."""


@contextmanager
def blamed(registry: Registry, component: type[Component], method: str) -> Iterator[None]:
    """Turns an exception of a component's code into a `PluginError` that names component, owner and method.

    automm's own errors, `BadCells`, memory errors and interrupts pass unchanged.
    """
    try:
        yield
    except (AutommError, BadCells, MemoryError):
        raise
    except Exception as problem:
        if of_memory(str(problem)):
            raise
        owner = registry.owner_of(component)
        installed = owner is not None and owner.distribution != "local"
        hint = f"; --block {owner.plugin} leaves the plugin out" if owner and installed and method in PLANNING else ""
        raise PluginError(
            f"{component.kind} {component.name!r} of plugin {owner}: {method} raised "
            f"{type(problem).__name__}: {problem}{hint}"
        ) from problem


def of_memory(error: str) -> bool:
    """Whether an error says that memory was lacking."""
    return any(words in error.lower() for words in MEMORY)


def component_of(error: str | None) -> tuple[str, str] | None:
    """Kind and name of the component that an error names; None if it names none."""
    found = NAMED.match(error or "")
    return (found[1], found[2]) if found else None


def who(component: type[Component]) -> str:
    """`fusion 'router' of plugin acme (acme-automm 1.0)`, as far as this process knows."""
    from automm.plugin import loader

    owner = loader.latest.registry.owner_of(component) if loader.latest else None
    return f"{component.kind} {component.name!r}" + (f" of plugin {owner}" if owner else "")


def culprit(problem: BaseException) -> str | None:
    """Whose code raised, by the traceback; for exceptions that no `blamed` saw (metrics, callbacks, decoders, …).

    Returns:
        `fusion 'router' of plugin acme (acme-automm 1.0): forward`; None if it was no plugin's code.
    """
    from automm.plugin import loader

    if loader.latest is None or isinstance(problem, MemoryError) or of_memory(str(problem)):
        return None
    registry, trace = loader.latest.registry, problem.__traceback__
    component = function = None
    while trace is not None:  # from the outermost call to the innermost
        frame, trace = trace.tb_frame, trace.tb_next
        owner = registry.owner_of_module(str(frame.f_globals.get("__name__", "")))
        if owner is None:
            continue
        subject = frame.f_locals.get("self", frame.f_locals.get("cls"))
        cls = subject if isinstance(subject, type) else type(subject)
        if issubclass(cls, Component):
            owner = registry.owner_of(cls) or owner
            component = f"{cls.kind} {cls.name!r} of plugin {owner}: {frame.f_code.co_name}"
        function = f"plugin {owner}: {frame.f_code.co_qualname}"
    return component or function


def told(problem: BaseException) -> str:
    """An exception in one line, with the plugin whose code raised it."""
    text = f"{type(problem).__name__}: {problem}"
    if isinstance(problem, AutommError):
        return str(problem)
    raiser = culprit(problem)
    return f"{raiser} raised {text}" if raiser else text
