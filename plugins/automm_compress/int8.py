"""Whole numbers of 8 bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from automm.api import GraphCompressor, NotCompressible

if TYPE_CHECKING:
    import numpy as np


class Int8(GraphCompressor):
    """Weights and activations in 8 bits: a quarter of the size, and two to three times as fast on a CPU.

    Matrix products (transformers, linear layers) are quantised dynamically, with a scale per output channel and one per
    row; convolutions statically, with ranges found on training rows; tables of embeddings are stored in 8 bits. A graph
    of several inputs gets each where it belongs.
    """

    preference = 2.0

    class Config(GraphCompressor.Config):
        """What is quantised."""

        convolutions: bool = True
        """Quantise convolutions too."""
        bits: Literal[7, 8] = 8
        """Of the weights in matrix products. 7 is for servers whose CPU lacks 8-bit dot products (VNNI): their sums may
        overflow with 8."""
        smallest: Annotated[int, Field(ge=1)] = 10_000
        """Matrices of fewer numbers stay in 32 bits: they cost next to nothing."""

    def compress(self, graph: bytes, rows: Sequence[Mapping[str, np.ndarray]]) -> bytes:
        """The graph in 8 bits."""
        from automm_compress._dynamic import quantize_products
        from automm_compress._onnx import Editor
        from automm_compress._static import convolutions, quantize_convolutions

        found = 0
        if self.config.convolutions and rows and convolutions(Editor(graph)):
            graph = quantize_convolutions(graph, rows)
            found = 1
        editor = Editor(graph)
        found += quantize_products(editor, self.config.smallest, self.config.bits)
        if not found:
            raise NotCompressible(
                f"the graph has no convolution, table or matrix of {self.config.smallest:,} numbers or more"
            )
        return editor.bytes()
