"""What all built-in losses share: they fit a problem when they accept its target."""

from __future__ import annotations

from typing import Any

from automm.api import Context, Loss

NOUNS = {"class": "one class per row", "labels": "several labels per row", "number": "a number"}


class TargetLoss(Loss, abstract=True):
    """A loss that is unsuited only where the target is of another kind."""

    @classmethod
    def unsuited(cls, context: Context, config: Any) -> str | None:
        """Why the loss does not fit: the target's kind."""
        del config
        if context.target is None or context.target.kind in cls.targets:
            return None
        wanted = " or ".join(NOUNS[kind] for kind in sorted(cls.targets))
        return f"it needs {wanted} as target, the task is {context.task}"
