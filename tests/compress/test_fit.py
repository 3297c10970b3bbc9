"""Recipes with `compress`: what is measured, adopted, left out and said; ensembles, learners, strangers, failures."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")
from compress.checkpoint import save_checkpoint
from fit.commands import run
from fit.conftest import events, summary, write_table
from update.tables import reviews, write

import automm
from automm.package.compress import _Compression
from automm.package.variants import Maker

MIXED = """data: {train: train.csv, test: test.csv}
target: verdict
metric: roc_auc
inputs: {review: text, photo: image}
model:
  fusion: concat
  encoders:
    review: {name: hf_text, checkpoint: ./tiny, pooling: mean, adapt: full}
    photo: {name: small_cnn, size: 32, width: 8, flip: none, strength: 0}
train: {epochs: 4, batch_size: 32, learning_rate: 3e-3, pretrained_learning_rate: 1e-3}
search: {trials: 1, baselines: false}
plugins: [mine.py]
"""
RECIPE = """data: {train: train.csv, test: test.csv}
target: verdict
metric: roc_auc
inputs: {review: text}
model: {encoders: {text: {name: ngram, width: 32}}}
train: {epochs: 4, batch_size: 32}
plugins: [mine.py]
"""
PLUGIN = '''
from automm.api import GraphCompressor, ModelCompressor, hookimpl


class Forgetful(GraphCompressor):
    """Forgets all weights: small, and no use."""

    def compress(self, graph, rows):
        import onnx
        model = onnx.load_model_from_string(graph)
        for item in model.graph.initializer:
            if item.data_type == onnx.TensorProto.FLOAT and len(item.dims) == 2:
                item.raw_data = bytes(len(item.raw_data))
        del model.graph.value_info[:]
        return model.SerializeToString()


class Crashing(ModelCompressor):
    """Raises."""

    def shrink(self, model, batches):
        raise RuntimeError("no room")


class Undefined(GraphCompressor):
    """Gives a graph that answers with NaN."""

    def compress(self, graph, rows):
        import numpy, onnx
        model = onnx.load_model_from_string(graph)
        for item in model.graph.initializer:
            if item.data_type == onnx.TensorProto.FLOAT:
                item.raw_data = numpy.full(len(item.raw_data) // 4, numpy.nan, "f4").tobytes()
        return model.SerializeToString()


class Renaming(GraphCompressor):
    """Gives a graph that no runtime loads."""

    def compress(self, graph, rows):
        return graph[: len(graph) // 2]


@hookimpl
def automm_register(register):
    for component in (Forgetful, Crashing, Undefined, Renaming):
        register(component)
'''


def folder_with(path: Path, more: str, recipe: str = RECIPE) -> Path:
    write_table(path / "train.csv", 200)
    write_table(path / "test.csv", 60, seed=1)
    (path / "mine.py").write_text(PLUGIN, "utf-8")
    (path / "r.yaml").write_text(recipe + more, "utf-8")
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A run on texts through a transformer and on photos, with variants of all stages, of which some fail in every way.

    Gives the folder, what the command left behind, and the graph of every variant.
    """
    compress = """compress:
  try:
    - {name: int8, smallest: 500}
    - fp16
    - forgetful
    - crashing
    - undefined
    - renaming
    - [{name: prune, units: 0.25, heads: 0.5, epochs: 2}, fp16]
    - [{name: drop_layers, share: 0.4, epochs: 1}, {name: low_rank, smallest: 1000, epochs: 1}]
    - {name: distill, student: member}
  max_loss: 10%
"""
    folder = tmp_path_factory.mktemp("compressed")
    write(folder / "train.csv", reviews(240, 0))
    write(folder / "test.csv", reviews(60, 1))
    save_checkpoint(folder / "tiny")
    (folder / "mine.py").write_text(PLUGIN, "utf-8")
    (folder / "r.yaml").write_text(MIXED + compress, "utf-8")
    graphs = {}
    make = Maker.make

    def keep(self, chain, ahead):
        variant = make(self, chain, ahead)
        graphs[variant.name] = variant.made and variant.made.graph
        graphs["full"] = self.graph
        return variant

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Maker, "make", keep)
        done = fit(folder)
    return folder, done, graphs


def fit(folder):
    """Fits without a limit on the time of compression: machines that run tests are slow at times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("automm.package.compress.UNBUDGETED", 3600.0)
        done = run("fit", "r.yaml", "--out", "run", cwd=folder)
    assert done.code == 0, done.err
    return done


def variants(folder):
    return {variant["name"]: variant for variant in summary(folder / "run")["compression"]["variants"]}


def test_every_variant_has_its_line(fitted):
    folder, done, _ = fitted
    table, found = summary(folder / "run")["compression"], variants(folder)
    assert list(found) == [
        "full", "int8 (smallest 500)", "fp16", "forgetful", "crashing", "undefined", "renaming",
        "prune (units 0.25, heads 0.5, epochs 2) → fp16",
        "drop_layers (share 0.4, epochs 1) → low_rank (smallest 1000, epochs 1)", "distill (student member)",
    ]  # fmt: skip
    assert (table["metric"], table["max_loss"], table["rows"]) == ("roc_auc", 0.1, 48)
    states = {name: variant["state"] for name, variant in found.items()}
    assert states["forgetful"] == "over"
    assert states["crashing"] == states["undefined"] == states["renaming"] == "failed"
    assert states["distill (student member)"] == "left out"
    assert found["crashing"]["reason"].endswith("shrink raised RuntimeError: no room")
    assert "compressor 'crashing' of plugin mine" in found["crashing"]["reason"]
    assert found["undefined"]["reason"] == "roc_auc of its answers is not defined"
    assert "ONNX Runtime cannot load the graph" in found["renaming"]["reason"]
    assert found["distill (student member)"]["reason"] == "the model is no ensemble with a network in it"
    assert found["forgetful"]["reason"].startswith("loses ")
    assert "allowed are 10.00%" in found["forgetful"]["reason"]
    low, high = found["forgetful"]["interval"]
    assert 0.05 < low < found["forgetful"]["loss"] < high
    assert found["fp16"]["interval"][0] <= found["fp16"]["loss"] <= found["fp16"]["interval"][1] < 0.01
    assert found["fp16"]["latency_ms"]["one_thread"]["p50"] > 0
    assert "variant forgetful over" in done.err
    assert [event["name"] for event in events(folder / "run", "variant")] == list(found)


def kinds(graph):
    return Counter(item.op_type for item in onnx.load_model_from_string(graph).graph.node)


def test_every_compressor_does_its_work_on_a_trained_model(fitted):
    """The model has a transformer of three layers for the text and a convolutional network for the photo."""
    folder, _, graphs = fitted
    found = variants(folder)
    full, int8, fp16 = found["full"], found["int8 (smallest 500)"], found["fp16"]
    pruned, thin = (next(v for name, v in found.items() if name.startswith(what)) for what in ("prune", "drop_layers"))
    for variant in (int8, fp16, pruned, thin):
        assert variant["state"] in ("adopted", "within", "over", "no gain"), variant
        assert variant["value"] > 0.8 * full["value"], variant
    assert full["value"] > 0.8
    # Text in whole numbers while the graph runs, the photo statically: never a dynamic convolution.
    mixed = kinds(graphs[int8["name"]])
    assert mixed["MatMulInteger"] >= 3 * 6
    assert mixed["ConvInteger"] == 0
    convolutions = [n for n in onnx.load_model_from_string(graphs[int8["name"]]).graph.node if n.op_type == "Conv"]
    assert len(convolutions) >= 7
    assert all(node.input[0].endswith("_DequantizeLinear_Output") for node in convolutions)
    assert abs(int8["loss"]) < 0.1
    assert int8["size_mb"] < 0.55 * full["size_mb"]
    assert fp16["size_mb"] < 0.65 * full["size_mb"]
    # Feed-forward units, heads and channels.
    shapes, before = shapes_of(graphs[pruned["name"]]), shapes_of(graphs["full"])
    assert before.count((32, 64)) == before.count((64, 32)) == 3
    assert shapes.count((32, 48)) == shapes.count((48, 32)) == 3
    assert shapes.count((32, 32)) <= before.count((32, 32)) - 12
    assert {shape for shape in shapes if len(shape) == 4} - set(before)
    assert pruned["size_mb"] < 0.93 * fp16["size_mb"]
    # A layer of three less, and the large matrices of the others (32 × 64) as products of thin ones (rank 10).
    shapes = shapes_of(graphs[thin["name"]])
    assert shapes.count((32, 64)) == shapes.count((64, 32)) == 0
    assert sum(10 in shape for shape in shapes) >= 2 * 4
    assert kinds(graphs[thin["name"]])["Softmax"] == kinds(graphs["full"])["Softmax"] - 1
    # What no other one beats.
    assert found["forgetful"]["frontier"] is False
    best = [variant for variant in found.values() if variant["frontier"]]
    assert min(v["size_mb"] for v in best) == min(v["size_mb"] for v in found.values() if v["latency_ms"])


def shapes_of(graph):
    return [tuple(item.dims) for item in onnx.load_model_from_string(graph).graph.initializer]


def test_what_is_adopted_is_the_package(fitted):
    folder, _, graphs = fitted
    found, said = variants(folder), summary(folder / "run")
    adopted = said["compression"]["adopted"]
    assert found[adopted]["state"] == "adopted"
    assert found[adopted]["loss"] <= 0.1
    package = folder / "run" / "package"
    assert (package / "graphs" / "main.onnx").read_bytes() == graphs[adopted]
    assert json.loads((package / "provenance" / "compression.json").read_text())["adopted"] == adopted
    card = (package / "README.md").read_text("utf-8")
    line = next(line for line in card.splitlines() if "**in this package**" in line)
    assert line.startswith(f"| {adopted} |")
    assert "| yes |" in line
    assert "shrink raised RuntimeError: no room" in card
    assert run("package", "verify", "run/package", cwd=folder).code == 0
    assert not [path for path in (folder / "run").iterdir() if path.name.startswith(".compressed")]
    predictor = automm.load(package)
    with (folder / "test.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    answers = predictor.predict(rows, folder=folder).rows
    assert np.mean([one["prediction"] == row["verdict"] for one, row in zip(answers, rows, strict=True)]) == (
        pytest.approx(said["test"]["accuracy"])
    )
    assert said["verified"]["rows"] == 16
    # Alone as beside others, whatever was adopted.
    single = [predictor.predict([row], folder=folder).rows[0] for row in rows[:12]]
    for alone, beside in zip(single, answers, strict=False):
        assert alone["probability_keep"] == pytest.approx(beside["probability_keep"], abs=1e-5)


def test_ensemble_of_learners_and_networks(tmp_path, monkeypatch):
    """One student in place of all; 8 bits where there is something to gain. The student is put into the package."""
    recipe = RECIPE.replace("epochs: 4", "epochs: 2").replace("{name: ngram, width: 32}", "[tfidf_svd, ngram]")
    more = (
        "search: {trials: 3}\ncompress: {try: [{name: int8, smallest: 500}, {name: distill, epochs: 4}, drop_layers]}\n"
    )
    folder = folder_with(tmp_path, more, recipe)
    monkeypatch.setattr("automm.choose.select", lambda answers, *_, **__: [1 / len(answers)] * len(answers))
    choose = _Compression._choose

    def student(self, full, measured):
        choose(self, full, measured)
        return next(variant for variant in measured if variant.name == "distill (epochs 4)")

    monkeypatch.setattr(_Compression, "_choose", student)
    fit(folder)
    members = [member["resolved"] for member in summary(folder / "run")["best"]["members"]]
    assert {"learner" in resolved for resolved in members} == {True, False}, "learners and a network answer together"
    found = variants(folder)
    assert "failed" not in {variant["state"] for variant in found.values()}, found
    int8 = found["int8 (smallest 500)"]
    assert int8["state"] == "left out" or int8["value"] == pytest.approx(found["full"]["value"], abs=0.1)
    assert found["distill (epochs 4)"]["value"] > 0.7
    assert found["drop_layers"]["reason"] == "there is no stack of three or more layers of the same kind"
    assert summary(folder / "run")["compression"]["adopted"] == "distill (epochs 4)"
    resolved = json.loads((folder / "run" / "package" / "provenance" / "resolved.json").read_text("utf-8"))
    assert "learner" not in resolved["student"]
    assert summary(folder / "run")["test"]["roc_auc"] > 0.7
    assert run("package", "verify", "run/package", cwd=folder).code == 0
