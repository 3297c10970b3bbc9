"""Built-in components: export formats."""

from __future__ import annotations

from collections.abc import Callable

from automm.api import AUTOMM_API, hookimpl
from automm_export.onnx import Onnx

__all__ = ["AUTOMM_API", "Onnx"]


@hookimpl
def automm_register(register: Callable[[type], type]) -> None:
    """Registers the exporters."""
    register(Onnx)
