"""Rare classes end to end: remedies are compared, the report shows them, and the package decides as the metrics do."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from sklearn.metrics import f1_score

from fit.commands import run
from fit.conftest import events, summary


def write_machines(path, rows, seed):
    """Of ten machines one is worn, which heat and noise tell, and one in four is dusty, which dust tells."""
    random = np.random.default_rng(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["heat", "noise", "dust", "state", "worn", "dusty"])
        for _ in range(rows):
            worn, dusty = int(random.random() < 0.1), int(random.random() < 0.25)
            heat, noise = random.normal(0.9 * worn, 1, 2)
            dust = random.normal(1.5 * dusty, 1)
            writer.writerow([f"{heat:.4f}", f"{noise:.4f}", f"{dust:.4f}", "worn" if worn else "fine", worn, dusty])


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("machines")
    write_machines(folder / "train.csv", 2000, 0)
    write_machines(folder / "test.csv", 1000, 1)
    return folder


def fitted(folder, name, text):
    (folder / f"{name}.yaml").write_text(text, "utf-8")
    done = run("fit", f"{name}.yaml", "--out", name, cwd=folder)
    assert done.code == 0, done.err
    done_predicting = run("predict", f"{name}/package", "test.csv", "-o", f"{name}.jsonl", cwd=folder)
    assert done_predicting.code == 0, done_predicting.err
    return done, summary(folder / name)


def truth(folder, column):
    with (folder / "test.csv").open(encoding="utf-8") as file:
        return [row[column] for row in csv.DictReader(file)]


def predictions(folder, name):
    lines = (folder / f"{name}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


DATA = "data: {train: train.csv, test: test.csv}\ntrain: {epochs: 6, batch_size: 64}\n"


def test_remedies_raise_the_recall_of_the_rare_class_and_the_report_says_so(machines):
    recipe = DATA + "ignore: [worn, dusty, dust]\ntarget: state\nimbalance: auto\nmetric: average_precision\n"
    recipe += "model: {learner: network}\n"
    done, found = fitted(machines, "classes", recipe)
    remedies = found["imbalance"]
    assert list(remedies) == ["none", "focal", "logit_adjustment", "weights", "resample"]
    recall = {remedy: one["classes"]["worn"]["recall"] for remedy, one in remedies.items()}
    for remedy in ("logit_adjustment", "weights", "resample", "focal"):
        assert recall[remedy] >= recall["none"] + 0.3
    assert "remedy none" in done.out
    assert "worn                   recall" in done.out
    assert found["best"]["value"] == max(one["value"] for one in remedies.values())


def test_thresholds_are_tuned_and_package_and_metrics_go_by_them(machines):
    recipe = DATA + "ignore: [worn, dusty, dust]\ntarget: state\nmetric: average_precision\nmodel: {learner: network}\n"
    _, found = fitted(machines, "decided", recipe + "task: {name: classification, decision: macro_f1}\n")
    decision = found["decision"]
    assert decision["metric"] == "macro_f1"
    assert decision["gain"] > 0
    assert decision["weights"]["worn"] > decision["weights"]["fine"]
    assert events(machines / "decided", "decision")[0]["gain"] == decision["gain"]
    rows, true = predictions(machines, "decided"), truth(machines, "state")
    said = [row["prediction"] for row in rows]
    assert f1_score(true, said, average="macro") == pytest.approx(found["test"]["macro_f1"], abs=1e-6)
    usual = ["worn" if row["probability_worn"] > 0.5 else "fine" for row in rows]
    assert f1_score(true, said, average="macro") > f1_score(true, usual, average="macro") + 0.05
    measured = run("evaluate", "decided/package", "test.csv", "--json", cwd=machines)
    assert measured.code == 0, measured.err
    assert json.loads(measured.out)["metrics"]["macro_f1"] == pytest.approx(found["test"]["macro_f1"], abs=1e-6)
    _, plain = fitted(machines, "undecided", recipe)  # average precision needs no decision
    assert plain["decision"] == {}
    assert plain["valid"]["average_precision"] == found["valid"]["average_precision"]
    assert plain["valid"]["macro_f1"] < found["valid"]["macro_f1"] - 0.05


def test_remedies_and_thresholds_of_labels(machines):
    recipe = DATA + "ignore: state\ntarget: [worn, dusty]\nmetric: macro_f1\nimbalance: [none, weights]\n"
    recipe += "model: {learner: network}\n"
    _, found = fitted(machines, "labels", recipe)
    recall = {remedy: one["classes"]["worn"]["recall"] for remedy, one in found["imbalance"].items()}
    assert recall["weights"] >= recall["none"] + 0.2
    rows = predictions(machines, "labels")
    thresholds = found["decision"].get("thresholds", {"worn": 0.5, "dusty": 0.5})
    for row in rows:
        assert row["prediction"] == [name for name in thresholds if row[f"probability_{name}"] >= thresholds[name]]
    true = np.array([truth(machines, name) for name in ("worn", "dusty")]).T.astype(int)
    said = np.array([[name in row["prediction"] for name in ("worn", "dusty")] for row in rows])
    assert f1_score(true, said, average="macro") == pytest.approx(found["test"]["macro_f1"], abs=1e-6)
