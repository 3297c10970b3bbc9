"""Files larger than memory: flat memory, a progress bar, and no half results."""

from __future__ import annotations

import csv
import io
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import automm
from automm.errors import DataError, UsageError
from automm.runtime.predictor import Predictor, load

V1 = Path(__file__).parent / "fixtures" / "v1"
COLUMNS = ["note", "degrees", "place", "photo", "remark"]
SMALL, LARGE = 400, 1_200
WIDE = 40_000
"""Characters of a column that the model does not read: the large file has 48 MB, the small one 16."""
GROWTH = 20
"""Most MiB by which the process may be larger for the large file."""

CHILD = """
import resource, sys
import automm
automm.predict_file(sys.argv[1], sys.argv[2], sys.argv[3])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.fixture(scope="module")
def predictor():
    return load(V1, threads=1)


def rows(count, wide=WIDE):
    filler = np.random.default_rng(0).integers(97, 122, WIDE + count, np.uint8).tobytes().decode()
    for at in range(count):
        yield [f"snow number {at % 7}", f"{at % 30}", ("north", "sea")[at % 2], "", filler[at : at + wide]]


def write(path, count, wide=WIDE):
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerow(COLUMNS)
            csv.writer(file).writerows(rows(count, wide))
    elif path.suffix == ".jsonl":
        with path.open("w") as file:
            file.writelines(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in rows(count))
    else:
        schema = pa.schema([(name, pa.string()) for name in COLUMNS])
        with pq.ParquetWriter(path, schema) as file:
            source = rows(count)
            while piece := list(itertools.islice(source, 200)):
                columns = [pa.array(column) for column in zip(*piece, strict=True)]
                file.write_table(pa.Table.from_arrays(columns, schema=schema))
    return path


def peak(table, out):
    """Peak resident MiB of a process that predicts a file."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(V1), str(table), str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout) / 1024


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path, ending):
    small, large = write(tmp_path / f"small{ending}", SMALL), write(tmp_path / f"large{ending}", LARGE)
    assert ending == ".parquet" or large.stat().st_size > 40e6
    base = peak(small, tmp_path / "first.parquet")
    grown = peak(large, tmp_path / f"large.out{ending}") - base
    assert grown < GROWTH, f"{base:.0f} MiB for {SMALL} rows, {grown:.0f} more for {LARGE}"
    if ending == ".parquet":
        found = pq.read_table(tmp_path / "large.out.parquet")
        assert found.column("row").to_pylist() == list(range(1, LARGE + 1))
        assert found.column("error").null_count == LARGE
        assert pq.ParquetFile(tmp_path / "large.out.parquet").num_row_groups == 1


def test_results_are_those_of_predict(predictor, tmp_path):
    table = write(tmp_path / "t.csv", 40, 10)
    counts = automm.predict_file(predictor, table, tmp_path / "o.jsonl", batch_size=7)
    assert (counts.rows, counts.refused) == (40, 0)
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    cells = [dict(zip(COLUMNS, row, strict=True)) for row in rows(40, 10)]
    expected = predictor.predict(cells, folder=tmp_path)
    assert [line["row"] for line in lines] == list(range(1, 41))
    assert [line["prediction"] for line in lines] == expected.columns["prediction"]
    np.testing.assert_allclose(
        [line["probability_warm"] for line in lines], expected.columns["probability_warm"], atol=1e-6
    )


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_table_that_breaks_off_leaves_no_result(predictor, tmp_path):
    table = write(tmp_path / "t.csv", 250)
    with table.open("a") as file:
        file.write("one,cell,too,few\n")
    with pytest.raises(DataError, match="line 252: 4 cells instead of 5"):
        automm.predict_file(predictor, table, tmp_path / "o.csv")
    assert left(tmp_path) == ["t.csv"]


def test_what_is_stopped_leaves_no_result(predictor, tmp_path, monkeypatch):
    table, real = write(tmp_path / "t.csv", 600, 10), Predictor.predict_chunks

    def stopped(self, chunks, **options):
        found = real(self, chunks, **options)
        yield next(found)
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "predict_chunks", stopped)
    (tmp_path / "o.parquet").write_text("older")
    with pytest.raises(KeyboardInterrupt):
        automm.predict_file(predictor, table, tmp_path / "o.parquet")
    assert left(tmp_path) == ["o.parquet", "t.csv"]
    assert (tmp_path / "o.parquet").read_text() == "older"


def test_killed_process_leaves_no_result_under_the_name(tmp_path):
    table = write(tmp_path / "t.csv", 2_000, 10)
    code = (
        "import os, automm\nfrom automm.runtime.predictor import Predictor\nreal = Predictor._batch\n"
        "def batch(self, table, rows, folder):\n    batch.calls += 1\n"
        "    return real(self, table, rows, folder) if batch.calls < 4 else os.kill(os.getpid(), 9)\n"
        f"batch.calls = 0\nPredictor._batch = batch\nautomm.predict_file({str(V1)!r}, {str(table)!r}, 'o.csv')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    assert not (tmp_path / "o.csv").exists()


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("shown", "terminal"), [(True, True), (False, True), (True, False)])
def test_a_bar_is_shown_on_a_terminal(predictor, tmp_path, monkeypatch, shown, terminal):
    screen = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    automm.predict_file(predictor, write(tmp_path / "t.csv", 600, 10), tmp_path / "o.csv", progress=shown)
    if shown and terminal:
        assert "256/600" in screen.getvalue()
        assert "600/600" in screen.getvalue()
    else:
        assert screen.getvalue() == ""


def test_batches_beyond_the_packages_limit_are_refused(predictor, tmp_path):
    table = write(tmp_path / "t.csv", 3, 10)
    with pytest.raises(UsageError, match="5,000 rows at a time are over the package's limit of 1,024"):
        automm.predict_file(predictor, table, tmp_path / "o.csv", batch_size=5000)
    with pytest.raises(DataError, match="2,000 rows at a time are over the package's limit"):
        predictor.predict({"note": ["x"] * 2000}, allow_missing=True, batch_size=2000)


def test_frames_are_predicted_piece_by_piece(predictor, monkeypatch):
    """Of a table of 600 rows, no more than one batch becomes Python objects at a time."""
    pd = pytest.importorskip("pandas")
    columns = dict(zip(COLUMNS, map(list, zip(*rows(600, 10), strict=True)), strict=True))
    expected = predictor.predict(columns, allow_missing=True).columns
    sizes, real = [], Predictor._batch

    def batch(self, table, count, folder):
        sizes.append(len(table["note"]))
        return real(self, table, count, folder)

    monkeypatch.setattr(Predictor, "_batch", batch)
    for data in (pa.table(columns), pa.table(columns).combine_chunks().to_batches()[0], pd.DataFrame(columns)):
        sizes.clear()
        found = predictor.predict(data)
        assert found.columns["prediction"] == expected["prediction"]
        np.testing.assert_allclose(found.columns["probability_cold"], expected["probability_cold"], atol=1e-6)
        assert sizes == [256, 256, 88]


def test_rows_of_varying_length_run_a_few_at_a_time(predictor, monkeypatch):
    """All rows of a run are padded to the longest; the results are those of single rows, refused ones included."""
    columns = dict(zip(COLUMNS, map(list, zip(*rows(70, 10), strict=True)), strict=True))
    alone = [predictor.predict({name: cells[at] for name, cells in columns.items()}).rows[0] for at in range(70)]
    sizes, real = [], type(predictor.package).run

    def run(self, arrays, count):
        sizes.append(count)
        return real(self, arrays, count)

    monkeypatch.setattr(type(predictor.package), "run", run)
    found = predictor.predict(columns)
    assert max(sizes) <= 32
    assert len(sizes) == 3
    assert found.columns["prediction"] == [row["prediction"] for row in alone]
    expected = [row["probability_cold"] for row in alone]
    np.testing.assert_allclose(found.columns["probability_cold"], expected, atol=1e-5)


def test_empty_table_is_an_error(predictor, tmp_path):
    (tmp_path / "t.csv").write_text(",".join(COLUMNS) + "\n")
    with pytest.raises(DataError, match="a header but no rows"):
        automm.predict_file(predictor, tmp_path / "t.csv", tmp_path / "o.csv")
    assert left(tmp_path) == ["t.csv"]
