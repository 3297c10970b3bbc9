"""Series: recognising columns, reading files and cells, and standardising."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from automm_timeseries.modality import Series
from automm_timeseries.values import Values
from pyarrow import parquet

from automm.api import BadCell, BadCells, ColumnProfile, DataError


def npy(values, **options) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(values), **options)
    return stream.getvalue()


def npy_header(description: str, version: bytes = b"\x01\x00") -> bytes:
    head = description.encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + len(head).to_bytes(2 if version == b"\x01\x00" else 4, "little") + head


def parquet_bytes(**columns) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(pa.table(columns), stream)
    return stream.getvalue()


def fitted(cells, **fields) -> Values:
    processor = Values(Values.Config(**fields))
    processor.fit([cells])
    return processor


def plain(cell, channels=1, **fields) -> np.ndarray:
    """What a processor reads that does not standardise."""
    state = {"columns": [], "missing": False, "mean": np.zeros(channels), "std": np.full(channels, 1024.0)}
    return Values(Values.Config(**fields), state).load(cell)["values"] * 1024


# Recognising columns


def column(name="s", **facts) -> ColumnProfile:
    return ColumnProfile(**{"name": name, "storage": "string", "rows": 100, **facts})


def test_claims_series_files():
    claim = Series.claim(column(extensions={".npy": 0.9, ".csv": 0.1}, exists_share=1.0))
    assert claim.confidence == pytest.approx(0.95)
    assert Series.claim(column(extensions={".csv": 1.0}, exists_share=0.0)).confidence == pytest.approx(0.6)
    assert Series.claim(column(extensions={".wav": 1.0}, exists_share=1.0)) is None


def test_claims_lists_of_numbers_only():
    assert Series.claim(column(list_share=1.0, sample=("[1, 2.5]", "[3]"))).confidence == pytest.approx(0.9)
    assert Series.claim(column(storage="list", list_share=1.0, sample=([1, 2], [3]))).confidence == pytest.approx(0.9)
    assert Series.claim(column(storage="list", list_share=1.0, sample=(["red"], ["blue"]))) is None
    assert Series.claim(column(sample=("a", "b"))) is None


def family(values: np.ndarray, **facts) -> list[ColumnProfile]:
    return [column(f"v_{at}", number_share=1.0, sample=tuple(cells), **facts) for at, cells in enumerate(values.T)]


def test_claims_numbered_columns_by_name_or_smoothness():
    rng = np.random.default_rng(0)
    walks, noise = rng.normal(size=(6, 40)).cumsum(1), rng.normal(size=(6, 40))
    assert Series.claim_family("v", family(walks)).reason.endswith("similar values")
    assert Series.claim_family("v", family(noise)) is None
    assert "numbered by 't'" in Series.claim_family("t_", family(noise)).reason
    assert Series.claim_family("v", family(walks, nulls=3)) is None
    assert Series.claim_family("t", family(walks)[:5]) is None
    words = [column(f"t_{at}", number_share=0.2) for at in range(20)]
    assert Series.claim_family("t", words) is None


# Reading


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int8", "int64", "uint16", "bool", ">f4"])
def test_reads_npy(kind):
    values = np.array([[1, 0], [0, 1], [1, 1]]).astype(kind)
    np.testing.assert_allclose(plain(npy(values), 2), values.astype(np.float32))
    np.testing.assert_allclose(plain(npy(np.asfortranarray(values)), 2), values.astype(np.float32))
    np.testing.assert_allclose(plain(npy(values[:, 0])), values[:, :1].astype(np.float32))


def test_reads_a_path_like_its_bytes(tmp_path: Path):
    file = tmp_path / "a.bin"
    file.write_bytes(npy([1.0, 2.0]))
    np.testing.assert_allclose(plain(file), [[1], [2]])


@pytest.mark.parametrize(
    "cell",
    [
        "[[1, 10], [2.5, 20], [3, 30]]",
        b"[[1, 10], [2.5, 20], [3, 30]]",
        [[1, 10], [2.5, 20], [3, 30]],
        [["1", "10"], ["2.5", "2e1"], [" 3 ", "30.0"]],
        np.array([[1, 10], [2.5, 20], [3, 30]]),
        b"1,10\n2.5,20\n3,30\n",
        b"a,b\n1,10\n2.5,20\n3,30\n",
        b"\xef\xbb\xbfa;b\r\n1;10\r\n2,5;20\r\n3;30\r\n",
        b"a\tb\n1\t10\n2.5\t20\n3\t30",
        b"1 10\n2.5   20\n3 30\n",
        b"a,1\n1,10\n2.5,20\n3,30\n",
        b"a,a\n1,10\n2.5,20\n3,30\n",
        b"when,a,b,unit\n2024-01-01,1,10,mm\n2024-01-02,2.5,20,mm\n2024-01-03,3,30,mm\n",
    ],
)
def test_reads_lists_json_and_csv(cell):
    np.testing.assert_allclose(plain(cell, 2), [[1, 10], [2.5, 20], [3, 30]])


def test_reads_parquet():
    data = parquet_bytes(a=[1.0, None, 3.0], b=[10, 20, 30], word=["x", "y", "z"])
    np.testing.assert_allclose(plain(data, 2), [[1, 10], [2, 20], [3, 30]])


def test_reads_one_column_and_one_point():
    np.testing.assert_allclose(plain(b"value\n5\n6\n"), [[5], [6]])
    for cell in ([7], "[7]", npy([7]), b"7", b"value\n7"):
        np.testing.assert_allclose(plain(cell), [[7]])


def test_inline_text_is_told_from_paths():
    assert Values.inline(" [1, 2]")
    assert not Values.inline("series/a.npy")


# Learning the channels


def test_standardises_by_the_training_series():
    rng = np.random.default_rng(0)
    rows = [rng.normal([5, -200], [2, 30], (n, 2)) for n in (3, 50, 90)]
    every = np.concatenate(rows)
    processor = Values(Values.Config())
    processor.fit([[npy(rows[0]), None], [rows[1].tolist()], [json.dumps(rows[2].tolist())]])
    np.testing.assert_allclose(processor.state["mean"], every.mean(0))
    np.testing.assert_allclose(processor.state["std"], every.std(0))
    expected = (rows[1] - every.mean(0)) / every.std(0)
    np.testing.assert_allclose(processor.load(npy(rows[1]))["values"], expected, rtol=1e-5, atol=1e-6)
    assert processor.specs()["values"].shape == ("time", 2)


def test_constant_channels_and_outliers_stay_bounded():
    processor = fitted([[[518.67, 1], [518.67, 2]], [[518.67, 3], [518.67, 4]]])
    values = processor.load([[518.67, 2.5], [600.0, 1e25]])["values"]
    np.testing.assert_allclose(values, [[0, 0], [10, 10]], atol=1e-6)


def test_missing_samples_are_interpolated_and_flagged():
    complete = [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    assert fitted([complete]).channels == 2
    processor = fitted([complete, [[0.0, None], [2.0, 3.0]]])
    assert processor.channels == 3
    processor.state.update(mean=np.zeros(2), std=np.ones(2))
    gaps = [[0.0, None], ["", None], [4.0, "nan"], [float("inf"), 8.0]]
    expected = [[0, 8, 0.5], [2, 8, 1], [4, 8, 0.5], [4, 8, 0.5]]
    np.testing.assert_array_equal(processor.load(gaps)["values"], expected)
    processor.state.update(mean=np.array([0.0, 6.0]))
    np.testing.assert_array_equal(processor.load([[0.0, None], [1.0, None]])["values"][:, 1], [0, 0])


def table(rows: int, start=0, names="cycle,a,b,total") -> bytes:
    rng = np.random.default_rng(rows + start)
    body = np.column_stack(
        [np.arange(rows) + start, rng.normal(size=(rows, 2)).round(3), rng.uniform(1, 9, rows).cumsum().round(3)]
    )
    return (names + "\n" + "\n".join(",".join(map(str, line)) for line in body)).encode()


def test_a_clock_is_dropped_or_kept():
    cells = [table(10, 100), table(7, 3), table(1)]
    # `total` rises as well, but in uneven steps and without a clock's name: it is a measurement.
    assert fitted(cells, clock="drop").state["columns"] == ["a", "b", "total"]
    assert fitted(cells).state["columns"] == ["cycle", "a", "b", "total"]
    assert fitted([table(9, 1_700_000_000), table(5, 1_700_000_900)]).state["columns"] == ["a", "b", "total"]
    assert fitted(cells, clock="keep").state["columns"] == ["cycle", "a", "b", "total"]
    uneven = [table(9, names="x,a,b,Timestamp"), table(8, names="x,a,b,Timestamp")]
    assert fitted(uneven, clock="drop").state["columns"] == ["a", "b"]
    assert fitted([b"cycle\n1\n2\n3\n"], clock="drop").state["columns"] == ["cycle"]


def test_columns_are_taken_by_name():
    processor = fitted([b"a,b\n1,10\n3,30\n", b"a,b\n2,20\n1,10\n", b"c\n1\n"])
    values = processor.load(b"a,b\n1,30\n3,10\n")["values"]
    np.testing.assert_array_equal(processor.load(b"b,word,a\n30,x,1\n10,y,3\n")["values"], values)
    np.testing.assert_array_equal(processor.load([[1, 30], [3, 10]])["values"], values)
    with pytest.raises(BadCell, match=r"no column of numbers 'b' \(1 of 2 absent\)"):
        processor.load(b"a\n1\n2\n")
    with pytest.raises(BadCell, match="no column of numbers 'b'"):
        processor.load(b"a,b\n1,x\n2,y\n")


def test_other_channel_counts_are_refused():
    processor = fitted([[[1, 2], [3, 4]], [[5, 6]], [1, 2, 3]])
    with pytest.raises(BadCell, match="series of 1 channels; the training series have 2"):
        processor.load([1, 2, 3])


def test_nothing_to_learn_from():
    with pytest.raises(DataError, match="first problem: not a JSON list"):
        fitted(["[1, 2", None])
    with pytest.raises(DataError, match="all cells are missing"):
        fitted([None])


# Length


def test_longer_series_are_cut_or_averaged():
    values = list(range(10))
    np.testing.assert_allclose(plain(values, max_length=4)[:, 0], [6, 7, 8, 9])
    np.testing.assert_allclose(plain(values, max_length=5, longer="resample")[:, 0], [0.5, 2.5, 4.5, 6.5, 8.5])
    np.testing.assert_allclose(plain(values, max_length=3, longer="resample")[:, 0], [1, 4, 7.5])
    np.testing.assert_allclose(plain(values, max_length=20, longer="resample")[:, 0], values)


def test_batch_is_padded_and_masked():
    processor = fitted([[1, 2, 3, 4]])
    cells = [[1, 2, 3], None, [4]]
    batch = processor(cells)
    assert batch["values"].shape == (3, 3, 1)
    assert batch["mask"].tolist() == [[True, True, True], [False, False, False], [True, False, False]]
    for at, length in ((0, 3), (2, 1)):
        np.testing.assert_array_equal(batch["values"][at, :length], processor.load(cells[at])["values"])
    assert not batch["values"][~batch["mask"]].any()


def test_state_survives_json_and_npz(tmp_path: Path):
    cells = [table(10, 5), b"cycle,a,b,total\n1,2,,3\n2,2,1,4\n3,1,1,8\n"]
    processor = fitted(cells)
    arrays = {key: value for key, value in processor.state.items() if isinstance(value, np.ndarray)}
    np.savez(tmp_path / "state.npz", **arrays)
    text = json.dumps({key: value for key, value in processor.state.items() if key not in arrays}, allow_nan=False)
    with np.load(tmp_path / "state.npz", allow_pickle=False) as stored:
        state = {**json.loads(text), **stored}
    again = Values(Values.Config.model_validate_json(processor.config.model_dump_json()), state)
    assert again.specs() == processor.specs()
    for name, array in processor(cells).items():
        np.testing.assert_array_equal(again(cells)[name], array)


# What is refused


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 9)}", "over the limit of 5,000,000"),
        (
            "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 1000000)}",
            "1,000,000 channels is over the limit of 1,024",
        ),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1000, 9)}", "truncated .npy: 0 of 36,000 bytes"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (3,)}", "holds numbers"),
        ("{'descr': '<c8', 'fortran_order': False, 'shape': (3,)}", "holds numbers"),
        ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,)}", "holds numbers"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2, 2)}", "holds numbers"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "holds numbers"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': ()}", "holds numbers"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3)}", "no samples"),
        ("__import__('os').getcwd()", "damaged .npy header"),
        ("{" * 90, "damaged .npy header"),
    ],
)
def test_npy_headers_are_judged_first(header, message):
    with pytest.raises(BadCell, match=message):
        plain(npy_header(header))


def test_unknown_npy_version():
    with pytest.raises(BadCell, match=r"version \(9, 0\) is not supported"):
        plain(npy_header("{}", b"\x09\x00"))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (b"\x00\xff\xfe binary", "not a series file"),
        (b"PAR1 nonsense", "damaged Parquet"),
        (b"[1, 2", "not a JSON list"),
        ("[" * 100_000, "not a JSON list"),
        ('{"a": 1}', "not a list"),
        ("[[1, 2], [3]]", "1 to 2 channels"),
        ("[[[1]]]", "not a number"),
        ('[1, "abc"]', "sample 1 of the series is not a number: 'abc'"),
        ("[]", "no samples"),
        (np.zeros((2, 2, 2)), "not \\[2, 2, 2\\]"),
        (b"a,b\n1,2\n3\n", "row 1 of the CSV has 1 cells, not 2"),
        (b"a,b\n", "no samples"),
        (b"\n\n", "no samples"),
        (b"a,b\nx,y\n", "no column of numbers"),
        (b"", "file is empty"),
        (3.5, "a float is not a series"),
    ],
)
def test_unusable_cells_are_named(cell, message):
    with pytest.raises(BadCell, match=message):
        plain(cell)


def test_own_limits():
    wide = b",".join([b"1"] * 30)
    for cell in (wide, wide + b"\n" + wide, [[1] * 30], parquet_bytes(**{f"c{at}": [1.0] for at in range(30)})):
        with pytest.raises(BadCell, match="30 channels is over the limit of 20"):
            plain(cell, max_channels=20)
    long = [1.0] * 50
    for cell in (long, json.dumps(long), b"1\n" * 50, npy(long), parquet_bytes(a=long)):
        with pytest.raises(BadCell, match="over the limit of 40"):
            plain(cell, max_values=40)
    for cell in (b"1\n" * 50, json.dumps(long)):
        with pytest.raises(BadCell, match="over the limit of 99"):
            plain(cell, max_bytes=99)
    assert Values(Values.Config()).limits == {"values": 5_000_000, "channels": 1024, "bytes": 100_000_000}


def test_damaged_bytes_never_raise_anything_else():
    rng = np.random.default_rng(0)
    for clean in (npy(rng.normal(size=(20, 2))), parquet_bytes(a=[1.0, 2.0], b=[3, 4]), table(9)):
        for _ in range(150):
            data = np.frombuffer(clean, np.uint8).copy()
            data[rng.integers(0, len(data), 4)] = rng.integers(0, 256, 4)
            for cell in (data.tobytes(), data.tobytes()[: rng.integers(1, len(data))]):
                try:
                    plain(cell, 2)
                except BadCell:
                    continue


def test_every_bad_cell_of_a_batch_is_named(tmp_path: Path):
    with pytest.raises(BadCells) as caught:
        fitted([[1, 2, 3]])([[1], "[1", None, tmp_path / "no.npy"])
    assert caught.value.reasons == {1: "not a JSON list of numbers", 3: "file not found: no.npy"}
