"""`automm package diff`: what differs, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from automm.cli import package
from automm.runtime.package import read_manifest

V1 = Path(__file__).parent / "fixtures" / "v1"


def diff(*arguments):
    """Runs the command as main does: what it returns is the exit code."""
    result = CliRunner().invoke(package.command, ["diff", *map(str, arguments)], standalone_mode=False)
    assert result.exception is None, result.exception
    return result.return_value, result.stdout


@pytest.fixture
def other(copied):
    """A later package of the same line: one limit, one metric and the parent differ."""
    path = copied / "automm.json"
    manifest = json.loads(path.read_text())
    manifest["created"] = "2030-01-01T00:00:00+00:00"
    manifest["inputs"][0]["limits"]["words"] = 6
    manifest["inputs"][0]["processor"]["config"]["most"] = 6
    manifest["metrics"]["test"]["accuracy"] = 0.75
    manifest["target"]["names"] = ["cold", "hot"]
    manifest["graphs"]["main"]["opset"] = 17
    path.write_text(json.dumps(manifest))
    return copied


def test_equal_packages(made):
    code, text = diff(made.path, made.path)
    assert (code, text) == (0, "no difference\n")
    report = json.loads(diff(made.path, made.path, "--json")[1])
    assert report["equal"]
    assert report["differences"] == {}


def test_differences_are_named_by_section(made, other):
    code, text = diff(made.path, other)
    assert code == 1
    for line in (
        "  title.limits.words: 8 → 6  (-2)",
        "  title.config.most: 8 → 6  (-2)",
        "  test.accuracy: 0.5 → 0.75  (+0.25)",
        "  names: cold, warm → cold, hot",
        "  main.opset: 18 → 17  (-1)",
    ):
        assert line in text.splitlines(), text
    assert "created" not in text
    report = json.loads(diff(made.path, other, "--json")[1])
    assert set(report["differences"]) == {"inputs", "processors", "metrics", "target", "graphs"}
    assert report["differences"]["metrics"] == [{"what": "test.accuracy", "a": 0.5, "b": 0.75}]


def test_the_parent_is_recognised(made, copied):
    path = copied / "automm.json"
    manifest = json.loads(path.read_text())
    manifest["lineage"]["parent"] = read_manifest(made.path)[1]
    path.write_text(json.dumps(manifest))
    code, text = diff(made.path, copied)
    assert code == 1
    assert text.endswith("B continues A\n")
    assert json.loads(diff(made.path, copied, "--json")[1])["b_continues_a"]


def test_other_models_differ_in_inputs_graph_and_size(made):
    report = json.loads(diff(V1, made.path, "--json")[1])
    found = {section: {item["what"] for item in items} for section, items in report["differences"].items()}
    assert {"note.modality", "photo.limits.pixels"} <= found["inputs"]
    assert {"main.sha256", "main.bytes", "main.inputs"} <= found["graphs"]
    assert "bytes" in found["size"]
    assert "plan" in found["lineage"]


def test_latency_is_measured_when_asked(made):
    code, text = diff(made.path, made.path, "--latency")
    assert code == 0
    assert "latency of one row: " in text
    times = json.loads(diff(V1, V1, "--latency", "--json")[1])["latency_ms"]
    assert 0 < times["a"] < 1000
