"""Weights stored in half precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from automm.api import GraphCompressor, NotCompressible

if TYPE_CHECKING:
    import numpy as np


class Fp16(GraphCompressor):
    """Weights stored in 16 bits: half the size, as fast as before, for CPUs compute in 32 bits.

    The weights are widened when the package is loaded. A weight that 16 bits cannot hold stays as it is.
    """

    preference = 1.0

    class Config(GraphCompressor.Config):
        """What is stored in 16 bits."""

        smallest: Annotated[int, Field(ge=1)] = 1_000
        """Weights of fewer numbers stay in 32 bits."""

    def compress(self, graph: bytes, rows: Sequence[Mapping[str, np.ndarray]]) -> bytes:
        """The graph with weights of 16 bits."""
        import numpy as np
        from onnx import TensorProto, helper

        from automm_compress._onnx import Editor

        del rows
        editor = Editor(graph)
        casts = []
        for name, users in editor.users().items():
            array = editor.array(name)
            scales = any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in users)
            if array.size >= self.config.smallest and np.abs(array).max() <= np.finfo(np.float16).max and not scales:
                half = editor.add(f"{name}.fp16", array.astype(np.float16))
                casts.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))
        if not casts:
            raise NotCompressible(f"the graph has no weight of {self.config.smallest:,} numbers or more")
        wide = {cast.output[0] for cast in casts}
        kept = [item for item in editor.graph.initializer if item.name not in wide]
        del editor.graph.initializer[:]
        editor.graph.initializer.extend(kept)
        editor.replace([*casts, *editor.graph.node])
        return editor.bytes()
