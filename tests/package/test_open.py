"""Opening packages: everything that was tampered with is refused with a reason."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from automm.errors import PackageError, VerificationError
from automm.runtime import ops
from automm.runtime.package import open_package


def edit(package, change):
    """Changes the manifest through a function of its JSON."""
    path = package / "automm.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def forge(package, relative, data):
    """Replaces a file and its digest in the manifest."""
    (package / relative).write_bytes(data)
    part = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    edit(package, lambda manifest: manifest["files"].update({relative: part}))


def refused(package, *words, error=PackageError):
    with pytest.raises(error) as caught:
        open_package(package)
    for word in words:
        assert word in str(caught.value)


def test_changed_file_is_refused(copied):
    path = copied / "assets/title.json"
    path.write_bytes(path.read_bytes().replace(b"snow", b"snew"))
    refused(copied, "assets/title.json", "SHA-256")


def test_truncated_graph_is_refused(copied):
    path = copied / "graphs/main.onnx"
    path.write_bytes(path.read_bytes()[:-100])
    refused(copied, "graphs/main.onnx", "damaged or cut off")


def test_truncated_graph_with_forged_digest_is_refused(copied):
    forge(copied, "graphs/main.onnx", (copied / "graphs/main.onnx").read_bytes()[:500])
    refused(copied, "ONNX Runtime cannot load the graph")


def test_file_that_is_not_listed_is_never_opened(copied):
    edit(copied, lambda manifest: manifest["files"].pop("assets/title.json"))
    refused(copied, "'assets/title.json' is used but not listed")


def test_what_is_not_listed_is_refused_by_name(copied):
    (copied / "assets/extra.bin").write_bytes(b"x")
    (copied / "linked").symlink_to("/etc")
    refused(copied, "does not list: assets/extra.bin, linked;")


def test_what_version_control_leaves_behind_is_left_alone(copied):
    (copied / ".git").mkdir()
    (copied / ".git/config").write_text("x")
    assert open_package(copied).files.unlisted() == [".git/config"]


def test_missing_file_is_named(copied):
    (copied / "golden/answers.npz").unlink()
    refused(copied, "golden/answers.npz", "missing")


def test_symbolic_link_to_the_same_content_is_refused(copied, tmp_path):
    (copied / "assets/title.json").rename(tmp_path / "outside.json")
    (copied / "assets/title.json").symlink_to(tmp_path / "outside.json")
    refused(copied, "symbolic link")


def test_linked_folder_is_refused(copied, tmp_path):
    (copied / "assets").rename(tmp_path / "assets")
    (copied / "assets").symlink_to(tmp_path / "assets")
    refused(copied, "symbolic link")


def test_hard_link_is_refused(copied, tmp_path):
    os.link(copied / "graphs/main.onnx", tmp_path / "other.onnx")
    refused(copied, "hard links")


def test_fifo_is_refused_without_waiting(copied):
    (copied / "assets/title.json").unlink()
    os.mkfifo(copied / "assets/title.json")
    refused(copied, "not a regular file")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "graphs//main.onnx", "graphs\\main.onnx", "C:/x", "./x", ""])
def test_path_that_leaves_the_package_is_refused(copied, path):
    edit(copied, lambda manifest: manifest["graphs"]["main"].update(file=path))
    refused(copied, "is not a plain path inside the package")


def test_listed_path_that_leaves_the_package_is_refused(copied):
    edit(copied, lambda manifest: manifest["files"].update({"../x": {"sha256": "0" * 64, "bytes": 1}}))
    refused(copied, "is not a plain path inside the package")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"format": NaN}', "NaN is not a JSON number"),
        ('{"format": 1e999}', "out of range"),
        ('{"format": "automm", "format": "automm"}', "appears twice"),
        ("[" * 100_000, "nested deeper"),
        ("[" * 40 + "]" * 40, "nested deeper"),
        ("{", "not strict JSON"),
        ('{"format": "onnx"}', "not an automm package"),
        ('{"format": "automm", "format_version": 2}', "upgrade automm"),
        ('{"format": "automm", "format_version": 1}', "Field required"),
        ("\ud800", "not strict JSON"),
    ],
)
def test_manifest_that_is_not_strict_is_refused(copied, text, word):
    (copied / "automm.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    refused(copied, word)


def test_oversized_manifest_is_refused_before_it_is_read(copied):
    with open(copied / "automm.json", "r+b") as file:
        file.truncate(2**34)
    refused(copied, "expected at most")


def test_unknown_field_is_refused(copied):
    edit(copied, lambda manifest: manifest["inputs"][0].update(run="rm"))
    refused(copied, "inputs.0.run", "Extra inputs are not permitted")


def test_pickled_state_is_never_loaded(copied):
    buffer = io.BytesIO()
    np.savez(buffer, a0=np.array([{"x": 1}], dtype=object), allow_pickle=True)
    forge(copied, "assets/numbers.npz", buffer.getvalue())
    refused(copied, "never loaded")


def test_compressed_arrays_are_refused(copied):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a0=np.zeros(10_000_000))
    forge(copied, "assets/numbers.npz", buffer.getvalue())
    refused(copied, "not a stored array")


def test_array_header_that_claims_more_than_its_bytes_is_refused(copied):
    data = (copied / "assets/numbers.npz").read_bytes()
    assert data.count(b"'shape': (2,), }      ") == 2
    forged = data.replace(b"'shape': (2,), }      ", b"'shape': (2222222,), }")
    # The archive's checksum would already betray the change; what counts is that nothing is allocated or executed.
    forge(copied, "assets/numbers.npz", forged)
    refused(copied, "assets/numbers.json")


def test_state_without_its_array_is_refused(copied):
    forge(copied, "assets/numbers.json", b'{"stats": {"mean": {"$array": "a7"}, "std": {"$array": "a1"}}}')
    refused(copied, "'a7' is missing")


def test_state_that_does_not_fit_the_processor_is_refused(copied):
    def change(manifest):
        manifest["inputs"][1]["processor"]["config"]["columns"] = 3

    edit(copied, change)
    refused(copied, "does not fit 'fake.columns'")


def test_processor_with_other_arrays_is_refused(copied):
    edit(copied, lambda manifest: manifest["inputs"][2]["arrays"]["pixels"].update(pad=1))
    refused(copied, "the manifest says")


def test_graph_input_that_no_processor_gives_is_refused(copied):
    edit(copied, lambda manifest: manifest["graphs"]["main"]["inputs"].append("sound.wave"))
    refused(copied, "sound.wave")


def test_unknown_operation_names_who_offers_it(copied):
    def change(manifest):
        manifest["inputs"][0]["processor"].update(op="foreign.words", owner={"distribution": "wordy", "version": "2"})

    edit(copied, change)
    refused(copied, "foreign.words", "install wordy")


def test_other_version_of_an_operation_is_refused(copied):
    edit(copied, lambda manifest: manifest["inputs"][0]["processor"].update(version=9))
    refused(copied, "needs version 9 of 'fake.words'")


def test_golden_answers_that_deviate_are_refused(copied):
    from automm.runtime.state import read_npz, write_npz

    answers = read_npz((copied / "golden/answers.npz").read_bytes(), "answers")
    answers["probability"] = answers["probability"] + np.float32(0.01)
    forge(copied, "golden/answers.npz", write_npz(answers))
    refused(copied, "golden answer 'probability'", error=VerificationError)
    open_package(copied, verify="hashes")


def test_processor_that_gives_other_arrays_than_before_is_noticed(copied, monkeypatch):
    words = ops.find("fake.words", 1)
    real = words.load
    monkeypatch.setattr(words, "load", lambda self, cell: real(self, f"{cell} sun"))
    refused(copied, "golden array 'title.ids'", error=VerificationError)


def test_folder_without_package_is_refused(tmp_path):
    refused(tmp_path / "nothing", "no such folder")
    refused(tmp_path, "automm.json", "missing")


def test_loading_imports_neither_torch_nor_transformers(made):
    code = f"""
import sys
from pathlib import Path
from automm.runtime import ops
ops.add_file(Path({os.path.dirname(__file__)!r}) / "fake_ops.py")
from automm.runtime.predictor import load
load({str(made.path)!r}).predict({{"title": "sun", "a": 1, "b": 2, "photo": b"1234"}})
heavy = {{"torch", "transformers", "lightning", "onnx", "optuna", "sklearn", "pandas"}} & set(sys.modules)
print(sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
