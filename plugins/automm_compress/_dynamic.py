"""8-bit matrix products whose activations are quantised row by row while the graph runs, and 8-bit tables."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto, helper

from automm_compress._onnx import Editor, attribute

SMALLEST = 1e-9
"""Scale of a row of zeros."""
EMBEDDING = 16
"""Tables of narrower rows are no embeddings: the thresholds of trees, say, which bear no rounding."""


def quantize_products(editor: Editor, smallest: int, bits: int) -> int:
    """Matrix products with a constant and look-ups in a table, from 32 to 8 bits.

    Weights get one scale per output column, activations one per row (a token of a text, say), found at run time as in
    ZeroQuant (Yao et al. 2022). ONNX Runtime's own dynamic quantisation has one scale for the whole batch: coarser, and
    an answer depends on the rows beside it.

    Args:
        editor: The graph.
        smallest: Weights with fewer numbers stay as they are.
        bits: Of the weights; 7 cannot overflow 16 bits on CPUs without 8-bit dot products.

    Returns:
        How many weights are 8 bits now.
    """
    most = 2 ** (bits - 1) - 1
    chosen = {
        name
        for name, nodes in editor.users().items()
        if nodes
        and np.prod(editor.weights[name].dims) >= smallest
        and all(_fits(node, name) for node in nodes)
        and _rounds(editor.array(name), any(node.op_type == "Gather" for node in nodes))
    }
    rows: dict[str, tuple[str, str]] = {}
    nodes: list[NodeProto] = []
    for node in editor.graph.node:
        at = 0 if node.op_type == "Gather" else 1
        weight = node.input[at] if len(node.input) > at else ""
        if weight not in chosen:
            nodes.append(node)
        elif node.op_type == "Gather":
            nodes += _look_up(editor, node, weight)
        else:
            source = node.input[0]
            if source not in rows:
                rows[source] = f"{source}.rows", f"{source}.scale"
                nodes += _quantize_rows(editor, source, *rows[source])
            nodes += _product(editor, node, weight, rows[source], most)
    editor.replace(nodes)
    return len(chosen)


def _fits(node: NodeProto, weight: str) -> bool:
    """Whether a node reads a weight in a way that is known here."""
    if node.op_type == "Gather":
        return node.input[0] == weight and attribute(node, "axis", 0) == 0
    plain = all(attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta")) and not attribute(node, "transA", 0)
    return node.op_type in ("MatMul", "Gemm") and node.input[1] == weight != node.input[0] and plain


def _rounds(weight: np.ndarray, table: bool) -> bool:
    """Whether a weight is one that 8 bits can stand for."""
    wide = weight.ndim == 2 and weight.shape[1] >= EMBEDDING if table else weight.ndim >= 2
    return wide and bool(np.isfinite(weight).all())


def _look_up(editor: Editor, node: NodeProto, weight: str) -> list[NodeProto]:
    """A table of 8-bit rows with a scale each (embeddings)."""
    name, out = f"{weight}.int8", node.output[0]
    table = editor.array(weight)
    flat = table.reshape(len(table), -1)
    scale = np.maximum(np.abs(flat).max(1), SMALLEST) / 127
    shaped = scale.reshape(-1, *[1] * (table.ndim - 1)).astype(np.float32)
    editor.add(name, np.round(table / shaped).astype(np.int8))
    editor.add(f"{weight}.scale", shaped)
    return [
        helper.make_node("Gather", [name, node.input[1]], [f"{out}.row"], axis=0),
        helper.make_node("Gather", [f"{weight}.scale", node.input[1]], [f"{out}.of"], axis=0),
        helper.make_node("Cast", [f"{out}.row"], [f"{out}.float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{out}.float", f"{out}.of"], [out]),
    ]


def _quantize_rows(editor: Editor, source: str, rows: str, scale: str) -> list[NodeProto]:
    """Activations [..., n] → unsigned 8 bits around 128, and a scale [..., 1]."""
    last = editor.add("int8.last", np.array([-1], np.int64))
    share = editor.add("int8.share", np.array(1 / 127, np.float32))
    least = editor.add("int8.least", np.array(SMALLEST, np.float32))
    one = editor.add("int8.one", np.array(1, np.float32))
    zero = editor.add("int8.zero", np.array(128, np.uint8))
    return [
        helper.make_node("Abs", [source], [f"{rows}.abs"]),
        helper.make_node("ReduceMax", [f"{rows}.abs", last], [f"{rows}.max"], keepdims=1),
        helper.make_node("Mul", [f"{rows}.max", share], [f"{rows}.share"]),
        helper.make_node("Max", [f"{rows}.share", least], [scale]),
        helper.make_node("Div", [source, scale], [f"{rows}.unit"]),
        helper.make_node("QuantizeLinear", [f"{rows}.unit", one, zero], [rows]),
    ]


def _product(editor: Editor, node: NodeProto, weight: str, source: tuple[str, str], most: int) -> list[NodeProto]:
    """8-bit rows times 8-bit columns in whole numbers, then both scales, then the bias."""
    rows, scale = source
    turned = node.op_type == "Gemm" and bool(attribute(node, "transB", 0))
    matrix = editor.array(weight).T if turned else editor.array(weight)
    columns = np.maximum(np.abs(matrix).max(-2, keepdims=True), SMALLEST) / most
    name = f"{weight}.int8{'.turned' if turned else ''}"
    editor.add(name, np.ascontiguousarray(np.round(matrix / columns).astype(np.int8)))
    editor.add(f"{name}.scale", columns.astype(np.float32)[..., 0, :] if matrix.ndim == 2 else columns.astype("f4"))
    out = node.output[0]
    biased = node.op_type == "Gemm" and len(node.input) > 2
    last = f"{out}.product" if biased else out
    nodes = [
        helper.make_node("MatMulInteger", [rows, name, "int8.zero"], [f"{out}.whole"]),
        helper.make_node("Cast", [f"{out}.whole"], [f"{out}.float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{out}.float", scale], [f"{out}.scaled"]),
        helper.make_node("Mul", [f"{out}.scaled", f"{name}.scale"], [last]),
    ]
    return [*nodes, helper.make_node("Add", [last, node.input[2]], [out])] if biased else nodes
