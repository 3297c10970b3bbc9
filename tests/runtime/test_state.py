"""State and rows on disk: what goes in comes out, and nothing else is read."""

from __future__ import annotations

import datetime
import io
import zipfile

import numpy as np
import pytest

from automm.errors import PackageError
from automm.runtime import strictjson
from automm.runtime.rows import decode_rows, encode_rows
from automm.runtime.state import join_state, read_npz, split_state, write_npz


def test_state_comes_back_exactly():
    state = {
        "words": {"ab": 1, "ü": 2},
        "nested": [{"scale": np.arange(6, dtype=np.float32).reshape(2, 3)}, None, True, "text"],
        "scalar": np.array(2.5),
        "empty": np.empty((0, 3), np.int64),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "texts": np.array(["a", "bcd"]),
        "number": np.float32(0.5),
        "_cache": object(),
    }
    plain, arrays = split_state(state)
    found = join_state(strictjson.dumps(plain), write_npz(arrays), "state")
    assert "_cache" not in found
    assert found["words"] == state["words"]
    assert found["nested"][1:] == [None, True, "text"]
    assert found["number"] == 0.5
    for name in ("scalar", "empty", "fortran", "texts"):
        assert found[name].dtype == state[name].dtype
        assert found[name].shape == state[name].shape
        np.testing.assert_array_equal(found[name], state[name])
    found["nested"][0]["scale"][0, 0] = 9  # arrays are the processor's own, and writable


def test_same_arrays_give_the_same_bytes():
    arrays = {"a": np.arange(3), "b": np.ones((2, 2))}
    assert write_npz(arrays) == write_npz(dict(arrays))


def npz(name, data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def header(text):
    body = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"not a zip", "not a readable NPZ"),
        (npz("a.txt", b"x"), "not a stored array"),
        (npz("a.npy", b"x"), "not a readable NPZ"),
        (npz("a.npy", header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }") + b"x"), "never loaded"),
        (npz("a.npy", header("{'descr': '<f8', 'fortran_order': False, 'shape': (9**15,), }")), "not a readable NPZ"),
        (npz("a.npy", header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({9**15},), }}")), "does not fit"),
        (npz("a.npy", header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }") + b"12345678"), "fit"),
    ],
)
def test_arrays_that_are_not_plain_are_refused(data, word):
    with pytest.raises(PackageError, match=word):
        read_npz(data, "x.npz")


def test_json_is_bounded():
    assert strictjson.loads(b'{"a": [1, 2.5, "x", null]}', "x", most=100) == {"a": [1, 2.5, "x", None]}
    with pytest.raises(PackageError, match="over the limit of 10"):
        strictjson.loads(b'"0123456789"', "x", most=10)
    strictjson.loads(b"[[1]]", "x", most=100, depth=2)
    with pytest.raises(PackageError, match="deeper than 2"):
        strictjson.loads(b"[[[1]]]", "x", most=100, depth=2)


def test_rows_come_back_as_cells(tmp_path):
    rows = [
        {"t": "x", "n": 1.5, "d": datetime.datetime(2024, 5, 1, 12), "b": b"\x00\x01", "l": [1.0, [2]], "z": None},
        {"t": "sub/photo.png", "n": float("nan"), "d": True, "b": np.float32(2), "l": np.arange(3), "z": {"a": b"q"}},
    ]
    kept = []

    def keep(data):
        kept.append(data)
        (tmp_path / f"{len(kept)}").write_bytes(data)
        return f"{len(kept)}"

    found = decode_rows(encode_rows(rows, keep), tmp_path, "rows")
    assert found[0] == rows[0]
    assert found[1] == {"t": "sub/photo.png", "n": None, "d": True, "b": 2.0, "l": [0, 1, 2], "z": {"a": b"q"}}


@pytest.mark.parametrize("cell", ['{"$bytes": "../x"}', '{"$bytes": "/etc/hosts"}', '{"$code": "x"}', "{}"])
def test_rows_read_nothing_outside_their_folder(tmp_path, cell):
    with pytest.raises(PackageError, match="not a list of rows"):
        decode_rows(b'{"rows": [{"a": ' + cell.encode() + b"}]}", tmp_path, "rows")
