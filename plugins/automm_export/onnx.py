"""The ONNX graph that packages run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from automm.api import Exporter, Graph, MissingExtraError


class Onnx(Exporter):
    """Writes the model as one ONNX file and compares it with the model on other batch sizes and lengths.

    The graph is 32-bit floating point, holds its weights itself, and carries no paths or source lines of the machine
    it was made on. Inputs are called as in the batch, outputs have the prefix `out_`.
    """

    makes = "graph"

    class Config(Exporter.Config):
        """Settings of the file."""

        opset: Annotated[int, Field(ge=18, le=23)] = 18
        """Version of the ONNX operator set; the lowest runs in most places."""
        tolerance: Annotated[float, Field(gt=0)] = 1e-3
        """Largest deviation from the model, absolute and relative to the expected number."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)

    def export_graph(self, graph: Graph, path: Path) -> None:
        """Writes and checks the file.

        Raises:
            PluginError: If the model cannot be exported; the message says what stands in the way.
            VerificationError: If the file answers differently from the model.
            MissingExtraError: If the ONNX packages are absent.
        """
        try:
            import onnx  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as missing:
            raise MissingExtraError(f'export to ONNX needs {missing.name}: pip install "automm[train]"') from None
        from automm_export._onnx import check_parity, export, prepared

        graph = prepared(graph)
        export(graph, path, self.config.opset)
        check_parity(graph, path, self.config.tolerance)
