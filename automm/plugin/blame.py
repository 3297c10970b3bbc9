"""Naming the plugin whose code raised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from automm.core.component import Component
from automm.core.processor import BadCells
from automm.errors import AutommError, PluginError
from automm.plugin.registry import Registry

MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")

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
        if any(words in str(problem).lower() for words in MEMORY):
            raise
        owner = registry.owner(component)
        installed = owner is not None and owner.distribution != "local"
        hint = f"; --block {owner.plugin} leaves the plugin out" if owner and installed and method in PLANNING else ""
        raise PluginError(
            f"{component.kind} {component.name!r} of plugin {owner}: {method} raised "
            f"{type(problem).__name__}: {problem}{hint}"
        ) from problem
