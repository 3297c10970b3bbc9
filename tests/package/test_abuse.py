"""Hostile packages and hostile cells: refused with a message, nothing executed, in bounded time and memory."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import pickle
import re
import resource
import shutil
import struct
import time
import warnings
import wave
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from automm.errors import PackageError, VerificationError
from automm.package.card import model_card
from automm.runtime.inputs import RuntimeInput
from automm.runtime.package import open_package, read_manifest
from automm.runtime.predictor import load

V1 = Path(__file__).parent / "fixtures" / "v1"
SECONDS = 10
MEGABYTES = 300


@pytest.fixture
def package(tmp_path):
    """A copy of the committed package that a test may damage."""
    return Path(shutil.copytree(V1, tmp_path / "package"))


@pytest.fixture(scope="module")
def predictor():
    return load(V1, threads=1)


@pytest.fixture(autouse=True)
def bounded():
    """No test here may take long or make the process much larger."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    yield
    assert time.process_time() - start < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MEGABYTES


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def edit(package, change):
    path = package / "automm.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def forge(package, relative, data):
    """Writes a file and lists it, as someone does who can rewrite the manifest."""
    (package / relative).write_bytes(data)
    part = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    edit(package, lambda manifest: manifest["files"].update({relative: part}))


def refused(package, *words, error=PackageError):
    with pytest.raises(error) as caught:
        open_package(package)
    for word in words:
        assert word in str(caught.value)


# Packages


@pytest.mark.parametrize(
    "name", ["evil.py", "libevil.so", "weights.pkl", "assets/model.pt", "golden/media/x.sh", "a.PY"]
)
@pytest.mark.parametrize("listed", [False, True])
def test_code_and_pickles_are_refused_listed_or_not(package, tmp_path, name, listed):
    trap = tmp_path / "executed"
    (package / name).parent.mkdir(exist_ok=True)
    data = pickle.dumps(Bomb(trap)) if name.endswith(("pkl", "pt")) else f"open({str(trap)!r}, 'w')".encode()
    (package / name).write_bytes(data)
    if listed:
        forge(package, name, data)
    refused(package, name, "packages hold no" if listed else "does not list")
    assert not trap.exists()


@pytest.mark.parametrize(
    "relative", ["assets/tabular.json", "assets/note.npz", "golden/answers.npz", "graphs/main.onnx"]
)
def test_pickles_under_other_names_are_not_read(package, tmp_path, relative):
    forge(package, relative, pickle.dumps(Bomb(tmp_path / "executed")))
    refused(package, relative.partition(".")[0])
    assert not (tmp_path / "executed").exists()


def archive(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in members:
            file.writestr(name, data)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["../../evil.npy", "/tmp/evil.npy", "a\\..\\evil.npy"])
def test_archives_with_paths_write_nothing(package, tmp_path, name):
    """Zip-slip: members are read in memory, and paths for names are refused all the same."""
    forge(package, "assets/note.npz", archive([(name, npy(np.zeros(3)))]))
    refused(package, "is not a plain name")
    assert not list(tmp_path.rglob("evil.npy"))


def test_archive_whose_members_share_their_bytes_is_refused(package):
    """Each entry of the directory points to the same member: 200 × 1 MB out of 1 MB."""
    data = archive([("a.npy", npy(np.zeros(130_000)))])
    end = data.rindex(b"PK\x05\x06")
    start = struct.unpack("<I", data[end + 16 : end + 20])[0]
    entry = data[start:end]
    entries = b"".join(entry.replace(b"a.npy", bytes([97 + at // 25, 97 + at % 25]) + b"npy") for at in range(200))
    tail = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 200, 200, len(entries), start, 0)
    forge(package, "assets/note.npz", data[:start] + entries + tail)
    refused(package, "assets/note.json")


def test_file_that_claims_a_terabyte_is_refused_before_it_is_read(package):
    with open(package / "graphs/main.onnx", "r+b") as file:
        file.truncate(2**40)
    refused(package, "expected at most")
    edit(package, lambda manifest: manifest["files"]["graphs/main.onnx"].update(bytes=2**40))
    refused(package, "1,099,511,627,776 bytes is over the limit")


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ([-1, 8, 3], "greater than or equal to 0"),
        ([10**9, 10**9, 3], "over the limit of 1,073,741,824 bytes"),
        ([10**30], "over the limit"),
        ([8, 8, 4], "the manifest gives uint8 ['batch', 8, 8, 4]"),
        ([8, 8], "takes 'photo.pixels'"),
    ],
)
def test_odd_shapes_in_the_manifest_are_refused(package, shape, words):
    edit(package, lambda manifest: manifest["inputs"][2]["arrays"]["pixels"].update(shape=shape))
    refused(package, words)


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_other_dtype_than_the_graph_takes_is_refused(package, dtype):
    edit(package, lambda manifest: manifest["inputs"][2]["arrays"]["pixels"].update(dtype=dtype))
    refused(package, f"takes 'photo.pixels' as uint8 ['batch', 8, 8, 3], the manifest gives {dtype}")


@pytest.mark.parametrize("dtype", ["object", "O", "S9", "float128", "datetime64[ns]"])
def test_dtypes_that_no_graph_takes_are_refused(package, dtype):
    edit(package, lambda manifest: manifest["inputs"][2]["arrays"]["pixels"].update(dtype=dtype))
    refused(package, "inputs.2.arrays.pixels.dtype")


@pytest.mark.parametrize(("name", "bound"), [("frames", 5), ("pixels", 5), ("pixels", 1e18), ("bytes", -1)])
def test_limits_that_nobody_enforces_are_refused(package, name, bound):
    edit(package, lambda manifest: manifest["inputs"][2]["limits"].update({name: bound}))
    refused(package, name if bound > 0 else "greater than 0")


def graph(nodes, initial=(), opsets=("",)):
    taken = [("note.ids", TensorProto.INT64, ["batch", "time"]), ("note.weights", TensorProto.FLOAT, ["batch", "time"])]
    taken += [
        ("tabular.category", TensorProto.INT64, ["batch", 1]),
        ("tabular.number", TensorProto.FLOAT, ["batch", 1]),
    ]
    taken += [("photo.pixels", TensorProto.UINT8, ["batch", 8, 8, 3])]
    inputs = [helper.make_tensor_value_info(*item) for item in taken]
    output = helper.make_tensor_value_info("out_probabilities", TensorProto.FLOAT, None)
    made = helper.make_graph(nodes, "main", inputs, [output], initial)
    opset = [helper.make_opsetid(name, 18 if not name else 1) for name in opsets]
    model = helper.make_model(made, opset_imports=opset)
    model.ir_version = 10
    return model


@pytest.mark.parametrize("location", ["secret.bin", "../secret.bin", "/etc/hostname"])
def test_external_data_are_refused(package, tmp_path, location):
    for folder in (package / "graphs", package, tmp_path):
        (folder / "secret.bin").write_bytes(b"\0" * 8)
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, 2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    model = graph([helper.make_node("Identity", ["w"], ["out_probabilities"])], [tensor])
    for stray in (package / "graphs/secret.bin", package / "secret.bin"):
        stray.unlink()
    forge(package, "graphs/main.onnx", model.SerializeToString())
    refused(package, "ONNX Runtime cannot load the graph")


def test_operators_of_unknown_libraries_are_refused(package):
    node = helper.make_node("Run", ["tabular.number"], ["out_probabilities"], domain="evil")
    forge(package, "graphs/main.onnx", graph([node], opsets=("", "evil")).SerializeToString())
    refused(package, "ONNX Runtime cannot load the graph")


def test_tensor_that_claims_more_than_it_holds_is_refused(package):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[10**6, 10**6], raw_data=b"\0" * 8)
    model = graph([helper.make_node("Identity", ["w"], ["out_probabilities"])], [tensor])
    forge(package, "graphs/main.onnx", model.SerializeToString())
    refused(package, "ONNX Runtime cannot load the graph")


def test_graph_that_asks_for_terabytes_is_refused(package):
    size = helper.make_tensor("size", TensorProto.INT64, [2], [10**6, 10**6])
    fill = helper.make_node("ConstantOfShape", ["size"], ["out_probabilities"])
    forge(package, "graphs/main.onnx", graph([fill], [size]).SerializeToString())
    refused(package, "graphs/main.onnx")


def test_graph_that_answers_for_other_rows_is_refused(package):
    value = helper.make_tensor("one", TensorProto.FLOAT, [1, 2], [0.5, 0.5])
    model = graph([helper.make_node("Identity", ["one"], ["out_probabilities"])], [value])
    forge(package, "graphs/main.onnx", model.SerializeToString())
    refused(package, "for 2 rows")


@pytest.mark.parametrize(
    ("text", "words"),
    [('{"a": NaN}', "NaN"), ("[" * 10**5, "nested deeper"), ('{"a": 1e999}', "out of range"), ("[1]", "JSON object")],
)
def test_state_that_is_not_strict_json_is_refused(package, text, words):
    forge(package, "assets/photo.json", text.encode())
    refused(package, "assets/photo.json", words)


def test_golden_cells_stay_in_the_package(package, tmp_path):
    (tmp_path / "secret.bin").write_bytes(b"x")
    rows = json.loads((package / "golden/inputs.json").read_text())
    rows["rows"][0]["photo"] = {"$bytes": "../../secret.bin"}
    forge(package, "golden/inputs.json", json.dumps(rows).encode())
    refused(package, "golden/inputs.json")
    rows["rows"][0]["photo"] = "../../secret.bin"
    forge(package, "golden/inputs.json", json.dumps(rows).encode())
    refused(package, "outside the data folder", error=VerificationError)


# Cells


def png(width, height, level=9):
    """A valid PNG of black pixels: a few KB for any size."""
    row = b"\0" + b"\0" * ((width + 7) // 8)
    packer = zlib.compressobj(level)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def text_chunk_bomb():
    """A small PNG with a compressed comment of 100 MB."""
    plain = png(4, 4)
    data = b"k\0\0" + zlib.compress(b"\0" * 10**8)
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    return plain[:33] + chunk + plain[33:]


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/x) (w) file\n%%EOF\n"
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
PICTURES = {
    "14000x14000": (png(14_000, 14_000), "is over the limit of 64,000,000"),
    "huge header": (png(4, 4).replace(struct.pack(">II", 4, 4), struct.pack(">II", 2**31 - 1, 2**31 - 1)), ""),
    "comment": (text_chunk_bomb(), "damaged picture"),
    "EPS": (EPS, "not a picture in a supported format"),
    "EPS as PNG": (b"\x89PNG\r\n\x1a\n" + EPS, ""),
    "SVG": (SVG, "not a picture in a supported format"),
    "bytes": (b"\0" * 50_000_001, "50,000,001 bytes is over the limit of 50,000,000"),
    "empty": (b"", "file is empty"),
    "cut off": (png(64, 64)[:45], ""),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(predictor, name):
    data, words = PICTURES[name]
    row = {"note": "snow", "degrees": 3, "place": "sea", "photo": data}
    good = {**row, "photo": png(6, 6)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = predictor.predict([good, row, good])
    assert list(found.refused) == [1]
    assert found.refused[1].startswith("column 'photo': ")
    assert words in found.refused[1]
    assert found.columns["prediction"][0] == found.columns["prediction"][2] is not None


ROW = {"note": "snow", "degrees": "3", "place": "sea", "photo": None}
DEEP = []
for _ in range(50_000):
    DEEP = [DEEP]
CELLS = {
    "10 MB text": ("note", "snow " * 2_000_000, "text of 10,000,000 characters is over the limit of 1,000,000"),
    "10 MB without blanks": ("note", "x" * 10_000_000, "over the limit of 1,000,000"),
    "10 MB number": ("degrees", "9" * 10_000_000, "over the limit of 1,000,000"),
    "10 MB category": ("place", "sea" * 4_000_000, "over the limit of 1,000,000"),
    "long list": ("place", ["x" * 1000] * 2000, "over the limit of 1,000,000"),
    "huge URI": ("photo", "data:image/png;base64," + "A" * 100_000_001, "over the limit of 50,000,000 bytes"),
    "no base64": ("photo", "data:image/png;base64,%%%", "base64"),
    "infinite": ("degrees", "inf", "is not a number"),
    "overflow": ("degrees", "1e999", "is not a number"),
    "deep": ("note", DEEP, ""),
    "URL": ("photo", "http://169.254.169.254/latest/meta-data", "http addresses are not read"),
    "file URL": ("photo", "file:///etc/passwd", "file addresses are not read"),
    "up": ("photo", "../../etc/passwd", "outside the data folder"),
    "absolute": ("photo", "/etc/passwd", "outside the data folder"),
    "backslash": ("photo", "..\\..\\etc\\passwd", "outside the data folder"),
    "link": ("photo", "link.png", "outside the data folder"),
    "through a linked folder": ("photo", "linked/passwd", "outside the data folder"),
    "zero byte": ("photo", "a\0.png", "not a path"),
    "device": ("photo", "/dev/zero", "outside the data folder"),
    "long path": ("photo", "a/" * 5000, "not a path"),
    "pipe": ("photo", "pipe.png", "not a file: pipe.png"),
    "folder": ("photo", ".", "outside the data folder"),
    "inner folder": ("photo", "inner", "not a file: inner"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data folder with links that lead out of it."""
    path = tmp_path_factory.mktemp("data")
    (path / "link.png").symlink_to("/etc/passwd")
    (path / "linked").symlink_to("/etc")
    os.mkfifo(path / "pipe.png")
    (path / "inner").mkdir()
    (path / "good.png").write_bytes(png(6, 6))
    return path


@pytest.mark.parametrize("name", CELLS)
def test_cells(predictor, folder, name):
    column, cell, words = CELLS[name]
    found = predictor.predict([ROW, {**ROW, column: cell}, {**ROW, "photo": "good.png"}], folder=folder)
    assert list(found.refused) == [1]
    assert column in found.refused[1]
    assert words in found.refused[1]
    assert len(found.refused[1]) < 1000
    assert None not in (found.columns["prediction"][0], found.columns["prediction"][2])


def sound(name):
    """The input of a sound."""
    wave_module = pytest.importorskip("automm_audio.wave")
    pytest.importorskip("soundfile")
    processor = wave_module.Wave(wave_module.Wave.Config())
    processor.fit([[]])
    return RuntimeInput(name, name, (name,), processor)


def test_an_hour_of_sound_is_refused_by_its_header(tmp_path):
    import soundfile

    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 1, 8000, 0, "NONE", ""))
        file.writeframes(b"\x80" * 8000 * 3600)
    path = tmp_path / "silence.flac"  # an hour in a quarter of a megabyte
    with soundfile.SoundFile(path, "w", 8000, 1) as file:
        for _ in range(61):
            file.write(np.zeros(8000 * 60, np.int16))
    assert path.stat().st_size < 500_000
    reader = sound("clip")
    _, reasons = reader.arrays({"clip": [buffer.getvalue(), "silence.flac", None]}, 3, tmp_path)
    assert reasons == {
        0: "column 'clip': sound of 3,600 seconds is over the limit of 1,800",
        1: "column 'clip': sound of 3,660 seconds is over the limit of 1,800",
    }


# What people read


def test_markup_in_names_is_text_in_the_model_card():
    manifest, _ = read_manifest(V1)
    names = ("<script>alert(1)</script>", "[x](javascript:alert(1))", "a|b\n# c")
    target = manifest.target.model_copy(update={"names": names, "columns": ("<img src=x onerror=alert(1)>",)})
    item = manifest.inputs[0].model_copy(update={"name": "<script>", "columns": ("```\n<script>",)})
    hostile = manifest.model_copy(update={"name": "<script>", "target": target, "inputs": (item,)})
    card = model_card(hostile, {f"probability_{name}": "number" for name in names})
    outside = "".join(re.split(r"^```.*$", card, flags=re.M)[::2])  # code blocks show their text as it is
    assert "<" not in outside.replace("&lt;", "")
    assert "[x](" not in outside
    assert "\n# c" not in card
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in outside


# What stays


def test_batches_of_any_size_give_the_same(predictor):
    rows = json.loads((V1.parent / "v1.json").read_text())["rows"]
    whole = predictor.predict(rows).columns["probability_warm"]
    for size in (1, 3, 7):
        found = predictor.predict(rows, batch_size=size).columns["probability_warm"]
        np.testing.assert_allclose(found, whole, atol=1e-6)
    alone = [predictor.predict(row).columns["probability_warm"][0] for row in rows]
    np.testing.assert_allclose(alone, whole, atol=1e-6)


def test_uri_and_bytes_give_the_same(predictor):
    data = png(6, 6)
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    found = predictor.predict([{**ROW, "photo": data}, {**ROW, "photo": uri}]).columns["probability_warm"]
    assert found[0] == found[1]
