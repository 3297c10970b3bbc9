"""Built-in components: export formats."""

from __future__ import annotations

from collections.abc import Callable

from automm.api import AUTOMM_API, hookimpl
from automm_export.docker import Docker
from automm_export.huggingface import Huggingface
from automm_export.kserve import Kserve
from automm_export.kubernetes import Kubernetes
from automm_export.mlflow import Mlflow
from automm_export.onnx import Onnx
from automm_export.triton import Triton

__all__ = ["AUTOMM_API", "Docker", "Huggingface", "Kserve", "Kubernetes", "Mlflow", "Onnx", "Triton"]


@hookimpl
def automm_register(register: Callable[[type], type]) -> None:
    """Registers the exporters; the graph's comes first among those that make graphs, and is the only one."""
    for exporter in (Onnx, Docker, Kubernetes, Kserve, Triton, Mlflow, Huggingface):
        register(exporter)
