"""`automm fit` end to end on a small table, as a user runs it."""

from __future__ import annotations

import csv
import json

import jsonschema
import numpy as np
import pytest
from sklearn.metrics import accuracy_score

import automm as library
from automm.package.schema import manifest_schema
from fit.commands import run
from fit.conftest import events, summary, write_recipe, write_table


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    write_table(folder / "train.csv", 240)
    write_table(folder / "test.csv", 60, seed=1)
    recipe = write_recipe(folder, "search: {trials: 3}\nmetric: roc_auc\n")
    done = run("fit", recipe, "--out", "run", "--json", cwd=folder)
    assert done.code == 0, done.err
    return folder, done


def test_summary_and_standard_output_agree(fitted):
    folder, done = fitted
    assert json.loads(done.out) == summary(folder / "run")
    found = summary(folder / "run")
    assert found["status"] == "ok"
    assert found["metric"] == "roc_auc"
    assert sum(found["trials"].values()) == 3
    assert found["test"]["roc_auc"] > 0.75  # either half of the signal alone gives 0.8 at most
    assert found["rows"] == {"train": 192, "valid": 48, "test": 60}


def test_baselines_are_reported_per_modality(fitted):
    folder, _ = fitted
    found = summary(folder / "run")
    kinds = ("", "-lightgbm", "-linear")
    assert set(found["baselines"]) == {f"only-{modality}{kind}" for modality in ("text", "tabular") for kind in kinds}
    assert found["single"]["name"] in found["baselines"]
    assert 0.5 < found["single"]["test"]["roc_auc"] < found["test"]["roc_auc"]  # each modality tells half of the signal
    assert found["best"]["value"] >= max(found["baselines"].values())
    gained = found["single"]["difference"]
    assert gained["gain"] == pytest.approx(found["test"]["roc_auc"] - found["single"]["test"]["roc_auc"])
    assert gained["low"] < gained["gain"] < gained["high"]
    assert (gained["part"], gained["rows"]) == ("test", 60)


def test_front_holds_the_fastest_and_the_best_model(fitted):
    folder, done = fitted
    front = summary(folder / "run")["pareto"]
    reports = [json.loads(path.read_text("utf-8")) for path in (folder / "run" / "trials").glob("*/report.json")]
    timed = [report for report in reports if report["state"] == "complete"]
    assert front[0]["latency_ms"] == min(report["latency_ms"] for report in timed)
    assert front[-1]["value"] == max(report["value"] for report in timed)
    assert all(report["size_mb"] > 0 for report in timed)
    assert " ms a row, " in next(line for line in done.err.splitlines() if line.startswith("trial 0 complete"))
    page = (folder / "run" / "report.html").read_text("utf-8")
    assert page.count("<circle") == len(timed)


def test_package_predicts_what_the_summary_claims(fitted):
    folder, _ = fitted
    done = run("predict", "run/package", "test.csv", "-o", "out.csv", cwd=folder)
    assert done.code == 0, done.err
    with (folder / "out.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (folder / "test.csv").open(encoding="utf-8") as file:
        truth = [row["verdict"] for row in csv.DictReader(file)]
    assert len(rows) == 60
    assert accuracy_score(truth, [row["prediction"] for row in rows]) == pytest.approx(
        summary(folder / "run")["test"]["accuracy"]
    )
    for row in rows:
        assert float(row["probability_keep"]) + float(row["probability_return"]) == pytest.approx(1.0, abs=1e-5)


def test_manifest_follows_its_schema(fitted):
    manifest = json.loads((fitted[0] / "run" / "package" / "automm.json").read_text("utf-8"))
    jsonschema.validate(manifest, manifest_schema())
    assert manifest["limits"] == {"rows": 1024}
    assert all("characters" in part["limits"] for part in manifest["inputs"])


def test_evaluate_agrees_with_the_summary(fitted):
    folder, _ = fitted
    done = run("evaluate", "run/package", "test.csv", "--json", cwd=folder)
    assert done.code == 0, done.err
    found, told = json.loads(done.out)["metrics"], summary(folder / "run")["test"]
    assert found["roc_auc"] == pytest.approx(told["roc_auc"], abs=1e-4)
    assert found["log_loss"] == pytest.approx(told["log_loss"], abs=1e-4)


def test_python_predicts_dicts_with_missing_cells(fitted):
    folder, _ = fitted
    predictor = library.load(folder / "run" / "package")
    full = predictor.predict({"review": "the room was perfect", "price": 50, "rating": 4.5, "colour": "red"})
    partial = predictor.predict({"review": None, "price": None, "rating": 4.5, "colour": "never seen"})
    assert full.rows[0]["prediction"] == "keep"
    assert partial.rows[0]["prediction"] in ("keep", "return")
    assert np.isfinite(partial.rows[0]["probability_keep"])


def test_same_command_again_repeats_nothing(fitted):
    folder, _ = fitted
    before = [event["name"] for event in events(folder / "run", "trial")]
    done = run("fit", "reviews.yaml", "--out", "run", cwd=folder)
    assert done.code == 0, done.err
    assert [event["name"] for event in events(folder / "run", "trial")] == before
    assert events(folder / "run", "started")[-1]["resumed"] is True


def test_larger_budget_goes_on(fitted):
    """Also with a trial that a kill kept out of the log: it is noted again."""
    folder, _ = fitted
    log = folder / "run" / "events.jsonl"
    lines = log.read_text("utf-8").splitlines(keepends=True)
    log.write_text("".join(line for line in lines if '"trial"' not in line or '"name": "1"' not in line), "utf-8")
    assert [event["name"] for event in events(folder / "run", "trial")] == ["0", "2"]
    recipe = write_recipe(folder, "search: {trials: 4}\nmetric: roc_auc\n")
    done = run("fit", recipe, "--out", "run", cwd=folder)
    assert done.code == 0, done.err
    assert [event["name"] for event in events(folder / "run", "trial")] == ["0", "2", "1", "3"]
    assert events(folder / "run", "trial")[2]["value"] is not None


def test_same_seed_gives_identical_numbers(project):
    recipe = write_recipe(project, "search: {trials: 2}\n")
    for out in ("a", "b"):
        done = run("fit", recipe, "--out", out, "--quiet", cwd=project)
        assert done.code == 0, done.err
    one, two = summary(project / "a"), summary(project / "b")
    assert one["best"] == two["best"]
    assert one["valid"] == two["valid"]
    assert one["test"] == two["test"]


def test_missed_gate_keeps_the_package(project):
    recipe = write_recipe(project, 'require: {accuracy: ">= 0.999", size_mb: "<= 100"}\n')
    done = run("fit", recipe, "--out", "run", cwd=project)
    assert done.code == 8
    assert "error: require: accuracy >= 0.999" in done.err
    assert "size_mb" not in done.err.splitlines()[-1]
    assert summary(project / "run")["status"] == "gate_missed"
    assert (project / "run" / "package" / "automm.json").exists()


def test_dry_run_trains_nothing(project):
    done = run("fit", write_recipe(project), "--out", "run", "--dry-run", cwd=project)
    assert done.code == 0, done.err
    assert "encoder    text: tfidf_svd" in done.out
    assert not (project / "run").exists()


def test_plan_estimates_time(project):
    done = run("plan", write_recipe(project), "-o", "plan.json", cwd=project)
    assert done.code == 0, done.err
    estimate = json.loads((project / "plan.json").read_text("utf-8"))["estimate"]
    assert 0 < estimate["epoch"] < estimate["trial"] < estimate["total"]
    assert "estimate" in done.out


@pytest.mark.parametrize(
    ("task", "target", "metric", "floor"),
    [("regression", "rating", "r2", 0.0), ("classification", "colour", "accuracy", 0.1)],
)
def test_other_targets(project, task, target, metric, floor):
    recipe = write_recipe(
        project, f"target: {target}\ntask: {task}\nmetric: {metric}\n", "data: {train: train.csv, test: test.csv}\n"
    )
    done = run("fit", recipe, "--out", "run", cwd=project)
    assert done.code == 0, done.err
    assert summary(project / "run")["test"][metric] > floor


def test_imbalance_remedies_are_each_fitted_without_a_search(project):
    rows = (project / "train.csv").read_text("utf-8").splitlines()
    keep = [row for row in rows[1:] if row.endswith("keep")]
    rare = [row for row in rows[1:] if row.endswith("return")][:20]
    (project / "train.csv").write_text("\n".join([rows[0], *keep, *rare]) + "\n", "utf-8")
    recipe = write_recipe(project, "imbalance: auto\nmetric: macro_f1\n")
    done = run("fit", recipe, "--out", "run", cwd=project)
    assert done.code == 0, done.err
    plan = json.loads((project / "run" / "plan.json").read_text("utf-8"))
    remedies = [choice["remedy"] for choice in plan["candidates"]["loss"]]
    assert remedies == ["none", "focal", "logit_adjustment", "weights", "resample"]
    found = summary(project / "run")
    assert sum(found["trials"].values()) == 5
    assert list(found["imbalance"]) == remedies
