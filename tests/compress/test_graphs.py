"""Graphs in 8 and in 16 bits: what is rewritten, what stays, and how far answers move."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from automm_compress import Fp16, Int8
from compress.graphs import FLOAT, INT64, model, node, rows, run, stacked, text_and_picture, weight
from onnx import numpy_helper

from automm.api import NotCompressible


def int8(graph, calibration=(), **fields):
    return Int8(Int8.Config(**fields)).compress(graph, list(calibration))


def kinds(graph):
    return Counter(item.op_type for item in onnx.load_model_from_string(graph).graph.node)


def test_mixed_graph():
    graph = text_and_picture()
    smaller = int8(graph, rows(128), smallest=1000)
    found = kinds(smaller)
    assert found["MatMulInteger"] == 2, "the linear layers are quantised while they run"
    assert found["ConvInteger"] == 0, "never a convolution"
    assert found["MatMul"] == found["Gemm"] == found["BatchNormalization"] == 0
    assert found["Conv"] == 3, "two convolutions and the normalisation between them, in 8 bits by their neighbours"
    assert found["DequantizeLinear"] >= 6
    weights = {
        item.name: numpy_helper.to_array(item) for item in onnx.load_model_from_string(smaller).graph.initializer
    }
    assert {w.dtype for w in weights.values() if w.size > 1000} == {np.dtype("int8")}
    assert len(smaller) < 0.35 * len(graph)
    given = stacked(rows(64, seed=1))
    (full,), (found8,) = run(graph, **given), run(smaller, **given)
    assert np.abs(found8 - full).mean() < 0.02 * full.std()
    assert np.corrcoef(found8.ravel(), full.ravel())[0, 1] > 0.999


def test_a_row_does_not_see_its_neighbours():
    """The text part has a scale per row: beside a row a thousand times as large the answer stays the same."""
    x = np.random.default_rng(3).normal(size=(4, 128)).astype(np.float32)
    graph = model(
        [node("MatMul", ["x", "w"], ["out_y"])], [("x", FLOAT, ["batch", 128])], [("out_y", FLOAT, ["batch", 128])],
        w=weight(128, 128),
    )  # fmt: skip
    smaller = int8(graph, smallest=1000)
    (alone,) = run(smaller, x=x[:1])
    x[1:] *= 1000
    (beside,) = run(smaller, x=x)
    assert np.array_equal(beside[:1], alone)
    (full,) = run(graph, x=x)
    assert np.abs(beside - full).max() < 0.02 * np.abs(full).max()
    assert np.abs(beside[0] - full[0]).max() < 0.03


def test_values_of_a_product():
    """Rows and columns at their own scale: an exact result where 8 bits hold the numbers."""
    w = np.arange(-127, 127).reshape(2, 127).astype(np.float32)
    w[:, :] = np.where(np.abs(w) < 1, 1, w)
    table = np.diag([1.0, 10.0]).astype(np.float32)
    graph = model(
        [node("MatMul", ["x", "w"], ["out_y"])], [("x", FLOAT, ["batch", 2])], [("out_y", FLOAT, ["batch", 127])], w=w
    )
    (found,) = run(int8(graph, smallest=1), x=table)
    columns = np.abs(w).max(0) / 127
    np.testing.assert_array_less(np.abs(found - table @ w), np.outer([1, 10], columns / 2 + 1e-3))
    (zero,) = run(int8(graph, smallest=1), x=np.zeros((1, 2), np.float32))
    assert not zero.any()
    assert np.isfinite(zero).all()


def test_bits_bound_the_sums_of_old_processors():
    graph = text_and_picture()
    smaller = onnx.load_model_from_string(int8(graph, smallest=1000, bits=7, convolutions=False))
    weights = {item.name: numpy_helper.to_array(item) for item in smaller.graph.initializer}
    assert np.abs(weights["w1.int8"]).max() == 63
    assert 255 * 63 * 2 < 2**15
    assert np.abs(weights["table.int8"]).max() == 127, "tables are not multiplied"


def test_what_is_shared_or_read_otherwise_stays():
    w = weight(128, 128)
    nodes = [
        node("MatMul", ["x", "w"], ["a"]), node("MatMul", ["x", "v"], ["b"]), node("Add", ["v", "a"], ["c"]),
        node("MatMul", ["u", "a"], ["d"]), node("Add", ["b", "c"], ["e"]), node("Add", ["d", "e"], ["out_y"]),
    ]  # fmt: skip
    graph = model(
        nodes, [("x", FLOAT, [128, 128])], [("out_y", FLOAT, [128, 128])], w=w, v=weight(128, 128), u=weight(128, 128)
    )
    smaller = int8(graph, smallest=1000)
    assert kinds(smaller)["MatMulInteger"] == 1
    assert kinds(smaller)["MatMul"] == 2
    x = weight(128, 128) * 10
    (full,), (found,) = run(graph, x=x), run(smaller, x=x)
    assert np.abs(found - full).max() < 0.1


def test_thresholds_are_no_weights():
    """Tables of narrow rows, and what is not finite, stay as they are."""
    narrow, endless = weight(400, 4), weight(64, 64)
    endless[0, 0] = np.inf
    nodes = [
        node("Gather", ["narrow", "at"], ["a"]), node("ReduceSum", ["a"], ["b"], keepdims=0),
        node("MatMul", ["x", "endless"], ["c"]), node("Add", ["b", "c"], ["out_y"]),
    ]  # fmt: skip
    graph = model(
        nodes, [("x", FLOAT, ["batch", 64]), ("at", INT64, ["batch"])], [("out_y", FLOAT, ["batch", 64])],
        narrow=narrow, endless=endless,
    )  # fmt: skip
    with pytest.raises(NotCompressible):
        int8(graph, smallest=100)


def test_int8_without_anything_to_do():
    graph = text_and_picture()
    with pytest.raises(NotCompressible, match=r"no convolution, table or matrix of 1,000,000 numbers or more"):
        int8(graph, rows(), smallest=1_000_000, convolutions=False)
    assert kinds(int8(graph, rows(), smallest=1_000_000))["QuantizeLinear"], "convolutions count whatever their size"
    assert "Conv" in kinds(int8(graph, smallest=1000)), "without rows there are no ranges"


def test_fp16():
    graph = text_and_picture()
    half = Fp16(Fp16.Config()).compress(graph, [])
    assert 0.5 < len(half) / len(graph) < 0.56
    given = stacked(rows(8, seed=2))
    (full,), (found,) = run(graph, **given), run(half, **given)
    assert 0 < np.abs(found - full).max() < 0.01
    stored = {item.name: numpy_helper.to_array(item) for item in onnx.load_model_from_string(half).graph.initializer}
    assert stored["table.fp16"].dtype == np.float16
    assert "table" not in stored
    assert stored["b1"].dtype == np.float32


def test_fp16_keeps_what_it_cannot_hold():
    w = weight(64, 64)
    w[0, 0] = 70_000
    graph = model(
        [node("MatMul", ["x", "w"], ["out_y"])], [("x", FLOAT, ["batch", 64])], [("out_y", FLOAT, ["batch", 64])], w=w
    )
    with pytest.raises(NotCompressible, match="no weight of 1,000 numbers or more"):
        Fp16(Fp16.Config()).compress(graph, [])
