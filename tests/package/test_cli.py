"""The commands predict, evaluate and package, on the files they read and write."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from automm.cli import evaluate, package, predict
from automm.errors import DataError, PackageError, StorageError, UsageError
from automm.runtime import ops
from automm.runtime.predictor import load

HEADER = ["row", "prediction", "probability_cold", "probability_warm", "error"]


def run(command, *arguments):
    """Runs a command; errors come out as they are."""
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


def run_failing(command, error, *arguments):
    result = CliRunner().invoke(command, [str(a) for a in arguments])
    assert isinstance(result.exception, error), (result.exception, result.output)
    return str(result.exception)


@pytest.fixture
def table(made, tmp_path):
    """A CSV beside its media, with three bad rows of seven and a column nobody reads."""
    for at in range(7):
        (tmp_path / f"{at}.bin").write_bytes((made.media / f"{at}.bin").read_bytes())
    rows = [{**row, "note": "x", "season": ("cold", "warm")[at % 2]} for at, row in enumerate(made.rows[:7])]
    rows[1]["photo"] = "absent.bin"
    rows[3]["a"] = "twelve"
    rows[6]["title"] = "w " * 9
    path = tmp_path / "table.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def without(path, column):
    with path.open() as file:
        rows = list(csv.DictReader(file))
    other = path.with_name(f"{path.stem}_without_{column}.csv")
    with other.open("w", newline="") as file:
        writer = csv.DictWriter(file, [name for name in rows[0] if name != column], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return other


@pytest.mark.parametrize("batch_size", [1, 2, 256])
def test_predict_writes_one_line_per_row_in_order(made, table, tmp_path, batch_size):
    out = tmp_path / "out.csv"
    result = run(predict.command, made.path, table, "-o", out, "--batch-size", batch_size)
    assert "7 rows: 4 predicted, 3 refused" in result.stderr
    assert result.stdout == ""
    with out.open() as file:
        assert next(csv.reader(file)) == HEADER
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == [str(n) for n in range(1, 8)]
    assert [row["row"] for row in rows if row["error"]] == ["2", "4", "7"]
    assert rows[1]["error"] == "column 'photo': file not found: absent.bin"
    assert "column 'a'" in rows[3]["error"]
    expected = load(made.path).predict(made.rows[:7], folder=made.media)
    for at in (0, 2, 4, 5):
        assert rows[at]["prediction"] == expected.columns["prediction"][at]
        assert float(rows[at]["probability_warm"]) == pytest.approx(expected.columns["probability_warm"][at], abs=1e-6)
    assert rows[3]["prediction"] == rows[3]["probability_warm"] == ""
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_json_lines_and_parquet_hold_the_same(made, table, tmp_path):
    run(predict.command, made.path, table, "-o", tmp_path / "o.jsonl")
    run(predict.command, made.path, table, "-o", tmp_path / "o.parquet", "--batch-size", 2)
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    parquet = pq.read_table(tmp_path / "o.parquet").to_pylist()
    assert list(lines[0]) == HEADER
    assert lines[1]["prediction"] is None
    assert [line["error"] for line in lines] == [line["error"] for line in parquet]
    for one, other in zip(lines, parquet, strict=True):
        assert one["row"] == other["row"]
        assert one["probability_cold"] == pytest.approx(other["probability_cold"], abs=1e-6) or one["error"]


def test_absent_columns_are_named_and_allowed_when_asked(made, table, tmp_path):
    poor = without(without(table, "title"), "b")
    text = run_failing(predict.command, DataError, made.path, poor, "-o", tmp_path / "o.csv")
    assert "reads 2 columns" in text
    assert "'title', 'b'" in text
    assert not (tmp_path / "o.csv").exists()
    result = run(predict.command, made.path, poor, "-o", tmp_path / "o.csv", "--allow-missing")
    assert "7 rows: 5 predicted, 2 refused" in result.stderr


def test_nothing_is_overwritten_or_left_half_written(made, table, tmp_path, monkeypatch):
    assert "input table" in run_failing(predict.command, UsageError, made.path, table, "-o", table)
    text = run_failing(predict.command, UsageError, made.path, table, "-o", tmp_path / "o.xlsx")
    assert "unknown ending '.xlsx'" in text
    out = tmp_path / "o.csv"
    out.write_text("old")

    def full(self, columns):
        raise OSError(28, "No space left")

    monkeypatch.setattr("automm.data.results._Csv.write", full)
    assert "No space left" in run_failing(predict.command, StorageError, made.path, table, "-o", out)
    assert out.read_text() == "old"
    assert list(tmp_path.glob(".*")) == []
    assert "no such file" in run_failing(predict.command, DataError, made.path, tmp_path / "no.csv", "-o", out)


def test_plugin_file_brings_operations(made, table, tmp_path, monkeypatch):
    monkeypatch.setattr(ops, "_LOCAL", {})
    out = tmp_path / "o.csv"
    assert "not installed here" in run_failing(predict.command, PackageError, made.path, table, "-o", out)
    plugin = Path(__file__).with_name("fake_ops.py")
    assert "4 predicted" in run(predict.command, made.path, table, "-o", out, "--plugin", plugin).stderr


def test_inspect_reads_only_the_manifest(made, copied):
    for path in copied.rglob("*"):
        if path.is_file() and path.name != "automm.json":
            path.unlink()
    text = run(package.command, "inspect", copied).stdout
    for words in ("weather", "target   season (class: cold, warm)", "photo (image) by fake.levels", "columns: a, b"):
        assert words in text
    assert json.loads(run(package.command, "inspect", "--json", copied).stdout)["format"] == "automm"


def test_verify_checks_files_that_loading_does_not_open(copied):
    assert "examples are as they were written" in run(package.command, "verify", copied).stdout
    (copied / "README.md").write_text("changed")
    (copied / ".stray").write_text("x")
    text = run_failing(package.command, PackageError, "verify", copied)
    assert ".stray: not part of the package" in text
    assert "README.md: 7 bytes" in text


@pytest.fixture
def task_plugin(tmp_path):
    """A local plugin file with the operations and a task that measures accuracy."""
    path = tmp_path / "seasons.py"
    source = Path(__file__).with_name("fake_ops.py").read_text()
    path.write_text(
        source
        + '''

from automm.api import Metric, TargetInfo, Task, hookimpl


class FakeClasses(Task):
    """Two seasons."""

    target_kind = "class"

    @classmethod
    def claim(cls, columns):
        return None

    @classmethod
    def metric_names(cls):
        return {"accuracy": True}

    def fit(self, cells):
        pass

    def encode(self, cells):
        names = self.state["names"]
        values = cells["season"]
        bad = {at: "unknown" for at, cell in enumerate(values) if cell not in names}
        if bad:
            raise BadCells(bad)
        return np.array([names.index(cell) for cell in values])

    def target(self):
        return TargetInfo("class", 2)

    def head(self, width):
        return None

    def answer(self, output):
        return {}

    def metrics(self):
        def accuracy(answers, target):
            return (answers["probability"].argmax(1) == target).double().mean().item()

        return {"accuracy": Metric(True, accuracy)}

    def decoder(self):
        return Pick(Pick.Config(names=tuple(self.state["names"])))


@hookimpl
def automm_register(register):
    register(FakeClasses)
'''
    )
    return path


def test_evaluate_measures_what_can_be_measured(made, table, task_plugin):
    text = table.read_text().replace(",cold", ",unheard", 1)  # the first row's target
    table.write_text(text)
    result = run(evaluate.command, made.path, table, "--json", "--plugin", task_plugin, "--batch-size", 3)
    report = json.loads(result.stdout)
    found = load(made.path).predict(made.rows[:7], folder=made.media).columns["prediction"]
    right = [found[at] == ("cold", "warm")[at % 2] for at in (2, 4, 5)]
    assert report["metrics"] == {"accuracy": pytest.approx(sum(right) / 3)}
    assert (report["rows"], report["refused"]) == (3, 4)
    assert report["refused_rows"]["1"] == "target: unknown"
    assert "absent.bin" in report["refused_rows"]["2"]
    lines = run(evaluate.command, made.path, table, "--plugin", task_plugin)
    assert lines.stdout.startswith("accuracy")
    assert "3 rows measured, 4 refused" in lines.stderr


def test_evaluate_needs_the_target(made, table, task_plugin):
    poor = without(table, "season")
    assert "'season'" in run_failing(evaluate.command, DataError, made.path, poor, "--plugin", task_plugin)


def test_evaluate_without_torch_says_what_to_install(made, table, monkeypatch):
    import sys

    from automm.errors import MissingExtraError

    monkeypatch.setitem(sys.modules, "torch", None)
    assert 'pip install "automm[train]"' in run_failing(evaluate.command, MissingExtraError, made.path, table)
