"""Vectors for trees and linear models, and columns of lists."""

import json
import math

import numpy as np
import pytest
from automm_tabular import lists, reading
from automm_tabular.modality import Tabular
from automm_tabular.processor import Table
from automm_tabular.vector import Vector
from automm_text.modality import Text

from automm.api import BadCells, ColumnProfile
from automm.data.profile import profile_table
from automm.data.sources import open_table

EURO = ["1,234 €", "12 €", "€ 3.5", None, "7,000,001.25 USD", "45 %", "-2 €"] * 6


def fitted(cells, types, cls=Vector, **config):
    made = cls(cls.Config(columns=tuple(cells), types=types, **config))
    made.fit([cells])
    return made


def entries(vector, cells):
    """Entry name → its values."""
    found = vector(cells)["vector"]
    return dict(zip(vector.names, found.T, strict=True))


def test_numbers_keep_their_order_and_are_linear_near_the_median():
    vector = fitted({"x": [str(i) for i in range(101)]}, {"x": "number"})
    found = entries(vector, {"x": ["50", "100", "0", "200", "1e9", "", "1e300"]})["x: value"]
    assert found[:3] == pytest.approx([0, 1, -1])  # the quartiles are 50 apart
    assert found[3] == 3
    assert found[4] == pytest.approx(3 + math.log1p((1e9 - 50) / 50 - 3))
    assert math.isnan(found[5])
    assert found[6] > found[4]


def test_few_numbers_give_products_and_differences():
    cells = {"a": ["1", "2", "3", "4", "5"], "b": ["2", "2", "1", "9", "4"], "c": ["7", "8"] + ["7"] * 3}
    vector = fitted(cells, dict.fromkeys(cells, "number"))
    assert vector.names == [
        "a: value",
        "b: value",
        "c: value",
        *(f"{x} {s} {y}" for x, y in ("ab", "ac", "bc") for s in "×−"),
    ]
    found = entries(vector, cells)
    assert np.argsort(found["a × b"], kind="stable").tolist() == [0, 2, 1, 4, 3]  # 2, 4, 3, 36, 20
    assert np.argsort(found["a − b"], kind="stable").tolist() == [3, 0, 1, 4, 2]  # -1, 0, 2, -5, 1
    half = entries(vector, {"a": ["1"], "b": [None], "c": ["7"]})
    assert math.isnan(half["a × b"][0])
    assert not math.isnan(half["a × c"][0])
    many = {f"x{i}": ["1", "2"] for i in range(9)}
    assert len(fitted(many, dict.fromkeys(many, "number")).names) == 9


def test_large_numbers_that_differ_little_stay_apart():
    cells = [str(10**15 + i) for i in range(100)]
    found = entries(fitted({"x": cells}, {"x": "number"}), {"x": cells})["x: value"]
    assert (np.diff(found) > 0).all()


def test_numbers_with_signs_are_read_at_once_as_one_by_one():
    whole = reading.numbers(EURO)
    assert not whole.bad
    assert whole.values[:7] == pytest.approx([1234, 12, 3.5, math.nan, 7000001.25, 45, -2], nan_ok=True)
    alone = [reading.numbers([cell]).values[0] for cell in EURO]
    assert np.array_equal(whole.values, alone, equal_nan=True)


def test_iso_dates_are_read_at_once_as_one_by_one():
    cells = ["2024-02-29", "1969-12-31 23:59", None, "0001-01-01T00:00:00", "2024-12-31T12:30:15", ""] * 8
    for column in (cells, [cell for cell in cells if cell], [*cells, "29.02.2024", "2023-02-29"]):
        whole = reading.times(column)
        alone = [reading.times([cell]) for cell in column]
        assert np.array_equal(whole.values, [one.values[0] for one in alone], equal_nan=True)
        assert whole.bad == [at for at, one in enumerate(alone) if one.bad]


def test_dates_give_the_parts_that_vary():
    vector = fitted({"day": ["2024-01-01", "2024-03-05", "2024-06-30", "2024-12-24"]}, {"day": "date"})
    assert "day: hour" not in vector.names
    assert "day: year" not in vector.names
    found = entries(vector, {"day": ["2024-07-03", None]})
    assert found["day: month"][0] == 6
    assert found["day: day"][0] == 2
    assert found["day: weekday"][0] == 2
    assert found["day: cos month"][0] == pytest.approx(-1)
    assert all(math.isnan(values[1]) for values in found.values())


def test_truth_values():
    found = entries(fitted({"x": ["yes", "no"]}, {"x": "boolean"}), {"x": ["no", "TRUE", None]})
    assert found["x: true"] == pytest.approx([0, 1, math.nan], nan_ok=True)


def test_few_categories_are_one_hot_and_a_new_one_is_none_of_them():
    vector = fitted({"x": ["a", "a", "a", "b", "b", "c"]}, {"x": "category"})
    assert vector.names == ["x: is a", "x: is b"]
    found = vector({"x": ["a", "b", "c", "never", None]})["vector"]
    assert found[:4].tolist() == [[1, 0], [0, 1], [0, 0], [0, 0]]
    assert np.isnan(found[4]).all()


def test_many_categories_have_rank_and_frequency_too():
    cells = [f"v{i}" for i in range(10) for _ in range(20 - i)]
    found = entries(fitted({"x": cells}, {"x": "category"}, levels=3), {"x": ["v0", "v9", "never", None]})
    assert list(found) == ["x: is v0", "x: is v1", "x: is v2", "x: rank", "x: frequency"]
    assert found["x: rank"] == pytest.approx([0, 9, math.nan, math.nan], nan_ok=True)
    assert found["x: frequency"] == pytest.approx([math.log(21), math.log(12), 0, math.nan], nan_ok=True)


@pytest.mark.parametrize(
    "cells",
    [
        ["a|b", "b", "c|a", "a"],
        ["a; b", "b;", "c ;a", " a"],
        ['["a", "b"]', '["b"]', '["c", "a", "a"]', '["a"]'],
        ["['a', 'b']", "['b']", "['c', 'a']", "['a']"],
        [["a", "b"], ["b"], ["c", "a"], ["a", None]],
    ],
)
def test_lists_are_multi_hot_however_they_are_written(cells):
    vector = fitted({"x": cells}, {"x": "list"})
    assert vector.names == ["x: others", "x: has a", "x: has b", "x: items"]
    found = vector({"x": [*cells, None]})["vector"]
    assert found[:4].tolist() == [[0, 1, 1, 2], [0, 0, 1, 1], [1, 1, 0, 2], [0, 1, 0, 1]]
    assert np.isnan(found[4]).all()


def test_the_table_reads_lists_as_well():
    table = fitted({"x": ["a|b", "b", "c|a", "a", None]}, {"x": "list"}, Table)
    assert table.lengths == [3]
    assert table({"x": ["a|z|y", "b", None]})["items"].tolist() == [[2, 1, 0], [0, 0, 1], [0, 0, 0]]


def test_missing_cells_are_told_where_training_had_some():
    cells = {"x": ["1", "2", None, "4"], "y": ["a", "b", "a", "b"]}
    vector = fitted(cells, {"x": "number", "y": "category"})
    found = entries(vector, {"x": ["1", None, None], "y": ["a", "b", None]})
    assert found["x: missing"] == pytest.approx([0, 1, math.nan], nan_ok=True)
    assert "y: missing" not in found
    assert found["y: is b"] == pytest.approx([0, 1, math.nan], nan_ok=True)
    assert np.isnan(vector.blank()["vector"]).all()


@pytest.mark.parametrize("kind", ["number", "date", "boolean", "category", "list"])
def test_a_column_that_is_empty_or_constant_in_training_gives_nothing(kind):
    value = {"number": "5", "date": "2024-01-01", "boolean": "yes", "category": "a", "list": "a|b"}[kind]
    for column in ([None] * 4, [value] * 4 if kind != "list" else [None] * 4):
        vector = fitted({"x": column, "y": ["1", "2", "3", "4"]}, {"x": kind, "y": "number"})
        assert vector.names == ["y: value"]
        assert vector({"x": [value], "y": ["2.5"]})["vector"].tolist() == [[0]]
        alone = fitted({"x": column}, {"x": kind})
        assert np.isnan(alone({"x": [value, None]})["vector"]).all()


def test_a_bad_cell_is_refused_with_its_column():
    vector = fitted({"age": ["1", "2", "3", "oops"], "on": ["yes", "no"] * 2}, {"age": "number", "on": "boolean"})
    with pytest.raises(BadCells) as problem:
        vector({"age": ["1", "forty", None], "on": ["yes", "no", "perhaps"]})
    assert problem.value.reasons == {
        1: "column 'age': 'forty' is not a number",
        2: "column 'on': 'perhaps' is not a true/false value",
    }


def test_chunks_do_not_change_what_is_learned_and_state_survives_json():
    cells = {
        "n": [str(i * 7 % 50) for i in range(90)],
        "c": [f"v{i % 7}" for i in range(90)],
        "l": ["a|b", "b", "c"] * 30,
    }
    types = {"n": "number", "c": "category", "l": "list"}
    for cls in (Vector, Table):
        whole, pieces = fitted(cells, types, cls), cls(cls.Config(columns=tuple(cells), types=types))
        pieces.fit([{name: column[at : at + 13] for name, column in cells.items()} for at in range(0, 90, 13)])
        assert json.dumps(whole.state, allow_nan=False) == json.dumps(pieces.state)
        again = cls(whole.config, json.loads(json.dumps(whole.state)))
        for name, array in whole(cells).items():
            assert array.tobytes() == again(cells)[name].tobytes()


def profiles(tmp_path, **columns):
    rows = zip(*columns.values(), strict=True)
    text = "\n".join(["\t".join(columns), *("\t".join(row) for row in rows)])
    (tmp_path / "t.tsv").write_text(text + "\n", encoding="utf-8")
    return profile_table(open_table(["t.tsv"], tmp_path, tmp_path / "cache"))


def test_numbers_written_as_text_are_numbers_with_a_reason(tmp_path):
    found = profiles(tmp_path, price=[f"{i * 37 % 1000 + 1000:,} €" for i in range(40)])
    claim = Tabular.claim(found["price"])
    assert claim.type == "number"
    assert claim.reason == "100% of the cells are numbers, some written like '1,000 €'"


GENRES = ["Drama", "Comedy", "Crime", "Romance", "Sci-Fi"]


@pytest.mark.parametrize(
    ("form", "words"),
    [("|".join, "'|'"), (", ".join, "','"), ("; ".join, "';'"), (json.dumps, "in brackets")],
)
def test_recombined_items_are_a_list_and_not_text(tmp_path, form, words):
    cells = [form([GENRES[i % 5], GENRES[(i * 2 + 1) % 5], GENRES[(i * 3 + 2) % 5]][: 1 + i % 3]) for i in range(60)]
    profile = profiles(tmp_path, genres=cells)["genres"]
    claim = Tabular.claim(profile)
    assert claim.type == "list"
    assert words in claim.reason
    text = Text.claim(profile)
    assert text is None or text.confidence < claim.confidence


def test_stored_lists_of_names_are_lists_and_those_of_numbers_are_not():
    assert Tabular.claim(ColumnProfile("x", "list", 9, distinct=9, sample=(["a", "b"], []))).type == "list"
    assert Tabular.claim(ColumnProfile("x", "list", 9, distinct=9, list_share=1.0, sample=([1.0],))) is None
    assert Tabular.claim(ColumnProfile("x", "list", 9, distinct=9, sample=([["a"]],))) is None


@pytest.mark.parametrize(
    "cells",
    [
        ["Paris, France", "Lyon, France", "Rome, Italy", "Milan, Italy", "Bonn, Germany"],
        ["Good, but small.", "Nice place, we came back", "Loud, dirty, awful", "Fine, really"],
        ["red", "blue", "green", "grey"],
        ["Tom Clancy", "Ann Lee, Bo Li", "Carl Orff", "Jo Nesbo, Per Wahl"],
    ],
)
def test_places_sentences_and_names_are_no_lists(cells):
    assert lists.told_by(cells) is None
