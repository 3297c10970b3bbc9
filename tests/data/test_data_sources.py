from __future__ import annotations

import gzip
import json
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from data_fakes import table_of, write_csv

from automm.core.cells import NULLS, is_null
from automm.data.sources import open_table
from automm.errors import DataError


def read(folder: Path, *sources: str):
    return open_table(sources, folder, folder / "cache")


def put(folder: Path, name: str, data: str | bytes, encoding: str = "utf-8") -> str:
    (folder / name).write_bytes(data.encode(encoding) if isinstance(data, str) else data)
    return name


def contents(table) -> dict[str, list]:
    return table.take(table.columns, None)


PEOPLE = "name,city\nJosé,São Paulo\nZoë,Malmö\nAna,Köln und mehr\n"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "cp1252", "latin-1"]
)
def test_encodings_of_western_text(tmp_path, encoding):
    table = read(tmp_path, put(tmp_path, "a.csv", PEOPLE, encoding))
    assert contents(table) == {"name": ["José", "Zoë", "Ana"], "city": ["São Paulo", "Malmö", "Köln und mehr"]}
    assert bool(table.notes) == (encoding in ("utf-16-le", "utf-16-be", "cp1252", "latin-1"))


def test_chinese_in_gbk_and_gb18030(tmp_path):
    text = "评论,好\n酒店位置不错，挺方便的。房间干净,1\n房间很差，暖气不足，被子又薄,0\n"
    for encoding in ("gbk", "gb18030"):
        table = read(tmp_path, put(tmp_path, f"{encoding}.csv", text, encoding))
        assert table.cells("评论")[0] == "酒店位置不错，挺方便的。房间干净"
        assert "GB18030" in table.notes[0]


def test_accented_latin_is_not_taken_for_chinese(tmp_path):
    text = "a;b\nÉÈÊ çà, où déjà vu;ÄÖÜ äöü ß straße\n" * 5
    table = read(tmp_path, put(tmp_path, "a.csv", text, "cp1252"))
    assert table.cells("b")[0] == "ÄÖÜ äöü ß straße"


def test_utf8_with_one_broken_byte_stays_utf8(tmp_path):
    data = ("word,n\n" + "naïve café déjà,1\n" * 20).encode() + b"broken \xff here,2\n"
    table = read(tmp_path, put(tmp_path, "a.csv", data))
    assert table.cells("word")[0] == "naïve café déjà"
    assert table.cells("word")[-1] == "broken \ufffd here"
    assert "broken bytes" in table.notes[0]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters(tmp_path, delimiter):
    lines = [["id", "text", "n"], ["1", "a, b; c | d", "1,5"], ["2", 'she said "hi"', "2,5"]]
    quoted = ['"' + cell.replace('"', '""') + '"' for row in lines for cell in row]
    text = "\n".join(delimiter.join(quoted[at : at + 3]) for at in (0, 3, 6))
    table = read(tmp_path, put(tmp_path, "a.txt", text))
    assert contents(table) == {"id": ["1", "2"], "text": ["a, b; c | d", 'she said "hi"'], "n": ["1,5", "2,5"]}


def test_newlines_and_blank_lines(tmp_path):
    text = 'a,b\r\n"first\nsecond",1\r\n\r\n"x\r\ny",2\r\n'
    table = read(tmp_path, put(tmp_path, "a.csv", text))
    assert contents(table) == {"a": ["first\nsecond", "x\r\ny"], "b": ["1", "2"]}


def test_tsv_with_stray_quotes(tmp_path):
    text = "a\tb\n" + '"Hello he said\t1\n5" screen\t2\nplain\t3\n'
    table = read(tmp_path, put(tmp_path, "a.tsv", text))
    assert table.cells("a") == ['"Hello he said', '5" screen', "plain"]


def test_single_column_text_and_excel_hint(tmp_path):
    table = read(tmp_path, put(tmp_path, "a.txt", "sentence\nOne, two; three.\nNo comma here\nYes, one\n"))
    assert contents(table) == {"sentence": ["One, two; three.", "No comma here", "Yes, one"]}
    table = read(tmp_path, put(tmp_path, "b.csv", "sep=;\na;b,c\n1;2\n"))
    assert contents(table) == {"a": ["1"], "b,c": ["2"]}


def test_ragged_lines_are_named_with_their_line_numbers(tmp_path):
    text = 'a,b,c\n1,2,3\n"x\ny",2,3\n1,2\n1,2,3\n1,2,3,4\n'
    with pytest.raises(DataError, match=r"(?s)header of 3 columns.*line 5: 2 cells instead of 3.*line 7: 4 cells"):
        read(tmp_path, put(tmp_path, "a.csv", text))
    assert not list((tmp_path / "cache").glob("*.arrow*"))
    table = read(tmp_path, put(tmp_path, "b.csv", "a,b\n1,2,,\n3,4\n"))  # empty cells too many do no harm
    assert contents(table) == {"a": ["1", "3"], "b": ["2", "4"]}


def test_a_quote_that_is_never_closed_is_named(tmp_path):
    rows = "".join(f'{at},"text {at}"\n' for at in range(5))
    with pytest.raises(DataError, match="line 7: a quote is opened and never closed"):
        read(tmp_path, put(tmp_path, "a.csv", "n,t\n" + rows + '5,"open\n' + "6,plain\n" * 3))


def test_header_repairs_are_said(tmp_path):
    table = read(tmp_path, put(tmp_path, "a.csv", "x,,x,x_2\n1,2,3,4\n"))
    assert contents(table) == {"x": ["1"], "column_2": ["2"], "x_3": ["3"], "x_2": ["4"]}
    assert "column 2 has no name" in table.notes[0]
    assert "two columns are called 'x'" in table.notes[1]
    assert "header missing" in read(tmp_path, put(tmp_path, "b.csv", "5.1,3.5\n4.9,3.1\n")).notes[0]


def test_null_spellings_are_none_exactly_where_is_null_says(tmp_path):
    spellings = [*sorted(NULLS - {""}), " NA ", "None", "NULL", "x", "nothing", "na na", "   null  ", "0"]
    table = table_of(tmp_path, ["k", "cell"], [[at, cell] for at, cell in enumerate(spellings)])
    assert table.cells("cell") == [None if is_null(cell) else cell for cell in spellings]


def test_jsonl_types(tmp_path):
    rows = [
        {"n": 1, "f": 1, "b": True, "s": "x", "l": [1, 2], "mix": 1, "deep": {"a": 1}},
        {"n": None, "f": 1.5, "b": False, "s": "NA", "l": [], "mix": "two", "deep": None, "late": "only here"},
        {"n": 3, "l": [1.5], "m": [[1, 2], [3, 4]], "names": ["a", "b"]},
    ]
    put(tmp_path, "a.jsonl", "\n\n".join(map(json.dumps, rows)))
    assert contents(read(tmp_path, "a.jsonl")) == {
        "n": [1, None, 3],
        "f": [1.0, 1.5, None],
        "b": [True, False, None],
        "s": ["x", None, None],
        "l": [[1.0, 2.0], [], [1.5]],
        "mix": ["1", "two", None],
        "deep": ['{"a": 1}', None, None],
        "late": [None, "only here", None],
        "m": [None, None, [[1.0, 2.0], [3.0, 4.0]]],
        "names": [None, None, ["a", "b"]],
    }


def test_jsonl_problems_have_line_numbers(tmp_path):
    for text, message in (
        ('{"a": 1}\n{"a": \n', "line 2: not JSON"),
        ('{"a": 1}\n\n[1]\n', "line 3: not a JSON object; JSON lines are expected"),
    ):
        with pytest.raises(DataError, match=message):
            read(tmp_path, put(tmp_path, "a.jsonl", text))
    assert read(tmp_path, put(tmp_path, "b.jsonl", '{"a": NaN}\n{"a": 2.5}\n')).cells("a") == [None, 2.5]


def typed() -> pa.Table:
    return pa.table(
        {
            "i": pa.array([1, None, 3], pa.int32()),
            "f": pa.array([0.5, float("nan"), 2.0], pa.float32()),
            "s": pa.array(["a", "N/A", "c"]).dictionary_encode(),
            "t": pa.array([datetime(2024, 1, 2, 3, 4, 5, 600), None, datetime(2025, 1, 1)], pa.timestamp("ns")),
            "d": pa.array([date(2024, 1, 2), None, date(2025, 1, 1)]),
            "l": pa.array([[1.0, 2.0], None, []], pa.list_(pa.float32())),
            "bytes": pa.array([b"\x89PNG", None, b""]),
            "img": pa.array([{"bytes": b"abc", "path": "x.png"}, None, {"bytes": None, "path": "y.png"}]),
            "void": pa.nulls(3),
        }
    )


@pytest.mark.parametrize("name", ["a.parquet", "a.feather", "a.arrow", "wrong_ending.csv"])
def test_typed_files(tmp_path, name):
    if name.endswith(".arrow"):
        with pa.ipc.new_stream(tmp_path / name, typed().schema) as writer:
            writer.write_table(typed())
    elif name.endswith(".feather"):
        pyarrow.feather.write_feather(typed(), tmp_path / name)
    else:
        pq.write_table(typed(), tmp_path / name)
    assert contents(read(tmp_path, name)) == {
        "i": [1, None, 3],
        "f": [0.5, None, 2.0],
        "s": ["a", None, "c"],
        "t": [datetime(2024, 1, 2, 3, 4, 5, 600), None, datetime(2025, 1, 1)],
        "d": [date(2024, 1, 2), None, date(2025, 1, 1)],
        "l": [[1.0, 2.0], None, []],
        "bytes": [b"\x89PNG", None, b""],
        "img": [b"abc", None, "y.png"],
        "void": [None, None, None],
    }


def test_gzip_folders_and_several_files(tmp_path):
    with gzip.open(tmp_path / "z.csv.gz", "wt", encoding="utf-8") as file:
        file.write(PEOPLE)
    assert read(tmp_path, "z.csv.gz").rows == 3
    parts = tmp_path / "parts"
    parts.mkdir()
    for at in range(3):
        pq.write_table(pa.table({"x": [at], "y": [float(at)]}), parts / f"part-{at}.parquet")
    (parts / "_SUCCESS").touch()
    table = read(tmp_path, "parts")
    assert contents(table) == {"x": [0, 1, 2], "y": [0.0, 1.0, 2.0]}
    assert table.folder == parts.resolve()
    put(tmp_path, "more.csv", "y,x\n9,8\n")  # other order, other types: read as text
    assert contents(read(tmp_path, "parts", "more.csv"))["x"] == ["0", "1", "2", "8"]
    put(tmp_path, "other.csv", "x,z\n9,8\n")
    with pytest.raises(DataError, match=r"other.csv: its columns differ.*no column 'y'"):
        read(tmp_path, "parts", "other.csv")
    write_csv(parts / "stray.csv", ["x"], [[1]])
    with pytest.raises(DataError, match="different formats"):
        read(tmp_path, "parts")


def test_datasets_folder(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    data = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features)
    data.save_to_disk(tmp_path / "one")
    assert contents(read(tmp_path, "one")) == {"text": ["a", "b", "c"], "label": ["yes", "no", None]}
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "both")
    with pytest.raises(DataError, match="several splits; name one: both/train, both/test"):
        read(tmp_path, "both")
    assert read(tmp_path, "both/test").rows == 3


def test_hub_without_network_fails_at_once(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="hub cannot be reached"):
        read(tmp_path, "hf://some/name:config")
    with pytest.raises(DataError, match="write hf://name"):
        read(tmp_path, "hf://#train")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "  \n\n", "is empty"),
        ("a.csv", "a,b\n", "header but no rows"),
        ("a.csv", b"PK\x03\x04junk", "Excel"),
        ("a.csv", bytes(range(256)) * 20, "binary data"),
        ("a.jsonl", "\n", "is empty"),
        ("a.xyz", "a,b\n1,2\n", "unknown file format '.xyz'"),
        ("a.parquet", b"PAR1 not really", "not a readable Parquet file"),
        ("a.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)[:-9], "damaged gzip"),
    ],
)
def test_unusable_files(tmp_path, name, data, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, put(tmp_path, name, data))


def test_missing_files_name_their_neighbours(tmp_path):
    put(tmp_path, "products.csv", "a\n1\n")
    with pytest.raises(DataError, match=r"product.csv: file not found; in that folder there are: products.csv"):
        read(tmp_path, "product.csv")
    with pytest.raises(DataError, match="folder not found"):
        read(tmp_path, "nowhere/deep/a.csv")


def test_the_cache_follows_the_sources(tmp_path):
    put(tmp_path, "a.csv", "x\n1\n")
    first = read(tmp_path, "a.csv")
    stamp = first.path.stat().st_mtime_ns
    assert read(tmp_path, "a.csv").path.stat().st_mtime_ns == stamp
    put(tmp_path, "b.csv", "x\n1\n")
    assert read(tmp_path, "b.csv").digest == first.digest
    put(tmp_path, "a.csv", "x\n2\n3\n")
    again = read(tmp_path, "a.csv")
    assert again.cells("x") == ["2", "3"]
    assert again.digest != first.digest
    assert not list((tmp_path / "cache").glob("*part*"))


def test_rows_come_in_the_order_asked_over_many_batches(tmp_path):
    table = table_of(tmp_path, ["n", "t"], [[at, f"text {at}"] for at in range(20_001)])
    assert table.rows == 20_001
    rows = np.random.default_rng(0).integers(0, 20_001, 500)
    assert table.take(["t", "n"], rows) == {"t": [f"text {at}" for at in rows], "n": [str(at) for at in rows]}
    assert table.cells("n", slice(8190, 8194)) == ["8190", "8191", "8192", "8193"]
    assert table.cells("n", np.array([], int)) == []
    seen = [(numbers.tolist(), cells["n"]) for numbers, cells in table.chunks(["n"], np.arange(20_000, 0, -1), 6000)]
    assert [len(numbers) for numbers, _ in seen] == [6000, 6000, 6000, 2000]
    assert all(cells == [str(n) for n in numbers] for numbers, cells in seen)
    with pytest.raises(IndexError):
        table.cells("n", np.array([20_001]))
    with pytest.raises(DataError, match="no column 'x'"):
        table.cells("x")
