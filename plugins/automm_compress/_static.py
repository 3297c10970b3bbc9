"""8-bit convolutions, with activation ranges found on calibration rows."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from automm_compress._onnx import Editor, attribute

CARRIED = ("Relu", "Clip", "Add", "MaxPool", "AveragePool", "GlobalAveragePool")
"""What stays in 8 bits behind a convolution, so that numbers need not be converted to and fro."""


class _Rows(CalibrationDataReader):
    """Calibration rows, the inputs of the graph only."""

    def __init__(self, rows: Sequence[Mapping[str, np.ndarray]], names: Sequence[str]) -> None:
        self._rows = iter([{name: row[name] for name in names} for row in rows])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next row."""
        return next(self._rows, None)


def convolutions(editor: Editor) -> list[onnx.NodeProto]:
    """Convolutions with constant weights."""
    return [node for node in editor.graph.node if node.op_type == "Conv" and node.input[1] in editor.weights]


def quantize_convolutions(data: bytes, rows: Sequence[Mapping[str, np.ndarray]]) -> bytes:
    """Convolutions from 32 to 8 bits, static: one scale per output channel, activation ranges from the rows.

    A batch normalisation before a convolution becomes a 1 × 1 convolution per channel, so that it stays in 8 bits.
    Convolutions with ranges found at run time are slower than in 32 bits and are not offered.
    """
    editor = Editor(data)
    _fold_norms(editor)
    for at, node in enumerate(editor.graph.node):
        node.name = node.name or f"node.{at}"
    source = onnx.load_model_from_string(editor.bytes())
    names = [item.name for item in source.graph.input]
    with tempfile.TemporaryDirectory(prefix="automm-int8-") as folder, _quiet():
        path = Path(folder) / "graph.onnx"
        quantize_static(
            source,
            path,
            _Rows(rows, names),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            op_types_to_quantize=["Conv", *CARRIED],
            nodes_to_quantize=_neighbourhood(source.graph),
        )
        return path.read_bytes()


def _fold_norms(editor: Editor) -> None:
    """Batch normalisations of [batch, channels, …] in front of which no convolution could take them in."""
    produced = {name: node for node in editor.graph.node for name in node.output}
    nodes = []
    for node in editor.graph.node:
        near = node.op_type == "BatchNormalization" and all(name in editor.weights for name in node.input[1:5])
        if near and (spatial := _spatial(node.input[0], produced, editor)):
            scale, shift, mean, variance = (editor.array(name) for name in node.input[1:5])
            weight = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
            out = node.output[0]
            editor.add(f"{out}.weight", weight.reshape(-1, *[1] * (spatial + 1)).astype(np.float32))
            editor.add(f"{out}.bias", (shift - mean * weight).astype(np.float32))
            inputs = [node.input[0], f"{out}.weight", f"{out}.bias"]
            node = helper.make_node("Conv", inputs, [out], group=len(weight), kernel_shape=[1] * spatial)
        nodes.append(node)
    editor.replace(nodes)
    editor.weights = {item.name: item for item in editor.graph.initializer if item.data_type == onnx.TensorProto.FLOAT}


def _spatial(name: str, produced: Mapping[str, onnx.NodeProto], editor: Editor) -> int:
    """Number of spatial axes of what convolutions made, through what keeps them; 0 if no convolution is found."""
    seen = set()
    ahead = [name]
    while ahead:
        node = produced.get(ahead.pop())
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if node.op_type == "Conv" and node.input[1] in editor.weights:
            return len(editor.weights[node.input[1]].dims) - 2
        if node.op_type in (*CARRIED, "BatchNormalization"):
            ahead += list(node.input[:2])
    return 0


def _neighbourhood(graph: onnx.GraphProto) -> list[str]:
    """Names of the convolutions and of what follows them without anything else between."""
    weights = {item.name for item in graph.initializer}
    inside: set[str] = set()
    names = []
    for node in graph.node:  # in topological order
        conv = node.op_type == "Conv" and node.input[1] in weights
        if conv or (node.op_type in CARRIED and inside.intersection(node.input)):
            inside.update(node.output)
            names.append(node.name)
    return names


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the advice to preprocess the model off the screen."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
