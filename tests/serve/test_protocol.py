"""The Open Inference Protocol: `tritonclient` unchanged against a server process, and what it refuses."""

from __future__ import annotations

import json
import struct
import warnings

import numpy as np
import pytest

from automm.runtime.predictor import load
from serve.packages import COLUMNS, picture, row

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # gevent's own, at import
    triton = pytest.importorskip("tritonclient.http")
from tritonclient.utils import InferenceServerException

TITLES = ["sun and beach", "ice ice", "maybe", "snow sun heat"]


@pytest.fixture(scope="module")
def expected(package):
    rows = [row(title, weight=at + 0.5, photo=picture(40 * at)) for at, title in enumerate(TITLES)]
    return load(package, threads=1).predict(rows)


@pytest.fixture(scope="module")
def client(served):
    client = triton.InferenceServerClient(served.url.removeprefix("http://"))
    yield client
    client.close()


def tensors(binary=True, shape=(4,)):
    cells = {
        "title": np.array([title.encode() for title in TITLES], object),
        "weight": np.arange(4) + 0.5,
        "colour": np.array([b"red"] * 4, object),
    }
    found = []
    for name, values in cells.items():
        tensor = triton.InferInput(name, list(shape), "FP64" if name == "weight" else "BYTES")
        tensor.set_data_from_numpy(values.reshape(shape), binary_data=binary)
        found.append(tensor)
    photos = triton.InferInput("photo", list(shape), "BYTES")
    photos.set_data_from_numpy(np.array([picture(40 * at) for at in range(4)], object).reshape(shape))
    return [*found, photos]


def test_health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("weather")
    assert client.is_model_ready("weather", "1")
    assert not client.is_model_ready("weather", "2")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    described = client.get_model_metadata("weather")
    assert described["versions"] == ["1"]
    assert [(part["name"], part["datatype"]) for part in described["inputs"]] == [
        ("title", "BYTES"), ("weight", "FP64"), ("colour", "BYTES"), ("photo", "BYTES"),
    ]  # fmt: skip
    assert [part["name"] for part in described["outputs"]][:2] == ["prediction", "probability_cold"]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_infer(client, expected, binary, shape):
    found = client.infer("weather", tensors(binary, shape), request_id="seven")
    assert found.get_response()["id"] == "seven"
    assert found.get_response()["model_version"] == "1"
    assert [cell.decode() for cell in found.as_numpy("prediction")] == expected.columns["prediction"]
    np.testing.assert_allclose(found.as_numpy("probability_warm"), expected.columns["probability_warm"], atol=1e-6)
    assert found.as_numpy("probability_warm").dtype == np.float64


def test_chosen_outputs_compression_version_and_json(client, expected):
    outputs = [
        triton.InferRequestedOutput("prediction", binary_data=False),
        triton.InferRequestedOutput("probability_cold"),
    ]
    found = client.infer(
        "weather", tensors(), "1", outputs=outputs, request_compression_algorithm="gzip",
        response_compression_algorithm="deflate",
    )  # fmt: skip
    assert found.as_numpy("prediction").tolist() == expected.columns["prediction"]
    np.testing.assert_allclose(found.as_numpy("probability_cold"), expected.columns["probability_cold"], atol=1e-6)
    assert found.as_numpy("probability_warm") is None
    running = client.async_infer("weather", tensors(), outputs=outputs)
    assert running.get_result().as_numpy("prediction").tolist() == expected.columns["prediction"]


def test_missing_cells_are_empty_strings_and_nan(client, package):
    wanted = load(package, threads=1).predict([row(None, weight=None, photo=None)] * 4).columns
    inputs = tensors()
    inputs[0].set_data_from_numpy(np.array([b""] * 4, object))
    inputs[1].set_data_from_numpy(np.full(4, np.nan))
    inputs[3].set_data_from_numpy(np.array([b""] * 4, object))
    found = client.infer("weather", inputs)
    np.testing.assert_allclose(found.as_numpy("probability_cold"), wanted["probability_cold"], atol=1e-6)


def test_errors_reach_the_client(client):
    with pytest.raises(InferenceServerException, match="no such model; there are: weather") as raised:
        client.infer("sea", tensors())
    assert raised.value.status() == "404"
    with pytest.raises(InferenceServerException, match="there is no output 'mood'"):
        client.infer("weather", tensors(), outputs=[triton.InferRequestedOutput("mood")])
    with pytest.raises(InferenceServerException, match="1 column that the request does not have: 'photo'"):
        client.infer("weather", tensors()[:3])
    bad = tensors()
    bad[3].set_data_from_numpy(np.array([picture(), b"%!PS-Adobe-3.0 EPSF-3.0", picture(), b"/etc/passwd"], object))
    with pytest.raises(InferenceServerException, match="2 of 4 rows cannot be used: row 1: column 'photo': not a"):
        client.infer("weather", bad)


def message(**changes):
    """A request in JSON for one row, with some inputs changed."""
    inputs = {name: {"name": name, "shape": [1], "datatype": "BYTES", "data": ["sun"]} for name in COLUMNS}
    inputs["weight"] |= {"datatype": "FP32", "data": [1.5]}
    inputs["photo"] |= {"data": [""]}
    for name, change in changes.items():
        inputs[name] = {key: value for key, value in (inputs[name] | change).items() if value is not None}
    return {"inputs": list(inputs.values())}


def test_json(post):
    status, found = post(message(), "/v2/models/weather/infer")
    assert status == 200
    outputs = {part["name"]: part for part in found["outputs"]}
    assert outputs["prediction"] == {"name": "prediction", "datatype": "BYTES", "shape": [1], "data": ["warm"]}
    assert sum(outputs[name]["data"][0] for name in outputs if name != "prediction") == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"weight": {"shape": [-1]}}, 400, "not negative"),
        ({"weight": {"shape": [2**40]}}, 413, "rows are over the limit of 1,000"),
        ({"weight": {"shape": [1, 10**9, 0]}}, 400, "a shape is a list"),
        ({"weight": {"shape": [1, 10**9, 10**9]}}, 400, "1 elements do not fill"),
        ({"weight": {"shape": [True]}}, 400, "a shape is a list"),
        ({"weight": {"shape": []}}, 400, "a shape is a list"),
        ({"weight": {"data": ["heavy"]}}, 400, "input 'weight': the data are not FP32"),
        ({"weight": {"datatype": "INT64"}}, 400, "input 'weight': the data are not INT64"),
        ({"weight": {"datatype": "FP128"}}, 400, "unknown datatype 'FP128'"),
        ({"title": {"data": [5]}}, 400, "input 'title': the data are not BYTES"),
        ({"title": {"data": [["a"], "b"]}}, 400, "ragged"),
        ({"title": {"data": None}}, 400, 'neither "data" nor "binary_data_size"'),
        ({"title": {"parameters": {"binary_data_size": 5}}}, 400, "binary_data_size is not the size"),
        ({"title": {"parameters": {"shared_memory_region": "x"}}}, 400, "'shared_memory_region' is of an extension"),
        ({"title": {"name": "weight"}}, 400, "given twice"),
        ({"title": {"name": "mood"}}, 400, "no input 'mood'; it has title, weight, colour, photo"),
        ({"title": {"shape": [2], "data": ["a", "b"]}}, 400, "differ in their number of rows"),
        ({"photo": {"data": ["photos/1.png"]}}, 422, "paths to files are not accepted here"),
        ({"photo": {"data": ["file:///etc/passwd"]}}, 422, "file addresses are not read"),
        ({"photo": {"data": ["%%%"], "parameters": {"content_type": "base64"}}}, 422, "base64 is damaged"),
    ],
)  # fmt: skip
def test_refusals(post, change, status, words):
    found = post(message(**change), "/v2/models/weather/infer")
    assert found[0] == status
    assert words in found[1]["error"]


def binary(blob, shape=(1,), datatype="FP64", size=None):
    """A request whose weight is a binary tensor."""
    parameters = {"binary_data_size": len(blob) if size is None else size}
    change = {"shape": list(shape), "datatype": datatype, "data": None, "parameters": parameters}
    head = json.dumps(message(weight=change)).encode()
    headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    return {"content": head + blob, "headers": headers}


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (binary(struct.pack("<d", 1.5)), 200, None),
        (binary(struct.pack("<e", 1.5), datatype="FP16"), 200, None),
        (binary(struct.pack("<q", 2), datatype="INT64"), 200, None),
        (binary(struct.pack("<f", 1.5)), 400, "4 bytes are not 1 elements of FP64"),
        (binary(struct.pack("<d", 1.5), shape=(1, 10**12)), 400, "8 bytes are not"),
        (binary(struct.pack("<d", 1.5), size=99), 400, "binary_data_size is not the size"),
        (binary(struct.pack("<d", 1.5), size=-8), 400, "binary_data_size is not the size"),
        (binary(struct.pack("<d", 1.5) + b"more", size=8), 400, "4 bytes at the end of the body belong to no input"),
        (binary(struct.pack("<I", 2**31) + b"x", datatype="BYTES"), 400, "each after its length in four bytes"),
        (binary(struct.pack("<I", 4) + b"\xff\xfe\xfd\xfc", datatype="BYTES"), 422, "is not UTF-8 text"),
    ],
)
def test_binary_tensors(post, request_, status, words):
    found = post(path="/v2/models/weather/infer", **request_)
    assert found[0] == status
    assert words is None or words in found[1]["error"]


def test_the_header_of_the_binary_extension_is_checked(post):
    for length in ("-1", "99999", "x"):
        wrong = binary(b"")
        wrong["headers"]["inference-header-content-length"] = length
        assert post(path="/v2/models/weather/infer", **wrong)[0] == 400
