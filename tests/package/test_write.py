"""Writing packages: what is in them, atomicity, what cannot be stored."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest

from automm.errors import PluginError, StorageError
from automm.package import write
from automm.runtime.package import open_package
from automm.runtime.predictor import load


def _write_again(path, made, **changes):
    """Writes the package anew without exporting its graph a second time."""

    class Copy:
        def export_graph(self, graph, file):
            file.write_bytes((made.path / "graphs/main.onnx").read_bytes())

    return write.write_package(path, dataclasses.replace(made.content, **{"exporter": Copy(), **changes}))


def test_package_answers_like_the_model(made):
    found = load(made.path).predict(made.rows, folder=made.media)
    expected = made.expected(made.rows)["probability"]
    np.testing.assert_allclose(found.columns["probability_warm"], expected[:, 1], atol=1e-5)
    assert found.columns["prediction"] == [("cold", "warm")[at] for at in expected.argmax(1)]
    assert not found.refused
    assert len(found) == 12


def test_manifest_says_what_the_package_is(made):
    package = open_package(made.path)
    manifest = package.manifest
    assert manifest.inputs[0].limits == {"words": 8, "characters": 1_000_000}
    assert manifest.inputs[2].limits == {"bytes": 100_000_000}
    assert [part.optional for part in manifest.inputs] == [True, False, False]
    assert manifest.metrics.valid == {"accuracy": 0.75}  # an undefined metric has no place in JSON
    assert manifest.target.names == ("cold", "warm")
    assert manifest.lineage.seed == 7
    assert manifest.lineage.parent is None
    assert manifest.golden.rows == 2
    assert manifest.graphs["main"].opset == 18
    assert set(manifest.graphs["main"].outputs) == {"out_probability"}
    assert package.files.unlisted() == []
    assert json.loads((made.path / "provenance/plan.json").read_text()) == {"fusion": "concat"}


def test_caches_in_the_state_are_not_stored(made):
    assert set(json.loads((made.path / "assets/title.json").read_text())) == {"words"}


def test_arrays_in_the_state_are_stored_exactly(made):
    package = open_package(made.path)
    loaded, original = package.inputs[1].processor.state["stats"], made.processors["numbers"].state["stats"]
    assert loaded["mean"].tobytes() == original["mean"].tobytes()
    assert loaded["std"].dtype == np.float64


def test_model_card_and_requirements(made):
    card = (made.path / "README.md").read_text()
    for words in (
        "**season**",
        "cold, warm",
        "| photo | image | photo | no |",
        "| accuracy | 0.75 | 0.5 |",
        "words > 8",
    ):
        assert words in card
    assert "automm==" in (made.path / "requirements.txt").read_text()


def test_no_path_of_this_machine_is_in_the_package(made):
    for path in made.path.rglob("*"):
        if path.is_file():
            assert str(made.media).encode() not in path.read_bytes(), path
            assert b"site-packages" not in path.read_bytes(), path


def test_existing_package_is_replaced_and_nothing_else(made, tmp_path):
    _write_again(tmp_path / "p", made)
    _write_again(tmp_path / "p", made, name="second")
    assert open_package(tmp_path / "p").manifest.name == "second"
    assert os.listdir(tmp_path) == ["p"]
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    with pytest.raises(StorageError, match="holds something that is not a package"):
        _write_again(tmp_path / "notes", made)
    assert (tmp_path / "notes" / "mine.txt").read_text() == "keep"


def test_full_disk_leaves_the_old_package_and_no_rest(made, tmp_path, monkeypatch):
    folder = _write_again(tmp_path / "p", made)
    real, calls = Path.write_bytes, []

    def full(self, data):
        calls.append(self)
        if self.name == "README.md":
            raise OSError(28, "No space left on device", str(self))
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="No space left on device"):
        _write_again(folder, made, name="second")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["p"]
    assert open_package(folder).manifest.name == "weather"
    assert len(calls) > 5


def test_failing_rename_brings_the_old_package_back(made, tmp_path, monkeypatch):
    folder = _write_again(tmp_path / "p", made)
    real = Path.rename

    def rename(self, target):
        if self.name.startswith(".p.") and "old" not in str(self):
            raise OSError(13, "Permission denied")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(StorageError, match="Permission denied"):
        _write_again(folder, made, name="second")
    assert os.listdir(tmp_path) == ["p"]
    assert open_package(folder).manifest.name == "weather"


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"x": float("nan")}, "state x: nan cannot be stored"),
        ({"x": [{"y": object()}]}, r"state x\[0\].y: object cannot be stored"),
        ({"x": np.array([object()])}, "array of Python objects"),
        ({"x": {1: "a"}}, "keys are strings"),
    ],
)
def test_state_that_cannot_be_stored_names_processor_and_place(made, tmp_path, state, message):
    item = made.content.inputs[0]
    processor = type(item.processor)(item.processor.config, {**item.processor.state, **state})
    changed = [dataclasses.replace(item, processor=processor), *made.content.inputs[1:]]
    with pytest.raises(PluginError, match=message) as caught:
        _write_again(tmp_path / "p", made, inputs=changed)
    assert "fake.words" in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_golden_rows_that_are_refused_are_left_out(made, tmp_path):
    rows = [{**made.rows[0], "photo": "absent.bin"}, made.rows[1], {**made.rows[2], "title": None}]
    package = open_package(_write_again(tmp_path / "p", made, golden_rows=rows))
    assert package.manifest.golden.rows == 2
    no_rows = open_package(_write_again(tmp_path / "q", made, golden_rows=[]))
    assert no_rows.manifest.golden is None


def test_media_given_as_bytes_are_kept_as_goldens(made, tmp_path):
    rows = [{**made.rows[0], "photo": b"\x01\x02\x03\x04"}]
    package = open_package(_write_again(tmp_path / "p", made, golden_rows=rows, folder=None))
    assert (tmp_path / "p/golden/media/0").read_bytes() == b"\x01\x02\x03\x04"
    assert package.manifest.golden.media == ("golden/media/0",)
