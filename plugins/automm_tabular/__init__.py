"""Built-in components for tables of numbers, categories, dates, truth values and lists."""

from __future__ import annotations

from collections.abc import Callable

from automm.api import hookimpl


@hookimpl
def automm_register(register: Callable[[type], type]) -> None:
    """Registers the modality, its processors and its encoders."""
    from automm_tabular.ft_transformer import FtTransformer
    from automm_tabular.mlp import TabularMlp
    from automm_tabular.modality import Tabular
    from automm_tabular.processor import Table
    from automm_tabular.tabm import Tabm
    from automm_tabular.tabular_vector import TabularVector
    from automm_tabular.vector import Vector

    for component in (Tabular, Table, Vector, TabularMlp, FtTransformer, Tabm, TabularVector):
        register(component)
