"""Small ONNX graphs."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper


def model(nodes, inputs, outputs, **weights):
    """A graph's bytes; inputs and outputs are (name, type, shape)."""
    sides = [[helper.make_tensor_value_info(*item) for item in side] for side in (inputs, outputs)]
    kept = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "graph", *sides, kept)
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()


def run(graph, **arrays):
    """The outputs of a graph."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return session.run(None, arrays)


FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
node = helper.make_node
random = np.random.default_rng(0)


def weight(*shape):
    return (random.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)


def text_and_picture():
    """Words in a table and two linear layers; a picture through two convolutions; their sum."""
    nodes = [
        node("Gather", ["table", "text.ids"], ["words"]),
        node("MatMul", ["words", "w1"], ["hidden"]),
        node("Add", ["hidden", "b1"], ["biased"]),
        node("Relu", ["biased"], ["active"]),
        node("ReduceMean", ["active", "time"], ["mean"], keepdims=0),
        node("Gemm", ["mean", "w2", "b2"], ["text"], transB=1),
        node("Conv", ["photo.pixels", "k1"], ["c1"], name="conv1"),
        node("Relu", ["c1"], ["r1"]),
        node("BatchNormalization", ["r1", "scale", "shift", "mu", "var"], ["n1"]),
        node("Conv", ["n1", "k2"], ["c2"], name="conv2"),
        node("GlobalAveragePool", ["c2"], ["pooled"]),
        node("Flatten", ["pooled"], ["photo"]),
        node("Add", ["text", "photo"], ["out_sum"]),
    ]
    return model(
        nodes,
        [("text.ids", INT64, ["batch", "time"]), ("photo.pixels", FLOAT, ["batch", 3, 12, 12])],
        [("out_sum", FLOAT, ["batch", 8])],
        table=weight(400, 128) * 8, w1=weight(128, 256), b1=weight(256), time=np.array([1]),
        w2=np.ascontiguousarray(weight(256, 8).T), b2=weight(8),
        k1=weight(16, 3, 3, 3), k2=weight(8, 16, 3, 3), scale=np.ones(16, np.float32) * 2,
        shift=weight(16), mu=weight(16), var=np.ones(16, np.float32) / 3,
    )  # fmt: skip


def rows(count=16, time=5, seed=0):
    """Calibration rows for `text_and_picture`."""
    own = np.random.default_rng(seed)
    return [
        {
            "text.ids": own.integers(0, 400, (1, time)),
            "photo.pixels": own.normal(size=(1, 3, 12, 12)).astype(np.float32),
            "text.present": np.ones(1, bool),
        }
        for _ in range(count)
    ]


def stacked(found):
    """Rows as one batch, as a graph takes them."""
    names = ("text.ids", "photo.pixels")
    return {name: np.concatenate([row[name] for row in found]) for name in names}
