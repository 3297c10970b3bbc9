"""automm: one recipe in, one verified, deployable multimodal package out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load", "predict_file"]

if TYPE_CHECKING:
    from automm.bulk import predict_file
    from automm.runtime.predictor import load


def __getattr__(name: str) -> Any:
    if name == "load":
        from automm.runtime.predictor import load

        return load
    if name == "predict_file":
        from automm.bulk import predict_file

        return predict_file
    raise AttributeError(f"module 'automm' has no attribute {name!r}")
