"""Built-in components for tables of numbers, categories, dates and truth values."""

from __future__ import annotations

from collections.abc import Callable

from automm.api import hookimpl


@hookimpl
def automm_register(register: Callable[[type], type]) -> None:
    """Registers the modality, its processor and its encoder."""
    from automm_tabular.mlp import TabularMlp
    from automm_tabular.modality import Tabular
    from automm_tabular.processor import Table

    for component in (Tabular, Table, TabularMlp):
        register(component)
