"""Open Inference Protocol, version 2: tensors of raw cells in, tensors of results out; JSON and the binary extension.

Every column of the table is a tensor, batch first: BYTES for text, categories and files, FP64 for numbers. An empty
string and NaN are missing cells. See https://github.com/kserve/open-inference-protocol.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from automm.runtime.predictor import Predictions
from automm.serve import rows
from automm.serve.problems import Problem
from automm.serve.rows import Rows
from automm.serve.schema import Column, Schema
from automm.serve.settings import Limits

EXTENSIONS = ["binary_tensor_data"]
HEADER = "inference-header-content-length"
DTYPES = {
    "BOOL": "?", "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "u1", "UINT16": "<u2",
    "UINT32": "<u4", "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
RESULTS = {"string": "BYTES", "number": "FP64", "boolean": "BOOL", "list": "BYTES"}
REFUSED = ("shared_memory_region", "classification")
"""Parameters of extensions that are not offered; to ignore them would give something else than was asked for."""


class Request(NamedTuple):
    """A parsed request.

    Attributes:
        id: The client's name for it.
        rows: Its rows.
        outputs: Result column → whether it is wanted as binary, in the order asked for.
        timeout: Seconds, if the client named a limit.
    """

    id: str | None
    rows: Rows
    outputs: dict[str, bool]
    timeout: float | None


def metadata(schema: Schema, name: str, versions: Sequence[str]) -> dict[str, Any]:
    """The model metadata."""
    inputs = [
        {"name": column.name, "datatype": "FP64" if column.numeric else "BYTES", "shape": [-1]}
        for column in schema.columns.values()
    ]
    outputs = [{"name": column, "datatype": RESULTS[kind], "shape": [-1]} for column, kind in schema.results.items()]
    return {"name": name, "versions": list(versions), "platform": "automm_onnx", "inputs": inputs, "outputs": outputs}


def read(body: bytes, header: str | None, schema: Schema, limits: Limits, allow_missing: bool) -> Request:
    """Parses an inference request.

    Args:
        body: The body.
        header: The header `Inference-Header-Content-Length`: where the JSON ends and binary tensors begin.
        schema: What the model reads and answers.
        limits: Bounds.
        allow_missing: Whether tensors may be left out.

    Raises:
        Problem: Saying what is wrong with it.
    """
    end = len(body)
    if header is not None:
        if not header.isdecimal() or int(header) > len(body):
            raise Problem(400, f"{HEADER} is no number of bytes inside the body")
        end = int(header)
    message = rows.parse_json(body[:end], "the inference request")
    if not isinstance(message, dict) or not isinstance(message.get("inputs"), list):
        raise Problem(400, 'an inference request is an object with a list "inputs"')
    parameters = _parameters(message, "the request")
    columns: dict[str, list[Any]] = {}
    at = end
    for tensor in message["inputs"]:
        name, cells, at = _tensor(tensor, body, at, schema, limits)
        if name in columns:
            raise Problem(400, f"the input {name!r} is given twice")
        columns[name] = cells
    if at != len(body):
        raise Problem(400, f"{len(body) - at:,} bytes at the end of the body belong to no input")
    found = _rows(columns, schema, limits, allow_missing or parameters.get("allow_missing") is True)
    timeout = parameters.get("timeout")
    seconds = timeout / 1e6 if isinstance(timeout, int | float) and timeout > 0 else None
    identity = message.get("id")
    outputs = _outputs(message, parameters, schema)
    return Request(identity if isinstance(identity, str) else None, found, outputs, seconds)


def _parameters(part: Mapping[str, Any], what: str) -> dict[str, Any]:
    value = part.get("parameters", {})
    if not isinstance(value, dict):
        raise Problem(400, f'"parameters" of {what} is not an object')
    for name in REFUSED:
        if name in value:
            raise Problem(400, f"{what}: the parameter {name!r} is of an extension that this server does not have")
    return value


def _outputs(message: Mapping[str, Any], parameters: Mapping[str, Any], schema: Schema) -> dict[str, bool]:
    default = parameters.get("binary_data_output") is True
    wanted = message.get("outputs")
    if not wanted:
        return dict.fromkeys(schema.results, default)
    found = {}
    for part in wanted if isinstance(wanted, list) else [None]:
        name = part.get("name") if isinstance(part, dict) else None
        if not isinstance(part, dict) or not isinstance(name, str) or name not in schema.results:
            raise Problem(400, f"there is no output {str(name)[:100]!r}; there are {', '.join(schema.results)}"[:500])
        found[name] = _parameters(part, f"output {name!r}").get("binary_data", default) is True
    return found


def _tensor(tensor: Any, body: bytes, at: int, schema: Schema, limits: Limits) -> tuple[str, list[Any], int]:
    """One input tensor → column name, cells, and where the next binary tensor begins."""
    name = tensor.get("name") if isinstance(tensor, dict) else None
    column = schema.columns.get(name) if isinstance(name, str) else None
    if column is None:
        raise Problem(400, f"the model has no input {str(name)[:100]!r}; it has {', '.join(schema.columns)}"[:500])
    what = f"input {column.name!r}"
    kind, shape = tensor.get("datatype"), _shape(tensor.get("shape"), what, limits)
    if kind != "BYTES" and kind not in DTYPES:
        raise Problem(400, f"{what}: unknown datatype {str(kind)[:20]!r}; there are BYTES, {', '.join(DTYPES)}")
    if len(shape) > 2 and kind == "BYTES":
        raise Problem(400, f"{what}: BYTES tensors have the shape [rows] or [rows, 1]")
    parameters = _parameters(tensor, what)
    size = parameters.get("binary_data_size")
    if size is None:
        values = _from_json(tensor.get("data"), kind, shape, what)
    else:
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(body) - at or "data" in tensor:
            raise Problem(400, f"{what}: binary_data_size is not the size of what follows the JSON")
        values = _from_binary(memoryview(body)[at : at + size], kind, shape, what)
        at += size
    return column.name, _cells(values, column, parameters.get("content_type")), at


def _shape(value: Any, what: str, limits: Limits) -> tuple[int, ...]:
    whole = isinstance(value, list) and 1 <= len(value) <= 4
    # No row is empty: a billion empty rows would fit into no bytes at all.
    if not whole or not all(type(size) is int and size >= (at > 0) for at, size in enumerate(value)):
        raise Problem(400, f"{what}: a shape is a list of one to four sizes that are not negative, rows first")
    if value[0] > limits.rows:
        raise Problem(413, f"{value[0]:,} rows are over the limit of {limits.rows:,}; send them in several requests")
    return tuple(value)


def _from_json(data: Any, kind: str, shape: tuple[int, ...], what: str) -> list[Any]:
    """Nested or flat JSON → nested lists of the shape."""
    if not isinstance(data, list):
        raise Problem(400, f'{what}: there is neither "data" nor "binary_data_size"')
    flat = data
    while flat and any(isinstance(item, list) for item in flat):
        if not all(isinstance(item, list) for item in flat):
            raise Problem(400, f"{what}: the data are a ragged list")
        flat = [inner for item in flat for inner in item]
    if len(flat) != math.prod(shape):
        raise Problem(400, f"{what}: {len(flat):,} elements do not fill the shape {list(shape)}")
    for value in flat:
        if value is not None and not _fits(value, kind):
            raise Problem(400, f"{what}: the data are not {kind}")
    return _nested(flat, shape)


def _fits(value: Any, kind: str) -> bool:
    if kind == "BYTES":
        return isinstance(value, str)
    if kind == "BOOL":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float) if kind.startswith("FP") else isinstance(value, int)


def _nested(flat: list[Any], shape: tuple[int, ...]) -> list[Any]:
    if len(shape) == 1:
        return flat
    step = math.prod(shape[1:])
    return [_nested(flat[at * step : (at + 1) * step], shape[1:]) for at in range(shape[0])]


def _from_binary(data: memoryview, kind: str, shape: tuple[int, ...], what: str) -> list[Any]:
    count = math.prod(shape)
    if kind != "BYTES":
        dtype = np.dtype(DTYPES[kind])
        if count * dtype.itemsize != len(data):
            raise Problem(400, f"{what}: {len(data):,} bytes are not {count:,} elements of {kind}")
        found: list[Any] = np.frombuffer(data, dtype).reshape(shape).tolist()
        return found
    flat: list[Any] = []
    at = 0
    while at + 4 <= len(data) and len(flat) < count:
        (size,) = struct.unpack_from("<I", data, at)
        if at + 4 + size > len(data):
            break
        flat.append(bytes(data[at + 4 : at + 4 + size]))
        at += 4 + size
    if at != len(data) or len(flat) != count:
        raise Problem(400, f"{what}: the bytes are not {count:,} elements, each after its length in four bytes")
    return _nested(flat, shape)


def _cells(values: list[Any], column: Column, content: Any) -> list[Any]:
    """One cell per row; [rows, 1] is [rows]."""
    if values and isinstance(values[0], list) and len(values[0]) == 1 and not isinstance(values[0][0], list):
        values = [row[0] for row in values]
    if content == "base64" and column.media:
        return [{"base64": _as_str(value)} if isinstance(value, str | bytes) else value for value in values]
    return [None if value in (b"", "") else value for value in values]


def _as_str(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _rows(columns: Mapping[str, list[Any]], schema: Schema, limits: Limits, allow_missing: bool) -> Rows:
    sizes = {name: len(cells) for name, cells in columns.items()}
    if len(set(sizes.values())) > 1:
        raise Problem(400, f"the inputs differ in their number of rows: {sizes}"[:500])
    if not allow_missing:
        rows.require(list(columns), schema)
    count = next(iter(sizes.values()), 0)
    listed = [{name: cells[at] for name, cells in columns.items()} for at in range(count)]
    return rows.read_rows(listed, schema, limits, True)


def answer(found: Predictions, schema: Schema, request: Request, name: str, version: str) -> tuple[bytes, int | None]:
    """The response's body, and the size of its JSON part if binary tensors follow it.

    Raises:
        Problem: 422, if a row was refused: tensors have no place for that.
    """
    if found.refused:
        listed = "; ".join(f"row {at}: {reason}" for at, reason in list(found.refused.items())[:20])
        raise Problem(422, f"{len(found.refused)} of {len(found)} rows cannot be used: {listed}")
    outputs: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for column, binary in request.outputs.items():
        kind = RESULTS[schema.results[column]]
        values = found.columns[column]
        if schema.results[column] == "list":
            values = [orjson.dumps(value).decode() for value in values]
        part: dict[str, Any] = {"name": column, "datatype": kind, "shape": [len(found)]}
        if binary:
            blob = _binary(values, kind)
            part["parameters"] = {"binary_data_size": len(blob)}
            blobs.append(blob)
        else:
            part["data"] = values
        outputs.append(part)
    message: dict[str, Any] = {"model_name": name, "model_version": version, "outputs": outputs}
    if request.id is not None:
        message["id"] = request.id
    head = orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([head, *blobs]), len(head)) if blobs else (head, None)


def _binary(values: Sequence[Any], kind: str) -> bytes:
    if kind != "BYTES":
        return np.array(values, DTYPES[kind]).tobytes()
    encoded = [str(value).encode("utf-8") for value in values]
    return b"".join(struct.pack("<I", len(item)) + item for item in encoded)
