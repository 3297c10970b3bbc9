"""Built-in tasks: classification, multilabel and regression."""

from __future__ import annotations

from collections.abc import Callable

from automm.api import hookimpl
from automm_tasks.classification import Classification
from automm_tasks.multilabel import Multilabel
from automm_tasks.regression import Regression

__all__ = ["Classification", "Multilabel", "Regression"]


@hookimpl
def automm_register(register: Callable[[type], type]) -> None:
    """Registers the tasks."""
    for task in (Classification, Multilabel, Regression):
        register(task)
