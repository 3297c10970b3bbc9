"""Finding other components: for components that are made of others."""

from __future__ import annotations

from typing import Any


def find_component(kind: str, name: str) -> type[Any]:
    """A registered component, among the plugins that this process loaded last (else all that are installed).

    Args:
        kind: "encoder", "fusion", …
        name: As a recipe would name it.

    Raises:
        PluginError: If there is none of that name, or several.
    """
    from automm.plugin import loader

    plugins = loader.latest or loader.load_plugins()
    found: type[Any] = plugins.registry.get(kind, name)
    return found


def find_operation(op: str, version: int) -> type[Any]:
    """The class of a processor, as packages find it; imports no more than its module.

    Raises:
        PackageError: If it is absent, or of another version.
    """
    from automm.runtime.ops import distribution, find

    return find(op, version, *distribution(op))
