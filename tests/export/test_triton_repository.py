"""The Triton repository: its configuration read by Triton's own protobuf, its graph run from its place."""

from __future__ import annotations

import re
import sys
import types

import numpy as np
import onnxruntime as ort
import pytest

import automm
from automm.testing.packages import rows, small_package
from export.conftest import shop_rows

text_format = pytest.importorskip("google.protobuf.text_format")
config_pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2", exc_type=ImportError)

NUMPY = {"TYPE_BOOL": bool, "TYPE_UINT8": np.uint8, "TYPE_INT64": np.int64, "TYPE_FP32": np.float32}


def configuration(folder, name="small-shop"):
    path = folder / "model_repository" / name / "config.pbtxt"
    return text_format.Parse(path.read_text("utf-8"), config_pb2.ModelConfig())


def session(folder, name="small-shop"):
    path = folder / "model_repository" / name / "1" / "model.onnx"
    return ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])


class Server:
    """What Triton does with a model: batch axis, sizes, types and `reshape` by its configuration, then the graph."""

    def __init__(self, folder) -> None:
        self.config, self.graph = configuration(folder), session(folder)

    def infer(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        given = {}
        for one in self.config.input:
            array = arrays[one.name]
            assert array.dtype == NUMPY[config_pb2.DataType.Name(one.data_type)], one.name
            assert 1 <= len(array) <= self.config.max_batch_size
            assert len(array.shape) == 1 + len(one.dims), one.name
            assert all(want in (-1, size) for want, size in zip(one.dims, array.shape[1:], strict=True)), one.name
            reshaped = one.HasField("reshape")
            given[one.name] = array.reshape(len(array), *one.reshape.shape) if reshaped else array
        names = [one.name for one in self.config.output]
        found = dict(zip(names, self.graph.run(names, given), strict=True))
        for one in self.config.output:
            if one.HasField("reshape"):
                found[one.name] = found[one.name].reshape(len(found[one.name]), *one.dims)
            assert list(found[one.name].shape[1:]) == list(one.dims)
        return found


@pytest.fixture
def folder(export):
    return export("triton", batch=16, delay=500, instances=2)


def test_configuration_says_what_the_graph_takes(folder):
    config, graph = configuration(folder), session(folder)
    assert config.name == "small-shop"
    assert config.platform == "onnxruntime_onnx"
    assert config.max_batch_size == 16
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert [(group.kind, group.count) for group in config.instance_group] == [
        (config_pb2.ModelInstanceGroup.KIND_CPU, 2)
    ]
    dims = {one.name: (config_pb2.DataType.Name(one.data_type), list(one.dims)) for one in config.input}
    assert dims == {
        "title.ids": ("TYPE_INT64", [-1]),
        "title.weights": ("TYPE_FP32", [-1]),
        "tabular.number": ("TYPE_FP32", [1]),
        "tabular.number_missing": ("TYPE_FP32", [1]),
        "tabular.category": ("TYPE_INT64", [1]),
        "photo.pixels": ("TYPE_UINT8", [8, 8, 3]),
        "title.present": ("TYPE_BOOL", [1]),
        "tabular.present": ("TYPE_BOOL", [1]),
        "photo.present": ("TYPE_BOOL", [1]),
    }
    assert {one.name for one in config.input} == {one.name for one in graph.get_inputs()}
    flat = {one.name for one in config.input if one.HasField("reshape")}
    assert flat == {"title.present", "tabular.present", "photo.present"}
    assert {one.name: list(one.dims) for one in config.output} == {"out_probabilities": [2], "out_total": [1]}
    assert [path.name for path in (folder / "model_repository").iterdir()] == ["small-shop"]


def test_repository_answers_as_the_package_over_the_instructions(folder, shop, monkeypatch):
    """The README's program, with a client that talks to the server above."""
    server, seen = Server(folder), []

    class InferInput:
        def __init__(self, name, shape, datatype):
            self.name, self.shape, self.datatype = name, shape, datatype

        def set_data_from_numpy(self, array):
            assert list(array.shape) == self.shape
            self.array = array

    class Client:
        def __init__(self, url):
            assert url == "localhost:8000"

        def get_model_metadata(self, name):
            assert name == "small-shop"
            kinds = {"TYPE_FP32": "FP32", "TYPE_INT64": "INT64", "TYPE_BOOL": "BOOL", "TYPE_UINT8": "UINT8"}
            inputs = server.config.input
            return {
                "inputs": [{"name": i.name, "datatype": kinds[config_pb2.DataType.Name(i.data_type)]} for i in inputs]
            }

        def infer(self, name, inputs):
            seen.append(name)
            found = server.infer({one.name: one.array for one in inputs})
            return types.SimpleNamespace(as_numpy=found.__getitem__)

    client = types.SimpleNamespace(InferenceServerClient=Client, InferInput=InferInput)
    for name, module in (("tritonclient", types.SimpleNamespace(http=client)), ("tritonclient.http", client)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.chdir(folder)
    asked = shop_rows(4, seed=5)
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text("utf-8"), re.S)
    assert 'rows = [{"title": ..., "price": ..., "colour": ..., "photo": ...}]' in code
    scope = {"asked": asked}
    exec(re.sub(r"^rows = .*$", "rows = asked", code, flags=re.M), scope)
    expected = automm.load(shop).predict(asked)
    assert seen == ["small-shop"]
    assert scope["predictions"]["prediction"] == expected.columns["prediction"]
    assert scope["predictions"]["probability_low"] == pytest.approx(expected.columns["probability_low"], abs=1e-5)


def test_answer_of_one_number_a_row_has_an_axis_for_triton_only(tmp_path, export):
    """An answer without a second axis (a regression's) goes through `reshape` and back."""
    package = small_package(tmp_path / "package")
    server = Server(export("triton", package))
    asked = rows(3, seed=2)
    opened = automm.load(package).package
    arrays, _ = opened.arrays({name: [row[name] for row in asked] for name in opened.columns}, 3, None)
    arrays = {name: array[:, None] if array.ndim == 1 else array for name, array in arrays.items()}
    found = server.infer({one.name: arrays[one.name] for one in server.config.input})
    assert found["out_total"].shape == (3, 1)
    expected = automm.load(package).predict(asked).columns["total"]
    assert found["out_total"][:, 0] == pytest.approx(expected, rel=1e-5)


def test_limits_are_stated(folder):
    text = (folder / "README.md").read_text("utf-8")
    assert "What Triton runs is the graph only" in text
    assert "Processors and decoders do not run on Triton" in text
    assert "Rows are limited to 16 a request" in text


def test_graph_with_a_fixed_batch_is_refused(export, monkeypatch):
    from automm.api import PluginError

    fixed = types.SimpleNamespace(name="x", type="tensor(float)", shape=[1, 4])
    session = types.SimpleNamespace(get_inputs=lambda: [fixed], get_outputs=list)
    monkeypatch.setattr("automm_export.triton.open_graph", lambda _: session)
    with pytest.raises(PluginError, match=r"Triton cannot take the input 'x': tensor\(float\) of shape \[1, 4\]"):
        export("triton")
