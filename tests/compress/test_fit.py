"""Recipes with `compress`: what is measured, adopted, left out and said; ensembles, learners, strangers, failures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")
from fit.commands import run
from fit.conftest import events, summary, write_table

import automm

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
    """A run with variants of all stages, of which some fail in every way."""
    compress = """compress:
  try:
    - fp16
    - forgetful
    - crashing
    - undefined
    - renaming
    - [{name: prune, units: 0.5, epochs: 2}, fp16]
    - drop_layers
    - {name: distill, student: member}
  max_loss: 3%
"""
    folder = folder_with(tmp_path_factory.mktemp("compressed"), compress)
    done = fit(folder)
    return folder, done


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
    folder, done = fitted
    table, found = summary(folder / "run")["compression"], variants(folder)
    assert list(found) == [
        "full", "fp16", "forgetful", "crashing", "undefined", "renaming",
        "prune (units 0.5, epochs 2) → fp16", "drop_layers", "distill (student member)",
    ]  # fmt: skip
    assert (table["metric"], table["max_loss"], table["rows"]) == ("roc_auc", 0.03, 40)
    states = {name: variant["state"] for name, variant in found.items()}
    assert states["forgetful"] == "over"
    assert states["crashing"] == states["undefined"] == states["renaming"] == "failed"
    assert states["drop_layers"] == states["distill (student member)"] == "left out"
    assert found["crashing"]["reason"].endswith("shrink raised RuntimeError: no room")
    assert "compressor 'crashing' of plugin mine" in found["crashing"]["reason"]
    assert found["undefined"]["reason"] == "roc_auc of its answers is not defined"
    assert "ONNX Runtime cannot load the graph" in found["renaming"]["reason"]
    assert found["drop_layers"]["reason"] == "there is no stack of three or more layers of the same kind"
    assert found["distill (student member)"]["reason"] == "the model is no ensemble with a network in it"
    assert found["forgetful"]["value"] == pytest.approx(0.5)
    assert found["forgetful"]["reason"].startswith("loses ")
    assert "allowed are 3.00%" in found["forgetful"]["reason"]
    low, high = found["forgetful"]["interval"]
    assert 0.05 < low < found["forgetful"]["loss"] < high
    assert found["fp16"]["interval"][0] <= found["fp16"]["loss"] <= found["fp16"]["interval"][1] < 0.01
    assert found["fp16"]["size_mb"] < 0.6 * found["full"]["size_mb"]
    assert found["fp16"]["latency_ms"]["one_thread"]["p50"] > 0
    assert "variant forgetful over" in done.err
    assert [event["name"] for event in events(folder / "run", "variant")] == list(found)


def test_what_is_adopted_is_the_package(fitted):
    folder, _ = fitted
    found, said = variants(folder), summary(folder / "run")
    adopted = said["compression"]["adopted"]
    assert found[adopted]["state"] == "adopted"
    assert found[adopted]["loss"] <= 0.03
    package = folder / "run" / "package"
    graph = (package / "graphs" / "main.onnx").read_bytes()
    assert len(graph) / 1e6 == pytest.approx(found[adopted]["size_mb"], abs=1e-3)
    assert json.loads((package / "provenance" / "compression.json").read_text())["adopted"] == adopted
    card = (package / "README.md").read_text("utf-8")
    line = next(line for line in card.splitlines() if "**in this package**" in line)
    assert line.startswith(f"| {adopted} |")
    assert "shrink raised RuntimeError: no room" in card
    assert run("package", "verify", "run/package", cwd=folder).code == 0
    assert not [path for path in (folder / "run").iterdir() if path.name.startswith(".compressed")]
    predictor = automm.load(package)
    import csv

    with (folder / "test.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    right = [one["prediction"] == row["verdict"] for one, row in zip(predictor.predict(rows).rows, rows, strict=True)]
    assert np.mean(right) == pytest.approx(said["test"]["accuracy"])
    assert said["verified"]["rows"] == 16


def test_pruned_chain_keeps_its_quality(fitted):
    """Half of the units go, two epochs of recovery, half precision."""
    found = variants(fitted[0])
    chain = found["prune (units 0.5, epochs 2) → fp16"]
    assert chain["state"] in ("adopted", "within", "over", "no gain"), chain["reason"]
    assert chain["value"] > 0.8 * found["full"]["value"]
    assert chain["size_mb"] < found["fp16"]["size_mb"]


def test_ensemble_of_learners_and_networks(tmp_path, monkeypatch):
    """One student in place of all; 8 bits where there is something to gain."""
    recipe = RECIPE.replace("epochs: 4", "epochs: 2").replace("{name: ngram, width: 32}", "[tfidf_svd, ngram]")
    more = "search: {trials: 3}\ncompress: {try: [{name: int8, smallest: 500}, {name: distill, epochs: 4}]}\n"
    folder = folder_with(tmp_path, more, recipe)
    monkeypatch.setattr("automm.choose.select", lambda answers, *_, **__: [1 / len(answers)] * len(answers))
    fit(folder)
    members = [member["resolved"] for member in summary(folder / "run")["best"]["members"]]
    assert {"learner" in resolved for resolved in members} == {True, False}, "learners and a network answer together"
    found = variants(folder)
    assert "failed" not in {variant["state"] for variant in found.values()}, found
    int8 = found["int8 (smallest 500)"]
    assert int8["state"] == "left out" or int8["value"] == pytest.approx(found["full"]["value"], abs=0.1)
    assert found["distill (epochs 4)"]["value"] > 0.7
    assert run("package", "verify", "run/package", cwd=folder).code == 0


def test_nothing_adopted_leaves_the_model_as_it_was(fitted):
    """The same run again with another `compress`: nothing is trained again."""
    folder, _ = fitted
    recipe = (folder / "r.yaml").read_text("utf-8")
    (folder / "r.yaml").write_text(f"{recipe.partition('compress:')[0]}compress: {{try: [forgetful, crashing]}}\n")
    fit(folder)
    found = summary(folder / "run")["compression"]
    assert found["adopted"] is None
    assert [variant["state"] for variant in found["variants"]] == ["full", "over", "failed"]
    assert len(events(folder / "run", "trial")) == 1
    card = (folder / "run" / "package" / "README.md").read_text("utf-8")
    assert next(line for line in card.splitlines() if "**in this package**" in line).startswith("| full |")
    graph = onnx.load(folder / "run" / "package" / "graphs" / "main.onnx")
    assert max(len(item.raw_data) for item in graph.graph.initializer) > 10_000
    said = summary(folder / "run")
    assert said["test"]["roc_auc"] > 0.7
