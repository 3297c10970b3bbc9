"""The example distributions: installed in an environment of their own, tested, fitted, and their packages used."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys

import pytest

from docs.environment import install, make_environment, run_in
from docs.pages import ROOT

pytestmark = pytest.mark.timeout(900)  # many processes: a busy machine takes its time

EXAMPLES = ROOT / "docs" / "examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/pyproject.toml"))
FLOOR = {"automm-tracks": 0.95, "automm-robust-loss": 0.85}
"""Accuracy on the test rows; both tables have two classes of about the same size."""

BLOCKED = """import sys
for name in ("torch", "lightning", "transformers", "sklearn", "lightgbm"):
    sys.modules[name] = None
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment with both distributions, and the folder of their checkouts."""
    folder = tmp_path_factory.mktemp("examples")
    for name in NAMES:
        ignored = shutil.ignore_patterns("data", "runs", "__pycache__")
        shutil.copytree(EXAMPLES / name, folder / name, ignore=ignored)
    python = make_environment(folder / "environment")
    install(python, *(folder / name for name in NAMES), folder=folder)
    return python, folder


@pytest.fixture(scope="module", params=NAMES)
def fitted(request, installed):
    """An example whose data were made and whose recipe was fitted."""
    python, folder = installed
    run_in(python, "make_data.py", folder=folder / request.param)
    run_in(python, "-m", "automm", "fit", "recipe.yaml", "--out", "run", "--quiet", folder=folder / request.param)
    return request.param, python, folder / request.param


def test_there_is_an_encoder_and_a_loss():
    assert set(NAMES) == set(FLOOR)


def test_schema_offers_them_with_words_and_ranges(installed):
    python, folder = installed
    schema = json.loads(run_in(python, "-m", "automm", "schema", folder=folder).stdout)
    offered = {word["const"]: word["description"] for word in schema["definitions"]["loss"]["anyOf"][0]["anyOf"]}
    assert offered["generalized_cross_entropy"].endswith("the less probable they are. (automm-robust-loss 1.0.0)")
    q = schema["definitions"]["loss.generalized_cross_entropy"]["properties"]["q"]
    assert q["description"].startswith("Near 0 it is the cross-entropy; 1 is the mean absolute error")
    assert q["description"].endswith("Searched by default: 0.1 to 0.9.")
    assert q["anyOf"][0] == {"exclusiveMinimum": 0, "maximum": 1, "type": "number"}
    assert "encoder.track_network" in schema["definitions"]


def test_own_tests_pass(installed):
    python, folder = installed
    tests = [f"{name}/tests" for name in NAMES]
    flags = ("-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-W", "error")
    done = run_in(python, "-m", "pytest", *flags, *tests, folder=folder, check=False)
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 100, "both distributions bring their tests and the kit"


def test_fit_finds_the_planted_signal(fitted):
    name, _, folder = fitted
    summary = json.loads((folder / "run" / "summary.json").read_text("utf-8"))
    assert summary["status"] == "ok"
    assert summary["test"]["accuracy"] >= FLOOR[name]
    if name == "automm-tracks":  # the other column tells nothing: both learners saw the tracks
        trials = [json.loads(line) for line in (folder / "run" / "events.jsonl").read_text("utf-8").splitlines()]
        values = [event["value"] for event in trials if event["event"] == "trial"]
        assert len(values) == 2
        assert min(values) > 0.9


def test_package_predicts_without_torch(fitted):
    name, python, folder = fitted
    code = f"{BLOCKED}sys.argv = ['automm', 'predict', 'run/package', 'data/test.csv', '-o', 'found.csv']\n"
    run_in(python, "-c", f"{code}import runpy; runpy.run_module('automm', run_name='__main__')", folder=folder)
    with (folder / "found.csv").open(encoding="utf-8") as file:
        found = [row["prediction"] for row in csv.DictReader(file)]
    with (folder / "data" / "test.csv").open(encoding="utf-8") as file:
        truth = [list(row.values())[-1] for row in csv.DictReader(file)]
    assert sum(a == b for a, b in zip(found, truth, strict=True)) / len(truth) >= FLOOR[name]


def test_a_package_says_which_distribution_it_needs(fitted):
    """The tests' own environment lacks the examples: their packages are refused by name, or need nothing of them."""
    name, _, folder = fitted
    done = run_in(sys.executable, "-m", "automm", "package", "verify", "run/package", folder=folder, check=False)
    if name == "automm-tracks":
        assert done.returncode != 0
        assert "tracks." in done.stderr
    else:
        assert done.returncode == 0, done.stderr
