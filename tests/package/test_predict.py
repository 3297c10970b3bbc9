"""Predicting: forms of data, refused rows, missing columns, threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from automm.errors import DataError, PackageError
from automm.runtime.predictor import load


@pytest.fixture(scope="module")
def predictor(made):
    return load(made.path, threads=1)


def warm(predictions):
    return predictions.columns["probability_warm"]


def test_every_form_of_data_gives_the_same(made, predictor):
    import pandas as pd

    rows = [{**row, "extra": 1} for row in made.rows]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    expected = warm(predictor.predict(rows, folder=made.media))
    for data in (columns, pd.DataFrame(rows), pa.table({**columns, "a": [str(a) for a in columns["a"]]}), tuple(rows)):
        assert warm(predictor.predict(data, folder=made.media)) == expected
    one = predictor.predict(rows[3], folder=str(made.media))
    assert len(one) == 1
    np.testing.assert_allclose(warm(one), expected[3:4], atol=1e-6)


def test_polars_like_frames_are_read(made, predictor):
    class Column(list):
        def to_list(self):
            return list(self)

    names = ("title", "a", "b", "photo")
    rows = made.rows[:2]
    data = {name: Column(row[name] for row in rows) for name in names}
    body = {"height": 2, "columns": names, "get_columns": list, "__getitem__": lambda self, name: data[name]}
    frame = type("Frame", (), body)()
    assert warm(predictor.predict(frame, folder=made.media)) == warm(predictor.predict(rows, folder=made.media))


def test_batches_do_not_change_the_order(made, predictor):
    whole = predictor.predict(made.rows, folder=made.media)
    pieces = predictor.predict(made.rows, folder=made.media, batch_size=5)
    np.testing.assert_allclose(warm(pieces), warm(whole), atol=1e-6)
    assert len(pieces) == 12


def test_bad_rows_are_refused_by_name_and_neighbours_keep_their_prediction(made, predictor):
    good = warm(predictor.predict(made.rows, folder=made.media))
    rows = [dict(row) for row in made.rows]
    rows[1]["photo"] = "absent.bin"
    rows[4]["a"] = "twelve"
    rows[4]["photo"] = "../../etc/passwd"
    rows[6]["title"] = "w " * 20
    rows[7]["title"] = "explode"
    for batch_size in (256, 3, 1):
        found = predictor.predict(rows, folder=made.media, batch_size=batch_size)
        assert sorted(found.refused) == [1, 4, 6, 7]
        assert found.refused[1] == "column 'photo': file not found: absent.bin"
        assert "column 'a': 'twelve' is not a number" in found.refused[4]
        assert "column 'photo'" in found.refused[4]
        assert found.refused[6] == "column 'title': 20 words are over the limit of 8"
        assert "ZeroDivisionError: boom" in found.refused[7]
        for at, value in enumerate(warm(found)):
            assert (value is None) == (at in found.refused)
            if value is not None:
                assert value == pytest.approx(good[at], abs=1e-6)
    assert found.rows[1] == {
        "prediction": None, "probability_cold": None, "probability_warm": None, "error": found.refused[1]
    }  # fmt: skip
    assert found.rows[0]["error"] is None


def test_all_rows_refused(made, predictor):
    found = predictor.predict([{**made.rows[0], "photo": "no.bin"}] * 3, folder=made.media)
    assert len(found) == 3
    assert sorted(found.refused) == [0, 1, 2]
    assert found.columns["prediction"] == [None] * 3


def test_no_rows(predictor):
    found = predictor.predict([])
    assert (len(found), found.rows) == (0, [])


def test_absent_columns_are_all_named(made, predictor):
    rows = [{"Title": "sun", "b": 1.0}]
    with pytest.raises(DataError, match=r"reads 3 columns.*'title' \(there is 'Title'\), 'a', 'photo'") as caught:
        predictor.predict([{"Title": "sun", "b": 1.0}, {"b": 2.0, "Title": "x"}])
    assert "allow_missing" in str(caught.value)
    assert predictor.predict(rows, allow_missing=True).refused == {}


def test_nearest_name_is_offered(predictor):
    with pytest.raises(DataError, match=r"'title' \(there is 'titles'\)"):
        predictor.predict(pa.table({"titles": ["x"], "a": [1], "b": [1], "photo": [b"1234"]}))


def test_missing_cells_are_masked_not_guessed(made, predictor):
    """The model multiplies by the presence flag, so a missing text answers like any other missing text."""
    import pandas as pd

    row = made.rows[0]
    spellings = [None, "", " NA ", float("nan"), "null", np.float32("nan"), pd.NA, pd.NaT]
    found = warm(predictor.predict([{**row, "title": cell} for cell in spellings], folder=made.media))
    assert len(set(found)) == 1
    assert found[0] != pytest.approx(warm(predictor.predict(row, folder=made.media))[0], abs=1e-4)


def test_media_need_a_folder_or_bytes(made, predictor):
    data = (made.media / "0.bin").read_bytes()
    by_path = predictor.predict(made.rows[0], folder=made.media)
    assert warm(predictor.predict({**made.rows[0], "photo": data})) == warm(by_path)
    assert "column 'photo'" in predictor.predict(made.rows[0]).refused[0]


def test_columns_of_different_length_are_refused(predictor):
    with pytest.raises(DataError, match="different lengths"):
        predictor.predict({"title": ["a", "b"], "a": [1]})
    with pytest.raises(DataError, match="row 1 is a str"):
        predictor.predict([{}, "x"])
    with pytest.raises(DataError, match="cannot read rows from int"):
        predictor.predict(3)


def test_not_finite_answers_are_refused(made, predictor, monkeypatch):
    real = predictor.package.graphs["main"]

    def broken(arrays):
        answers = real(arrays)
        answers["probability"][1] = np.nan
        return answers

    monkeypatch.setitem(predictor.package.graphs, "main", broken)
    found = predictor.predict(made.rows[:3], folder=made.media)
    assert found.refused == {1: "the model's answer is not a finite number"}
    assert warm(found)[1] is None
    assert warm(found)[2] == pytest.approx(float(made.expected(made.rows)["probability"][2, 1]), abs=1e-5)


def test_graph_with_too_few_answers_gives_no_predictions(made, predictor, monkeypatch):
    real = predictor.package.graphs["main"]
    monkeypatch.setitem(predictor.package.graphs, "main", lambda arrays: {n: a[:1] for n, a in real(arrays).items()})
    with pytest.raises(PackageError, match="for 3 rows"):
        predictor.predict(made.rows[:3], folder=made.media)


def test_threads_do_not_mix_answers(made, predictor):
    expected = [warm(predictor.predict(row, folder=made.media)) for row in made.rows]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda row: warm(predictor.predict(row, folder=made.media)), made.rows * 20))
    assert found == expected * 20


def test_to_pandas(made, predictor):
    frame = predictor.predict([made.rows[0], {**made.rows[1], "a": "x"}], folder=made.media).to_pandas()
    assert list(frame.columns) == ["prediction", "probability_cold", "probability_warm", "error"]
    assert frame["error"].notna().tolist() == [False, True]
