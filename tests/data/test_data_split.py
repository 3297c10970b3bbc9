from __future__ import annotations

import numpy as np
import pytest
from data_fakes import table_of

from automm.core.profile import InputInfo
from automm.data.leakage import leakage_warnings
from automm.data.ledger import Ledger
from automm.data.split import split_rows
from automm.errors import DataError
from automm.recipe.model import SplitSpec


@pytest.fixture
def table(tmp_path):
    random = np.random.default_rng(0)
    rows = [[at, f"g{random.integers(40)}", f"2024-{at % 12 + 1:02d}-{at % 28 + 1:02d}"] for at in range(400)]
    return table_of(tmp_path, ["n", "group", "day"], rows)


def check(parts, rows):
    assert list(parts) == ["train", "valid", "test"]
    joined = np.concatenate(list(parts.values()))
    assert sorted(joined) == list(range(rows))
    assert all((np.diff(part) > 0).all() for part in parts.values())


def test_random_splits_are_exact_and_repeatable(table):
    spec = SplitSpec(valid=0.2, test=0.1)
    parts = split_rows(table, spec, None, 7, stratified=False)
    check(parts, 400)
    assert [len(part) for part in parts.values()] == [280, 80, 40]
    again = split_rows(table, spec, None, 7, stratified=False)
    other = split_rows(table, spec, None, 8, stratified=False)
    assert np.array_equal(parts["valid"], again["valid"])
    assert not np.array_equal(parts["valid"], other["valid"])
    assert len(split_rows(table, SplitSpec(), None, 0, stratified=True)["test"]) == 0


def test_stratified_splits_keep_proportions_and_rare_classes(table):
    target = ["a"] * 300 + ["b"] * 60 + ["c"] * 35 + ["d"] * 2 + ["e"] + [None] * 2
    random = np.random.default_rng(3)
    order = random.permutation(400)
    target = [target[at] for at in order]
    parts = split_rows(table, SplitSpec(valid=0.2, test=0.1), target, 0, stratified=True)
    check(parts, 400)
    counts = {name: {c: sum(target[at] == c for at in part) for c in "abcde"} for name, part in parts.items()}
    assert counts["valid"]["a"] == 60
    assert counts["valid"]["b"] == 12
    assert counts["valid"]["c"] == 7
    assert abs(counts["test"]["a"] - 30) <= 1
    assert counts["train"]["e"] == 1
    assert counts["train"]["d"] >= 1
    assert abs(len(parts["valid"]) - 80) <= 1
    assert abs(len(parts["test"]) - 40) <= 1


def test_many_small_classes_still_give_the_wanted_sizes(table):
    target = [f"class {at // 3}" for at in range(400)]
    parts = split_rows(table, SplitSpec(valid=0.2), target, 0, stratified=True)
    assert abs(len(parts["valid"]) - 80) <= 1
    assert {target[at] for at in parts["train"]} == set(target)


def test_multilabel_splits_spread_rare_labels(table):
    random = np.random.default_rng(0)
    labels = (random.random((400, 3)) < [0.6, 0.3, 0.05]).astype(float)
    parts = split_rows(table, SplitSpec(valid=0.25), labels, 0, stratified=True)
    check(parts, 400)
    total = labels[:, 2].sum()
    assert abs(labels[parts["valid"], 2].sum() - total / 4) <= 1


def test_groups_stay_together(table):
    groups = table.cells("group")
    target = [int(group[1:]) % 2 for group in groups]
    parts = split_rows(
        table, SplitSpec(method="group", column="group", valid=0.2, test=0.2), target, 0, stratified=True
    )
    check(parts, 400)
    sides = [{groups[at] for at in part} for part in parts.values()]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    for part in parts.values():
        assert abs(np.mean([target[at] for at in part]) - np.mean(target)) < 0.1
    assert 55 <= len(parts["valid"]) <= 105
    with pytest.raises(DataError, match="has 1 groups"):
        split_rows(table_of_one(table), SplitSpec(method="group", column="group"), None, 0, stratified=False)


def table_of_one(table):
    return table_of(table.folder, ["n", "group"], [[at, "same"] for at in range(9)], "one.csv")


def test_uneven_groups_reach_every_part(tmp_path):
    rows = [[at, "big" if at < 90 else f"g{at % 2}"] for at in range(100)]
    table = table_of(tmp_path, ["n", "group"], rows)
    parts = split_rows(table, SplitSpec(method="group", column="group", valid=0.2, test=0.1), None, 0, stratified=False)
    assert all(len(part) for part in parts.values())


def test_the_latest_rows_are_held_out(table):
    days = np.array(table.cells("day"))
    parts = split_rows(table, SplitSpec(method="time", column="day", valid=0.2, test=0.1), None, 0, stratified=True)
    check(parts, 400)
    assert max(days[parts["train"]]) < min(days[parts["valid"]])
    assert max(days[parts["valid"]]) < min(days[parts["test"]])
    assert 60 <= len(parts["valid"]) <= 100
    by_number = split_rows(table, SplitSpec(method="time", column="n", valid=0.25), None, 0, stratified=False)
    assert by_number["valid"].tolist() == list(range(300, 400))
    with pytest.raises(DataError, match=r"column 'group' has 0 different times \(400 cells"):
        split_rows(table, SplitSpec(method="time", column="group"), None, 0, stratified=False)


def test_splits_that_cannot_be_made(tmp_path):
    one = table_of(tmp_path, ["n"], [[1]])
    with pytest.raises(DataError, match="1 rows cannot be split in 2"):
        split_rows(one, SplitSpec(), None, 0, stratified=False)
    with pytest.raises(DataError, match="leave no rows"):
        split_rows(one, SplitSpec(valid=0.5, test=0.5), None, 0, stratified=False)
    two = table_of(tmp_path, ["n"], [[1], [2]], "two.csv")
    assert [len(part) for part in split_rows(two, SplitSpec(), ["a", "b"], 0, stratified=True).values()] == [1, 1, 0]


def test_ledger(tmp_path):
    ledger = Ledger()
    ledger.check(0.0, 10)
    ledger.write(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    for row in (4, 4, 7):
        ledger.add("train.csv", row, "photo", f"file not found: {row}.jpg")
    ledger.add("train.csv", 7, "text", "not text")
    assert (len(ledger), ledger.bad(), ledger.bad("test.csv")) == (3, 2, 0)
    assert ledger.counts() == {"file not found": 2, "not text": 1}
    ledger.check(0.2, 10)
    with pytest.raises(
        DataError, match=r"(?s)2 of 10 rows \(20.0%\).*2 x file not found.*row 5, photo: file not found: 4"
    ):
        ledger.check(0.19, 10)
    ledger.write(tmp_path)
    assert (tmp_path / "bad_rows.csv").read_text().splitlines()[:2] == [
        "table,row,column,reason",
        "train.csv,5,photo,file not found: 4.jpg",
    ]
    assert len((tmp_path / "bad_rows.jsonl").read_text().splitlines()) == 3


def whole(table):
    return table, np.arange(table.rows)


def test_columns_that_give_the_target_away(tmp_path):
    random = np.random.default_rng(0)
    classes = random.integers(0, 3, 60)
    rows = [["abc"[c], "abc"[c], c + 5, random.integers(3), at, round(c * 2.5 + 1, 2)] for at, c in enumerate(classes)]
    table = table_of(tmp_path, ["y", "copy", "code", "noise", "n", "scaled"], rows)
    inputs = [InputInfo("g", "grid", ("copy", "code", "noise", "n"))]
    found = leakage_warnings(whole(table), {}, inputs, ["y"])
    assert [line.split(";")[0] for line in found] == [
        "column 'copy' equals the target 'y'",
        "column 'code' renames the target 'y'",
    ]
    found = leakage_warnings(whole(table), {}, [InputInfo("g", "grid", ("scaled", "noise"))], ["code"])
    assert found[0].startswith("column 'scaled' re")
    numbers = table_of(tmp_path, ["y", "euro"], [[v, v * 1.1] for v in random.normal(size=50)], "price.csv")
    found = leakage_warnings(whole(numbers), {}, [InputInfo("g", "grid", ("euro",))], ["y"])
    assert found[0].startswith("column 'euro' rescales the target")


def test_rows_and_files_on_both_sides(tmp_path):
    for at in range(12):
        (tmp_path / f"{at}.png").write_bytes(f"picture {at % 10}".encode())  # 10 and 11 are copies of 0 and 1
    inputs = [InputInfo("photo", "picture", ("photo",)), InputInfo("t", "prose", ("t",))]
    train = table_of(
        tmp_path, ["photo", "t", "y"], [[f"{at}.png", f"text {at}", at % 2] for at in range(8)], "train.csv"
    )
    same = table_of(tmp_path, ["photo", "t", "y"], [["./3.png", "new", 0], ["9.png", "new", 1]], "same.csv")
    copy = table_of(tmp_path, ["photo", "t", "y"], [["10.png", "new", 0], ["8.png", "new", 1]], "copy.csv")
    rows = table_of(tmp_path, ["photo", "t", "y"], [["3.png", "text 3", 1], ["8.png", "x", 1]], "rows.csv")
    clean = table_of(tmp_path, ["photo", "t", "y"], [["8.png", "x", 1]], "clean.csv")

    def look(**others):
        return leakage_warnings(whole(train), {name: whole(part) for name, part in others.items()}, inputs, ["y"])

    assert look(test=clean) == []
    assert look(test=same) == ["column 'photo': 1 files are in the training and in the test rows, among them 3.png"]
    assert look(test=copy) == [
        "column 'photo': 1 test files have the same content as a training file (10.png is 0.png, …)"
    ]
    assert look(test=rows)[0] == "1 of 2 test rows have the same inputs as a training row (50.0%)"


def test_columns_that_determine_or_mostly_equal_the_target_are_named(tmp_path):
    random = np.random.default_rng(0)
    rows = []
    for grade, hours, other in zip(
        random.integers(4, size=200), random.integers(200, size=200), range(200), strict=True
    ):
        rows.append([grade, hours, other % 4, "yes" if grade > 1 else "no", min(hours, 150)])
    table = table_of(tmp_path, ["grade", "hours", "other", "passed", "capped"], rows)
    columns = [InputInfo("g", "grid", ("grade", "hours", "other"))]
    (found,) = leakage_warnings(whole(table), {}, columns, ["passed"])
    assert found.startswith("column 'grade' determines the target 'passed'")
    (found,) = leakage_warnings(whole(table), {}, columns, ["capped"])
    assert found.startswith("column 'hours' mostly equals the target 'capped'")
