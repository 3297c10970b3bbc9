"""Kept and new rows in one table, their split, and warm starts; without training."""

from __future__ import annotations

import numpy as np
import pytest

from automm.data.sources import open_table
from automm.errors import DataError
from automm.recipe.model import SplitSpec
from automm.update import rows
from automm.update.schema import check_refused


def table(folder, name, lines):
    (folder / name).write_text("\n".join(lines) + "\n", "utf-8")
    return open_table([name], folder, folder / "cache")


def joined(folder, new=100, kept=40, held=20, copies=0):
    """New rows n0, n1, …; kept rows k0, …; held rows h0, …; some of the new rows are copies of held ones."""
    names = [f"h{at}" if at < copies else f"n{at}" for at in range(new)]
    source = table(
        folder, "new.csv", ["photo,x,y", *(f"photos/{name},{name},{at % 2}" for at, name in enumerate(names))]
    )
    old = [
        {"photo": b"bytes", "x": f"{part}{at}", "y": at % 2}
        for part, n in (("k", kept), ("h", held))
        for at in range(n)
    ]
    joint = rows.join(folder / "joint.arrow", source, old[:kept], old[kept:], ["photo", "x", "y"], {"photo"})
    return source, joint


def test_join_keeps_paths_bytes_and_both_types(tmp_path):
    source, joint = joined(tmp_path, new=40, kept=3, held=2)
    cells = joint.table.take(["photo", "x", "y"], np.array([0, 39, 40, 44]))
    assert cells["photo"] == ["photos/n0", "photos/n39", b"bytes", b"bytes"]
    assert cells["x"] == ["n0", "n39", "k0", "h1"]
    assert cells["y"] == ["0", "1", "0", "1"]
    assert joint.table.folder == source.folder
    assert joint.kept_rows.tolist() == [40, 41, 42]
    assert joint.held_rows.tolist() == [43, 44]


def test_join_takes_numbers_lists_and_absent_columns(tmp_path):
    source = open_table(["n.jsonl"], _jsonl(tmp_path), tmp_path / "cache")
    old = [{"n": 2.5, "series": [1.0, 2.0], "gone": "here"}, {"n": None, "series": None, "gone": None}]
    joint = rows.join(tmp_path / "joint.arrow", source, old, [], ["n", "series", "gone"], set())
    assert joint.table.take(["n", "series", "gone"], None) == {
        "n": [1.0, 3.0, 2.5, None],
        "series": [[5.0], None, [1.0, 2.0], None],
        "gone": [None, None, "here", None],
    }


def _jsonl(folder):
    (folder / "n.jsonl").write_text('{"n": 1, "series": [5.0]}\n{"n": 3, "series": null}\n', "utf-8")
    return folder


def split(source, joint, stand_for=40):
    targets = joint.table.take(["y"], None)["y"]
    return rows.split(source, joint, SplitSpec(), targets, stand_for, 0, True, ["x", "y"])


def test_split_keeps_the_sides_apart(tmp_path):
    found = split(*joined(tmp_path))
    train, valid, judged = (set(part.tolist()) for part in (found.train, found.valid, found.judged))
    assert not train & valid
    assert not (train | valid) & judged
    assert train | valid | judged == set(range(140))
    assert max(judged) < 100
    assert len(judged) == 25
    assert 4 <= len([row for row in valid if row >= 100]) <= 8


def test_kept_rows_are_repeated_only_where_they_are_few_and_stood_for_many(tmp_path):
    assert split(*joined(tmp_path)).repeats == 1
    (tmp_path / "more").mkdir()
    many = joined(tmp_path / "more", new=1000, kept=40)
    assert split(*many, stand_for=4000).repeats == 5
    assert split(*many, stand_for=40).repeats == 1


def test_copies_of_held_rows_neither_teach_nor_judge(tmp_path):
    found = split(*joined(tmp_path, copies=15))
    assert found.copies == 15
    used = {*found.train.tolist(), *found.valid.tolist(), *found.judged.tolist()}
    assert not used & set(range(15))


def test_only_copies(tmp_path):
    with pytest.raises(DataError, match="120 of 120 rows are among those"):
        split(*joined(tmp_path, new=120, held=120, copies=120))


def test_refused_cells_are_told_by_column(tmp_path):
    source = table(tmp_path, "new.csv", ["a,b", *("1,2" for _ in range(10))])
    refused = dict.fromkeys(range(2, 6), "column 'a': 'x' is not a number; input 'b': file not found: y.png")
    check_refused(source, refused, 0.5)
    with pytest.raises(DataError) as raised:
        check_refused(source, refused, 0.1)
    lines = str(raised.value).splitlines()
    assert "4 of 10 rows" in lines[0]
    assert lines[1:] == [
        "  column 'a': 4 cells cannot be read (row 3: 'x' is not a number)",
        "  column 'b': 4 cells cannot be read (row 3: file not found: y.png)",
    ]


def test_head_gets_room_for_new_classes_by_name():
    torch = pytest.importorskip("torch")
    from automm.update.warm import widened

    old = torch.tensor([[1.0, 1.0], [3.0, 3.0]])
    new = torch.full((3, 2), 9.0)
    found = widened(old, new, (("a", "c"), ("a", "b", "c")))
    assert found.tolist() == [[1.0, 1.0], [9.0, 9.0], [3.0, 3.0]]
    assert widened(old, torch.zeros(3, 5), (("a", "c"), ("a", "b", "c"))) is old


def test_categories_keep_their_embeddings():
    torch = pytest.importorskip("torch")
    from automm_tabular.embedded import _with_room
    from automm_tabular.processor import Table

    def made(categories):
        config = Table.Config(columns=("a", "b"), types={"a": "category", "b": "category"}, min_count=2)
        found = Table(config)
        found.fit([categories])
        return found

    table = made({"a": ["x", "x"], "b": ["u", "u"]})
    grown = Table(table.config, table.state)
    grown.extend([{"a": ["z", "x", "z", "once"], "b": ["u", "v", "v", None]}])
    assert grown.state["categories"] == {"a": ["x", "z"], "b": ["u", "v"]}
    assert table.state["categories"] == {"a": ["x"], "b": ["u"]}
    rows_ = torch.arange(6.0)[:, None]  # missing, unknown, x; missing, unknown, u
    assert _with_room(rows_, table.sizes, grown.sizes).ravel().tolist() == [0, 1, 2, 1, 3, 4, 5, 4]


def test_spread_answers_follow_the_names():
    pytest.importorskip("torch")
    from automm.update.duel import spread

    answers = {"probabilities": np.array([[0.2, 0.8]]), "number": np.array([3.0])}
    found = spread(answers, ("a", "c"), ("a", "b", "c"))
    assert found["probabilities"].tolist() == [[0.2, 0.0, 0.8]]
    assert found["number"].tolist() == [3.0]


def test_verdict():
    pytest.importorskip("torch")
    from automm.update.duel import Outcome
    from automm.update.run import _verdict

    better, same = Outcome(50, 0.7, 0.8, 0.1, 0.02, 0.2), Outcome(50, 0.9, 0.9, 0.0, -0.03, 0.03)
    unsure, worse = Outcome(50, 0.7, 0.8, 0.1, -0.01, 0.2), Outcome(50, 0.9, 0.8, -0.1, -0.2, -0.01)
    slipping, undefined = Outcome(50, 0.9, 0.87, -0.03, -0.1, 0.02), Outcome(50, 0.9, None, None, None, None)
    assert _verdict({"new": better, "old": same}, "", 0.02)[0]
    for new, old, gate in (
        (unsure, same, ""), (same, same, ""), (better, worse, ""), (better, slipping, ""), (better, undefined, ""),
        (undefined, same, ""), (better, same, "require: accuracy >= 0.9, it is 0.8"),
    ):  # fmt: skip
        assert not _verdict({"new": new, "old": old}, gate, 0.02)[0]
    assert _verdict({"new": better, "old": slipping}, "", 0.05)[0]


def test_paired_intervals_are_narrower_than_the_spread_of_one_model():
    torch = pytest.importorskip("torch")
    from automm_tasks import Classification

    from automm.update.duel import duel

    assert torch
    random = np.random.default_rng(0)
    target = random.integers(0, 2, 300)
    task = Classification(Classification.Config(), {"column": "y", "names": ["a", "b"], "counts": [1, 1]})
    right = random.random(300) < 0.7
    once = np.where(right, target, 1 - target)
    again = once.copy()
    again[np.flatnonzero(~right)[:30]] = target[np.flatnonzero(~right)[:30]]
    answers = tuple({"probabilities": np.eye(2, dtype=np.float32)[said]} for said in (once, again))
    found = duel("accuracy", (task, task), answers, target, 0)
    assert found.gain == pytest.approx(0.1, abs=1e-6)
    assert 0.06 < found.low < 0.09
    assert 0.11 < found.high < 0.14
    back = duel("accuracy", (task, task), answers[::-1], target, 0)
    assert back.gain == pytest.approx(-0.1, abs=1e-6)
    assert back.worse(0.02)
    # A smaller loss is better.
    loss = duel("log_loss", (task, task), answers, target, 0)
    assert loss.gain > 0


@pytest.mark.parametrize(
    ("text", "rows_", "weights"),
    [
        ("update: none", 0, False),
        ("update: {rows: 7}", 7, "auto"),
        ("update: {rows: 0, weights: true}", 0, True),
        ("", 2000, "auto"),
    ],
)
def test_recipe_key(text, rows_, weights, tmp_path):
    from automm.plugin.loader import load_plugins
    from automm.recipe.parse import load_recipe_text

    found = load_recipe_text(f"data: x.csv\ntarget: y\n{text}\n", tmp_path / "r.yaml", load_plugins().registry).update
    assert (found.rows, found.weights) == (rows_, weights)


@pytest.mark.parametrize("text", ["update: all", "update: {rows: -1}", "update: {weights: much}", "update: {row: 3}"])
def test_recipe_key_problems(text, tmp_path):
    from automm.errors import RecipeError
    from automm.plugin.loader import load_plugins
    from automm.recipe.parse import load_recipe_text

    with pytest.raises(RecipeError, match="update"):
        load_recipe_text(f"data: x.csv\ntarget: y\n{text}\n", tmp_path / "r.yaml", load_plugins().registry)
