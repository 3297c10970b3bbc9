from __future__ import annotations

import time
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_fakes import registry, table_of

from automm.core.cells import parse_number
from automm.core.profile import Claim, ColumnProfile
from automm.data.infer import infer_inputs, infer_task
from automm.data.profile import families, profile_table
from automm.data.sources import open_table
from automm.errors import DataError, RecipeError
from automm.plugin.registry import Entry, Owner
from automm.recipe.model import InputSpec


def column(folder, cells, name="c") -> ColumnProfile:
    return profile_table(table_of(folder, ["k", name], [[at, cell] for at, cell in enumerate(cells)]))[name]


def test_facts_of_number_strings(tmp_path):
    cells = ["1", " 2.5 ", "1e3", "$1,234.50", "NA", "", "abc", "+7", "٣"]
    found = column(tmp_path, cells)
    assert (found.storage, found.rows, found.nulls, found.distinct) == ("string", 9, 2, 7)
    numbers = [parse_number(cell) for cell in cells if cell not in ("NA", "")]
    assert found.number_share == pytest.approx(sum(n is not None for n in numbers) / 7)
    assert found.integer_share == pytest.approx(4 / 7)
    assert (found.minimum, found.maximum) == (1.0, 1234.5)


def test_facts_of_text(tmp_path):
    found = column(tmp_path, ["two words", "three more words", "酒店很好 ok", "two words"])
    assert found.distinct == 3
    assert found.top[0] == ("two words", 2)
    assert found.mean_words == pytest.approx((2 + 3 + 5 + 2) / 4)
    assert found.max_chars == 16
    assert found.mean_chars == pytest.approx((9 + 16 + 7 + 9) / 4)
    assert found.sample == ("two words", "three more words", "酒店很好 ok", "two words")


def test_facts_of_dates_lists_and_truth_values(tmp_path):
    assert column(tmp_path, ["2024-01-02", "03/04/2021", "5 Jan 2020", "12"]).date_share == 0.75
    assert column(tmp_path, ["[1, 2.5]", "[[1], [2]]", "[a]", "1, 2"]).list_share == 0.5
    assert column(tmp_path, ["yes", "No", "TRUE", "maybe"]).boolean_share == 0.75


def test_facts_of_paths(tmp_path):
    (tmp_path / "img").mkdir()
    for at in range(3):
        (tmp_path / f"img/{at}.PNG").write_bytes(b"x")
    found = column(tmp_path, ["img/0.PNG", "img/1.PNG", "img\\2.PNG", "img/3.jpg", "../outside.png"])
    assert found.extensions == {".png": 0.8, ".jpg": 0.2}
    assert found.exists_share == pytest.approx(0.6)


def test_facts_of_typed_columns(tmp_path):
    pq.write_table(
        pa.table(
            {
                "i": [0, 1, 1, None],
                "f": [0.5, 2.0, float("nan"), None],
                "b": [True, False, True, None],
                "d": [date(2024, 1, 1), None, None, None],
                "l": [[1.0], [2.0, 3.0], None, []],
                "m": [b"\x89PNG", b"abc", None, b""],
                "z": pa.nulls(4),
            }
        ),
        tmp_path / "a.parquet",
    )
    found = profile_table(open_table(["a.parquet"], tmp_path, tmp_path / "cache"))
    assert {name: facts.storage for name, facts in found.items()} == {
        "i": "number",
        "f": "number",
        "b": "boolean",
        "d": "date",
        "l": "list",
        "m": "binary",
        "z": "string",
    }
    i, f = found["i"], found["f"]
    assert (i.number_share, i.integer_share, i.boolean_share, i.distinct, i.top[0]) == (1.0, 1.0, 1.0, 2, ("1", 2))
    assert (f.nulls, f.integer_share, f.minimum, f.maximum) == (2, 0.5, 0.5, 2.0)
    assert (found["b"].boolean_share, found["d"].date_share, found["l"].list_share) == (1.0, 1.0, 1.0)
    assert found["m"].sample == (b"\x89PNG", b"abc", b"")
    assert (found["z"].filled, found["z"].distinct) == (0, 0)


def test_large_tables_are_sampled_and_distinct_values_counted_exactly(tmp_path):
    table = table_of(tmp_path, ["n", "kind"], [[at, "ab"[at % 2]] for at in range(5000)])
    found = profile_table(table, sample=1000)
    assert (found["n"].rows, found["n"].distinct) == (1000, 5000)
    assert found["kind"].distinct == 2
    assert sum(count for _, count in found["kind"].top) == 1000
    assert abs(found["kind"].top[0][1] - 500) < 60  # drawn at random, not every second row


def test_opening_profiling_and_inferring_ten_thousand_rows_is_quick(tmp_path):
    random = np.random.default_rng(0)
    words = ["red", "green", "blue", "chair", "table", "lamp", "old", "new", "wood"]
    rows = [
        [
            at,
            " ".join(random.choice(words, 12)),
            *random.normal(size=6).round(4),
            words[at % 9],
            f"2024-01-{at % 28 + 1:02d}",
        ]
        for at in range(10_000)
    ]
    header = ["id", "text", *(f"x{c}" for c in "abcdef"), "kind", "day"]
    table_of(tmp_path, ["warm"], [["up"]], "warm.csv")
    from data_fakes import write_csv

    write_csv(tmp_path / "big.csv", header, rows)
    start = time.perf_counter()
    table = open_table(["big.csv"], tmp_path, tmp_path / "cache")
    found = infer_inputs(profile_table(table), registry(), None, (), ("kind",))
    assert time.perf_counter() - start < 2.5  # 0.25 s on an idle core
    assert found.left_out["id"].startswith("an identifier")


def numbers(*names: str) -> dict[str, ColumnProfile]:
    return {n: ColumnProfile(n, "number", 100, distinct=90, number_share=1.0, minimum=0.5, maximum=9.5) for n in names}


def test_families():
    assert families(numbers(*(f"t_{n}" for n in (3, 1, 2, 0, 4, 5, 6, 7, 9, 10)))) == {
        "t": [f"t_{n}" for n in range(8)]
    }
    assert families(numbers(*(f"a{n}" for n in range(7)))) == {}
    assert families(numbers(*map(str, range(12)))) == {"0-11": [str(n) for n in range(12)]}
    padded = [f"s{n:02d}" for n in range(12)]
    assert families(numbers(*reversed(padded))) == {"s": padded}
    assert families(numbers("t", *(f"t{n}" for n in range(8)))) == {"t0-t7": [f"t{n}" for n in range(8)]}
    mixed = numbers(*(f"t{n}" for n in range(8)))
    mixed["t4"] = ColumnProfile("t4", "string", 100, distinct=3, number_share=0.1)
    assert families(mixed) == {}


@pytest.fixture
def products(tmp_path):
    random = np.random.default_rng(1)
    rows = []
    for at in range(60):
        (tmp_path / f"{at}.png").write_bytes(b"x")
        row = [f"SKU-{at:03d}", f"a fine product number {at}", f"{at}.png", "red" if at % 2 else "blue"]
        row += [round(random.normal(), 3), at * 7 + 3, "same", "", at % 5, *random.integers(0, 99, 8), f"shop{at % 4}"]
        rows.append(row)
    header = ["sku", "title", "photo", "colour", "weight", "votes", "constant", "empty", "season"]
    header += [*(f"t{n}" for n in range(8)), "shop"]
    return profile_table(table_of(tmp_path, header, rows))


def infer(profiles, specs=None, ignore=(), target=("season",), extra=()):
    return infer_inputs(profiles, registry(), specs, ignore, target, extra)


def shape(found):
    return {info.name: (info.modality, info.columns) for info in found.inputs}


def test_inference_by_claims(products):
    found = infer(products, extra={"shop": "the split groups by it"})
    assert shape(found) == {
        "title": ("prose", ("title",)),
        "photo": ("picture", ("photo",)),
        "grid": ("grid", ("colour", "weight", "votes")),
        "t": ("wave", tuple(f"t{n}" for n in range(8))),
    }
    assert found.inputs[2].types == {"colour": "category", "weight": "number", "votes": "number"}
    assert found.reasons["photo"] == "existing .png files"
    assert found.reasons["t"] == "8 numbered columns"
    assert found.left_out["sku"] == "an identifier: a code that differs in every row"
    assert found.left_out["constant"] == "always 'same'"
    assert found.left_out["empty"] == "all cells are empty"
    assert found.left_out["shop"] == "the split groups by it"


def test_inference_follows_the_recipe(products):
    specs = (
        InputSpec(name="sku", modality="category"),
        InputSpec(name="title"),
        InputSpec(name="clip", modality="wave", columns=("t0", "t1")),
    )
    found = infer(products, specs)
    assert shape(found) == {
        "grid": ("grid", ("sku",)),
        "title": ("prose", ("title",)),
        "clip": ("wave", ("t0", "t1")),
    }
    assert found.inputs[0].types == {"sku": "category"}
    assert found.left_out["photo"] == "the recipe's inputs do not name it"
    both = infer(products, (*specs, InputSpec(name="*", modality="grid")), ignore=["votes"])
    columns = dict(shape(both))["grid"][1]
    assert columns == ("sku", "colour", "weight", *(f"t{n}" for n in range(2, 8)), "shop")
    assert both.left_out["votes"] == "the recipe ignores it"
    assert both.left_out["photo"].startswith("not grid: it reads as picture")
    free = infer(products, (InputSpec(name="*", modality="grid"),))
    assert free.left_out["title"].startswith("not grid: it reads as prose")
    several = infer(products, (InputSpec(name="sensors", modality="grid", columns=("weight", "t0")),))
    assert several.inputs[0].types == {"weight": "number", "t0": "number"}
    assert shape(several) == {"sensors": ("grid", ("weight", "t0"))}


@pytest.mark.parametrize(
    ("specs", "ignore", "message"),
    [
        ((InputSpec(name="titel"),), (), "no column 'titel' in the data; did you mean 'title'"),
        ((InputSpec(name="title", modality="porse"),), (), "unknown modality 'porse'; did you mean 'prose'"),
        ((InputSpec(name="title", modality="categry"),), (), "did you mean 'category'"),
        ((InputSpec(name="season"),), (), "is the target"),
        ((InputSpec(name="title"),), ("title",), "also under `ignore`"),
        ((InputSpec(name="photo", columns=("sku", "title")),), ("nothing",), "no column 'nothing'"),
    ],
)
def test_recipe_problems(products, specs, ignore, message):
    with pytest.raises(RecipeError, match=message):
        infer(products, specs, ignore)


def test_nothing_left_to_learn_from(products):
    with pytest.raises(DataError, match="no column is left"):
        infer({name: products[name] for name in ("constant", "empty", "season")})


def ids(name, cells, folder):
    found = infer_inputs(
        profile_table(table_of(folder, [name, "x"], [[c, at % 7] for at, c in enumerate(cells)])),
        registry(),
        None,
        (),
        (),
    )
    return name in found.left_out


def test_what_is_an_identifier(tmp_path):
    random = np.random.default_rng(0)
    shuffled = random.permutation(50)
    assert ids("row", shuffled, tmp_path)
    assert ids("anything", shuffled + 1000, tmp_path)  # counts up without gaps
    assert ids("customer_id", shuffled * 97, tmp_path)
    assert ids("customerId", [f"C{n}" for n in shuffled], tmp_path)
    assert not ids("votes", shuffled * 97, tmp_path)  # different numbers with a meaning
    assert not ids("width", random.normal(size=50), tmp_path)
    assert not ids("title", [f"the title number {n}" for n in range(50)], tmp_path)
    assert not ids("评论", [f"酒店{'很' * (n + 1)}好" for n in range(50)], tmp_path)
    assert not ids("customer_id", [n % 10 for n in range(50)], tmp_path)  # customers come back
    assert not ids("code", [f"A{n}" for n in range(9)], tmp_path)  # too few rows to tell


def test_task_by_claim(monkeypatch):
    class Sure:
        kind, name = "task", "sure"

        @classmethod
        def claim(cls, columns):
            return Claim(0.9, f"{columns[0].distinct} values") if columns[0].distinct < 5 else None

    class Fallback(Sure):
        name = "fallback"

        @classmethod
        def claim(cls, columns):
            return Claim(0.1, "anything") if columns[0].filled else None

    found = registry()
    for cls in (Sure, Fallback):
        found.entries["task"][cls.name] = [Entry(cls, Owner("fakes", "tests", "1"))]
    assert infer_task([ColumnProfile("y", "string", 9, distinct=3)], found) == ("sure", "3 values")
    assert infer_task([ColumnProfile("y", "string", 9, distinct=9)], found)[0] == "fallback"
    with pytest.raises(DataError, match="target column 'y': all 9 cells are empty"):
        infer_task([ColumnProfile("y", "string", 9, nulls=9, distinct=9)], found)
    found.remove(Owner("fakes", "tests", "1"))
    with pytest.raises(DataError, match=r"no task fits the target 'y' \(9 values in 9 rows\)"):
        infer_task([ColumnProfile("y", "string", 9, distinct=9)], found)
