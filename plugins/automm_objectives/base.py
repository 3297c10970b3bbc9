"""What the built-in objectives share: they compare the inputs of a row with each other."""

from __future__ import annotations

from typing import Any

from automm.api import Context, Objective


class InputsObjective(Objective, abstract=True):
    """An objective between the inputs of a row."""

    @classmethod
    def unsuited(cls, context: Context, config: Any) -> str | None:
        """There must be two inputs."""
        del config
        return "there is one input, nothing to compare it with" if len(context.inputs) < 2 else None
