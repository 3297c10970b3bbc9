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
            if item.data_type == onnx.TensorProto.FLOAT:
                item.raw_data = bytes(len(item.raw_data))
        del model.graph.value_info[:]
        return model.SerializeToString()


class Crashing(ModelCompressor):
    """Raises."""

    def shrink(self, model, batches):
        raise RuntimeError("no room")


class Renaming(GraphCompressor):
    """Gives a graph that no runtime loads."""

    def compress(self, graph, rows):
        return graph[: len(graph) // 2]


@hookimpl
def automm_register(register):
    for component in (Forgetful, Crashing, Renaming):
        register(component)
'''


def folder_with(path: Path, more: str, recipe: str = RECIPE) -> Path:
    write_table(path / "train.csv", 240)
    write_table(path / "test.csv", 60, seed=1)
    (path / "mine.py").write_text(PLUGIN, "utf-8")
    (path / "r.yaml").write_text(recipe + more, "utf-8")
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A run with variants of all stages, of which some fail in every way."""
    compress = """compress:
  try: [fp16, forgetful, crashing, renaming, [{name: prune, units: 0.5, epochs: 2}, fp16], low_rank, {name: distill, epochs: 2}]
  max_loss: 3%
"""  # noqa: E501
    folder = folder_with(tmp_path_factory.mktemp("compressed"), compress)
    done = run("fit", "r.yaml", "--out", "run", cwd=folder)
    assert done.code == 0, done.err
    return folder, done


def variants(folder):
    return {variant["name"]: variant for variant in summary(folder / "run")["compression"]["variants"]}


def test_every_variant_has_its_line(fitted):
    folder, done = fitted
    table, found = summary(folder / "run")["compression"], variants(folder)
    assert list(found) == [
        "full", "fp16", "forgetful", "crashing", "renaming", "prune (units 0.5, epochs 2) → fp16", "low_rank",
        "distill (epochs 2)",
    ]  # fmt: skip
    assert (table["metric"], table["max_loss"], table["rows"]) == ("roc_auc", 0.03, 48)
    assert {name: found[name]["state"] for name in ("forgetful", "crashing", "renaming", "low_rank")} == {
        "forgetful": "over", "crashing": "failed", "renaming": "failed", "low_rank": "left out",
    }  # fmt: skip
    assert found["crashing"]["reason"].endswith("shrink raised RuntimeError: no room")
    assert "compressor 'crashing' of plugin mine" in found["crashing"]["reason"]
    assert "ONNX Runtime cannot load the graph" in found["renaming"]["reason"]
    assert found["low_rank"]["reason"] == "there is no linear layer of 40,000 weights or more"
    assert found["forgetful"]["value"] == pytest.approx(0.5)
    assert found["forgetful"]["reason"].startswith("loses ")
    assert "allowed are 3.00%" in found["forgetful"]["reason"]
    low, high = found["forgetful"]["interval"]
    assert 0.1 < low < found["forgetful"]["loss"] < high
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


def test_ensemble_of_learners_and_networks(tmp_path):
    recipe = RECIPE.replace("epochs: 4", "epochs: 2").replace("{name: ngram, width: 32}", "[tfidf_svd, ngram]")
    more = "search: {trials: 4}\ncompress: {try: [{name: int8, smallest: 500}, prune, distill], max_loss: 10%}\n"
    folder = folder_with(tmp_path, more, recipe)
    done = run("fit", "r.yaml", "--out", "run", cwd=folder)
    assert done.code == 0, done.err
    assert not [e for e in events(folder / "run", "warning") if "compression failed" in e["text"]]
    found = variants(folder)
    assert all(v["state"] != "failed" for v in found.values()), found
    assert found["int8"]["value"] == pytest.approx(found["full"]["value"], abs=0.1)


def test_nothing_adopted_leaves_the_model_as_it_was(tmp_path):
    folder = folder_with(tmp_path, "compress: {try: [forgetful, crashing]}\n", RECIPE.replace("epochs: 4", "epochs: 1"))
    assert run("fit", "r.yaml", "--out", "run", cwd=folder).code == 0
    found = summary(folder / "run")["compression"]
    assert found["adopted"] is None
    assert [variant["state"] for variant in found["variants"]] == ["full", "over", "failed"]
    card = (folder / "run" / "package" / "README.md").read_text("utf-8")
    assert next(line for line in card.splitlines() if "**in this package**" in line).startswith("| full |")
    graph = onnx.load(folder / "run" / "package" / "graphs" / "main.onnx")
    assert graph.graph.initializer
