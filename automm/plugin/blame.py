"""Naming the plugin whose code raised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from automm.core.component import Component
from automm.core.processor import BadCells
from automm.errors import AutommError, PluginError
from automm.plugin.registry import Registry

MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")


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
        if any(words in str(problem).lower() for words in MEMORY):
            raise
        owner = registry.owner(component)
        raise PluginError(
            f"{component.kind} {component.name!r} of plugin {owner}: {method} raised {type(problem).__name__}: {problem}"
        ) from problem
