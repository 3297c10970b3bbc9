"""The tabular modality, its processor and its encoder."""

import datetime
import json
import math
import random
import time

import numpy as np
import pytest
from automm_tabular.mlp import TabularMlp
from automm_tabular.modality import Tabular
from automm_tabular.processor import Table
from automm_text.modality import Text

from automm.api import BadCells, ColumnProfile, InputInfo

TYPES = {"age": "number", "income": "number", "city": "category", "since": "date", "member": "boolean"}
INFO = InputInfo("tabular", "tabular", tuple(TYPES), TYPES)


def people(rows, seed=0):
    dice = random.Random(seed)
    return {
        "age": [str(dice.randint(18, 80)) for _ in range(rows)],
        "income": [f"{dice.lognormvariate(8, 1):.2f}" for _ in range(rows)],
        "city": [dice.choice(["Bonn", "Köln", "上海"]) for _ in range(rows)],
        "since": [f"20{dice.randint(10, 24)}-0{dice.randint(1, 9)}-15" for _ in range(rows)],
        "member": [dice.choice(["yes", "no"]) for _ in range(rows)],
    }


def chunks(cells, size):
    rows = len(next(iter(cells.values())))
    return [{name: column[at : at + size] for name, column in cells.items()} for at in range(0, rows, size)]


def fitted(cells, types=None, **config):
    table = Table(Table.Config(columns=tuple(cells), types=types or TYPES, **config))
    table.fit([cells])
    return table


@pytest.mark.parametrize(
    ("profile", "type_", "words"),
    [
        (
            ColumnProfile("x", "string", 100, 5, 90, number_share=1.0, minimum=0.5, maximum=2.0),
            "number",
            "100% of the cells are numbers",
        ),
        (
            ColumnProfile("x", "number", 100, 0, 3, number_share=1.0, integer_share=1.0, minimum=1, maximum=3),
            "number",
            "numbers",
        ),
        (
            ColumnProfile("x", "string", 100, 0, 60, number_share=1.0, integer_share=1.0, sample=("01067", "53111")),
            "category",
            "leading zeros",
        ),
        (ColumnProfile("x", "string", 100, 0, 2, boolean_share=1.0, mean_words=1), "boolean", "true/false"),
        (ColumnProfile("x", "string", 100, 0, 2, boolean_share=1.0, number_share=1.0), "number", "numbers"),
        (ColumnProfile("x", "string", 100, 0, 80, date_share=1.0, mean_words=1), "date", "dates"),
        (ColumnProfile("x", "string", 100, 0, 8, mean_words=1), "category", "8 distinct values in 100 cells"),
    ],
)
def test_claims_with_type_and_reason(profile, type_, words):
    claim = Tabular.claim(profile)
    assert claim.type == type_
    assert claim.confidence >= 0.9
    assert words in claim.reason


@pytest.mark.parametrize(
    "profile",
    [
        ColumnProfile("x", "string", 10, 10),
        ColumnProfile("x", "string", 10, list_share=1.0),
        ColumnProfile("x", "string", 10, distinct=10, exists_share=1.0, extensions={".png": 1.0}),
        ColumnProfile("x", "binary", 10),
    ],
)
def test_no_claim_on_media_lists_and_empty_columns(profile):
    assert Tabular.claim(profile) is None


def test_row_numbers_are_claimed_with_a_warning_in_the_reason():
    profile = ColumnProfile("id", "string", 100, 0, 100, number_share=1.0, integer_share=1.0, minimum=1, maximum=100)
    assert "row numbers" in Tabular.claim(profile).reason


@pytest.mark.parametrize(
    ("words", "distinct", "text"),
    [
        (5.2, 2350, True),  # product titles
        (2.1, 1560, True),  # directors
        (2.1, 60, False),  # breeds
        (1.0, 40, False),  # colours
        (1.0, 2300, False),  # serial numbers
        (40.0, 2400, True),  # descriptions
        (6.0, 12, False),  # a dozen long category names
        (7.0, 900, True),  # questions that repeat
    ],
)
def test_text_and_category_share_the_string_columns(words, distinct, text):
    profile = ColumnProfile("x", "string", 2400, 0, distinct, mean_words=words, mean_chars=6 * words)
    assert (Text.claim(profile).confidence > Tabular.claim(profile).confidence) is text


def test_arrays_of_every_type():
    cells = people(200)
    table = fitted(cells)
    specs, arrays = table.specs(), table(cells)
    assert {name: array.shape for name, array in arrays.items()} == {
        "number": (200, 3),  # age, income, and the time of `since`
        "number_missing": (200, 3),
        "cyclic": (200, 1, 8),
        "category": (200, 2),
    }
    for name, array in arrays.items():
        assert array.dtype == specs[name].dtype
        assert array.shape[1:] == specs[name].shape
    assert np.abs(arrays["number"]).max() < 3
    assert abs(np.median(arrays["number"][:, 0])) < 1e-6
    order = np.argsort(np.array(cells["income"], float))
    assert (np.diff(arrays["number"][order, 1]) >= 0).all()
    assert set(arrays["category"][:, 0]) == {2, 3, 4}
    assert [arrays["category"][i, 1] for i in range(200)] == [3 if cell == "yes" else 2 for cell in cells["member"]]
    assert table.sizes == [5, 4]


def test_cyclic_parts_of_a_date():
    table = fitted({"since": ["2024-01-01", "2024-07-03T12:00:00"]}, {"since": "date"})
    months = table({"since": ["2024-01-01T00:00:00", "2024-07-03T12:00:00Z", datetime.date(2024, 1, 1), None]})[
        "cyclic"
    ][:, 0]
    january_first_a_monday = [0, 0, 0, 0, 1, 1, 1, 1]
    assert months[0] == pytest.approx(january_first_a_monday, abs=1e-6)
    assert months[1][[0, 4]] == pytest.approx([0, -1], abs=1e-6)  # July: half a year on
    assert months[1][1] == pytest.approx(math.sin(2 * math.pi * 2 / 7))  # a Wednesday
    assert months[1][[2, 6]] == pytest.approx([0, -1], abs=1e-6)  # noon
    assert (months[2] == months[0]).all()
    assert (months[3] == 0).all()


def test_missing_cells_of_every_type():
    table = fitted(people(50))
    arrays = table(
        {
            "age": [None, ""],
            "income": [None, math.nan],
            "city": [None, "NA"],
            "since": [None, ""],
            "member": [None, "?"],
        }
    )
    assert (arrays["number"] == 0).all()
    assert (arrays["number_missing"] == 1).all()
    assert (arrays["category"] == 0).all()
    for name, array in table.blank().items():
        assert (array == arrays[name][0]).all()


def test_bad_cells_are_named_with_their_column_and_the_good_rows_are_not():
    table = fitted(people(50))
    cells = people(40, seed=1)
    cells["age"][3], cells["since"][5], cells["member"][38] = "forty", "soon", "perhaps"
    with pytest.raises(BadCells) as problem:
        table(cells)
    assert problem.value.reasons == {
        3: "column 'age': 'forty' is not a number",
        5: "column 'since': 'soon' is not a date",
        38: "column 'member': 'perhaps' is not a true/false value",
    }


def test_infinities_are_bad_and_a_bad_training_cell_does_not_move_the_scale():
    clean = [str(i) for i in range(100)]
    table = fitted({"x": [*clean, "broken", "inf"]}, {"x": "number"})
    assert table.state == fitted({"x": clean}, {"x": "number"}).state
    for bad in ("inf", "1e999", float("inf"), "nan(1)", "1_000"):
        with pytest.raises(BadCells, match="not a number"):
            table({"x": [bad]})
        with pytest.raises(BadCells, match="not a number"):
            table({"x": [bad] * 50})


def test_unseen_and_rare_categories_are_unknown():
    table = fitted({"city": ["Bonn"] * 5 + ["Köln"] * 3 + ["Ulm"]}, {"city": "category"})
    assert table({"city": ["Bonn", "Köln", "Ulm", "Oz", 7, ["list"]]})["category"][:, 0].tolist() == [2, 3, 1, 1, 1, 1]
    capped = fitted({"city": ["a"] * 5 + ["b"] * 4 + ["c"] * 3}, {"city": "category"}, max_categories=2)
    assert capped({"city": ["a", "b", "c"]})["category"][:, 0].tolist() == [2, 3, 1]


def test_a_category_reads_the_same_from_text_and_typed_storage():
    table = fitted({"x": ["3", "3", "true", "true"]}, {"x": "category"})
    same = [["3", 3, 3.0, "3.0", " 3 "], ["true", True, "true", "true", "true"]]
    for cells in same:
        assert len(set(table({"x": cells})["category"][:, 0])) == 1
        assert table({"x": cells})["category"][0, 0] > 1
        assert len(set(table({"x": cells * 20})["category"][:, 0])) == 1


ODD = ["1", " 2 ", "+3", "1,234.5", "5 %", "$7", ".5", "6.", "1e3", "-4", None, "", "na", "0012", "1e-400", "9" * 30]


def test_a_batch_equals_one_by_one():
    cells = people(64)
    cells["age"][:16] = ODD
    cells["city"][5], cells["since"][7], cells["member"][9] = None, None, "TRUE"
    table = fitted(people(300, seed=2))
    whole = table(cells)
    for at in range(64):
        row = table({name: [column[at]] for name, column in cells.items()})
        for name, array in row.items():
            assert array.tobytes() == whole[name][at : at + 1].tobytes(), (at, name)


def test_chunks_do_not_change_what_is_learned():
    cells = people(500)
    tables = [Table(Table.Config(columns=tuple(TYPES), types=TYPES)) for _ in range(2)]
    tables[0].fit(chunks(cells, 500))
    tables[1].fit(chunks(cells, 7))
    assert json.dumps(tables[0].state) == json.dumps(tables[1].state)


def test_a_long_stream_is_sampled_with_the_same_result_for_any_chunks(monkeypatch):
    monkeypatch.setattr("automm_tabular.processor.SAMPLE", 500)
    values = {"x": [str(i * 37 % 5000) for i in range(5000)]}
    tables = [Table(Table.Config(columns=("x",), types={"x": "number"})) for _ in range(2)]
    tables[0].fit(chunks(values, 5000))
    tables[1].fit(chunks(values, 333))
    assert tables[0].state == tables[1].state
    assert tables[0].state["centre"][0] == pytest.approx(2500, abs=300)


def test_state_survives_json():
    cells = people(80)
    table = fitted(cells)
    again = Table(table.config, json.loads(json.dumps(table.state, allow_nan=False)))
    assert table.specs() == again.specs()
    for name, array in table(cells).items():
        assert (array == again(cells)[name]).all()


@pytest.mark.parametrize(
    "column",
    [
        [None] * 10,
        ["5"] * 10,
        ["0"] * 95 + ["1"] * 5,
        ["0"] * 999 + ["1e300"],
        ["-1e308", "1e308"] * 20,
        ["0", "1"] * 10,
        [str(10**18 + i) for i in range(40)],
        ["1"],
    ],
)
def test_degenerate_columns_give_finite_numbers_and_usable_bins(column):
    table = fitted({"x": column}, {"x": "number"})
    assert np.isfinite(table({"x": [*column, "12", None, "-1e308"]})["number"]).all()
    edges = np.array(table.bins[0])
    assert len(edges) >= 3
    assert (np.diff(edges) >= 0.0099).all()


def test_heavy_tails_keep_their_order_and_resolution():
    values = [math.exp(i / 50) for i in range(1000)]
    table = fitted({"x": [repr(v) for v in values]}, {"x": "number"})
    found = table({"x": values})["number"][:, 0]
    assert (np.diff(found) > 0).mean() > 0.95
    assert len(table.bins[0]) > 20


def test_a_table_of_a_hundred_thousand_rows_is_fast():
    cells = people(1000)
    cells = {name: column * 100 for name, column in cells.items()}
    table = fitted(cells)
    start = time.perf_counter()
    table(cells)
    assert time.perf_counter() - start < 5


def test_config_needs_a_type_for_every_column():
    with pytest.raises(ValueError, match="columns without a type: \\['b'\\]"):
        Table.Config(columns=("a", "b"), types={"a": "number"})


def tensors(arrays):
    import torch

    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def model(cells, info=INFO, **config):
    config = TabularMlp.Config(**config)
    processor = TabularMlp.processor(config, info)
    processor.fit([cells])
    return TabularMlp(config, processor), processor


@pytest.mark.parametrize("numeric", ["piecewise_linear", "periodic"])
def test_learns_a_signal_across_types(numeric):
    import torch

    torch.manual_seed(0)
    cells = people(1200)
    # Membership flips what age says, and one city is an exception: neither is visible in any single column.
    wanted = [
        float((30 < int(age) < 55) != (member == "yes")) if city != "Bonn" else 1.0
        for age, member, city in zip(cells["age"], cells["member"], cells["city"], strict=True)
    ]
    encoder, processor = model(cells, numeric=numeric, width=64)
    head = torch.nn.Linear(encoder.width, 1)
    arrays, target = tensors(processor(cells)), torch.tensor(wanted)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)
    for _ in range(15):
        for batch in torch.randperm(900).split(64):
            output = head(encoder({name: array[batch] for name, array in arrays.items()}).mean())[:, 0]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(output, target[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    encoder.eval()
    with torch.no_grad():
        output = head(encoder({name: array[900:] for name, array in arrays.items()}).mean())[:, 0]
    assert ((output > 0) == (target[900:] > 0.5)).float().mean() > 0.9


def test_what_training_never_showed_counts_as_nothing():
    import torch

    encoder, processor = model(people(100))
    row = {"age": ["40"], "income": ["3000"], "city": ["Bonn"], "since": ["2020-01-01"], "member": ["yes"]}
    unknown = processor({**row, "city": ["Oz"]})
    missing = processor({**row, "city": [None]})
    encoder.eval()
    assert torch.equal(encoder(tensors(unknown)).tokens, encoder(tensors(missing)).tokens)
    centre = processor.state["centre"][0]
    median = encoder(tensors(processor({**row, "age": [centre]}))).tokens
    assert torch.allclose(median, encoder(tensors(processor({**row, "age": [None]}))).tokens, atol=1e-6)


def test_layers_cover_every_parameter():
    for config in ({}, {"layers": 0}, {"tokens": True}):
        encoder, _ = model(people(50), **config)
        covered = {id(p) for layer in encoder.layers() for p in layer.parameters()}
        assert covered == {id(p) for p in encoder.parameters()}


@pytest.mark.parametrize(
    ("columns", "config", "count"),
    [
        (tuple(TYPES), {"width": 16}, 1),
        (tuple(TYPES), {"tokens": True, "numeric": "periodic", "layers": 1}, 7),  # two for the date
        (("city",), {"layers": 0}, 1),
    ],
)
def test_onnx_agrees_for_any_batch_size(columns, config, count, tmp_path):
    from text_onnx import assert_agrees, export

    cells = {name: column for name, column in people(60).items() if name in columns}
    info = InputInfo("tabular", "tabular", columns, {name: TYPES[name] for name in columns})
    encoder, processor = model(cells, info, **config)
    arrays = processor(cells)
    session = export(encoder, arrays, processor.specs(), tmp_path / "m.onnx")
    for rows in (1, 7, 60):
        part = {name: array[:rows] for name, array in arrays.items()}
        tokens = encoder(tensors(part)).tokens
        assert tokens.shape == (rows, count, encoder.width)
        assert_agrees(session, encoder, part)
