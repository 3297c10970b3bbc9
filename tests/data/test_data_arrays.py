from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from data_fakes import FileSize, Letters, Rowwise, Scaled, Squares, Steps, table_of

from automm.cache.space import Space
from automm.core.processor import BadCell, BadCells
from automm.core.profile import InputInfo
from automm.data.arrays import ArrayStore, InputCells
from automm.data.batches import Batches, sampling_weights
from automm.data.split import strata
from automm.runtime.media import inside, resolve, resolve_cells


def info(*columns):
    return InputInfo("in", "any", columns)


def build(folder, processor, table, *columns, rows=None, progress=None):
    bad = []
    rows = np.arange(table.rows) if rows is None else np.asarray(rows)
    store = ArrayStore.build(
        folder / "arrays", processor, info(*columns), table, rows, lambda *found: bad.append(found), progress
    )
    return store, bad


def fitted(processor, table, *columns):
    processor.fit(InputCells(processor, info(*columns), table, np.arange(table.rows)))
    return processor


def test_fixed_arrays_missing_and_bad_cells(tmp_path):
    table = table_of(tmp_path, ["k", "x"], [[0, "2"], [1, "NA"], [2, "bad"], [3, "4"]])
    processor = Scaled(Scaled.Config(), {"largest": 4.0})
    store, bad = build(tmp_path, processor, table, "x", rows=[3, 2, 1, 0])
    assert store.batch(np.array([0, 3]))["value"].tolist() == [[1.0], [0.5]]
    assert store.batch(np.arange(4))["value"].ravel().tolist() == [1.0, 0.0, 0.0, 0.5]
    assert store.present.tolist() == [True, False, False, True]
    assert store.bad.tolist() == [False, True, False, False]
    assert bad == [(2, "x", "not a number: 'bad'")]
    assert store.rows.tolist() == [3, 2, 1, 0]
    assert store.lengths is None


def test_varying_arrays_are_padded_to_the_longest_of_the_batch(tmp_path):
    words = ["a", "bcd", None, "ef", "ghijk"]
    table = table_of(tmp_path, ["k", "w"], [[at, word or ""] for at, word in enumerate(words)])
    store, _ = build(tmp_path, Letters(None), table, "w")
    batch = store.batch(np.array([1, 2, 3]))
    assert batch["codes"].tolist() == [[98, 99, 100], [0, -1, -1], [101, 102, -1]]
    assert batch["codes"].dtype == np.int64
    assert batch["count"].tolist() == [3, 0, 2]
    assert store.batch(np.array([4]))["codes"].shape == (1, 5)
    assert store.lengths.tolist() == [1, 3, 1, 2, 5]
    squares, _ = build(tmp_path, Squares(None), table_of(tmp_path, ["s"], [[1], [3], [2]], "s.csv"), "s")
    grid = squares.batch(np.array([1, 0]))["grid"]
    assert grid.shape == (2, 3, 2, 4)
    assert (grid[0] == 3).all()
    assert grid[1].sum() == 1 * 2 * 2


def test_many_columns_and_numbered_columns(tmp_path):
    rows = [[1, 2, 3], ["", 5, 6], ["", "", ""], [7, 8, 9]]
    table = table_of(tmp_path, ["t0", "t1", "t2"], rows)
    store, bad = build(tmp_path, Steps(None), table, "t0", "t1", "t2", rows=[3, 2])
    assert store.batch(np.arange(2))["values"].tolist() == [[7.0, 8.0, 9.0], [0.0, 0.0, 0.0]]
    assert store.present.tolist() == [True, False]
    typed = tmp_path / "typed.jsonl"
    typed.write_text('{"x": 1, "y": 2}\n{"x": null, "y": 5}\n{"x": null, "y": null}\n')
    from automm.data.sources import open_table

    table = open_table(["typed.jsonl"], tmp_path, tmp_path / "cache")
    store, bad = build(tmp_path, Rowwise(None), table, "x", "y")
    assert store.batch(np.arange(3))["sum"].ravel().tolist() == [3.0, 5.0, 0.0]
    assert store.present.tolist() == [True, True, False]
    typed.write_text('{"x": 1, "y": "bad"}\n{"x": 2, "y": null}\n')
    store, bad = build(tmp_path, Rowwise(None), open_table(["typed.jsonl"], tmp_path, tmp_path / "cache"), "x", "y")
    assert bad == [(0, "in", "x: 'bad' is no number")]
    assert store.batch(np.arange(2))["sum"].ravel().tolist() == [0.0, 2.0]


def test_media_cells_are_resolved_or_reported(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"12345")
    (tmp_path / "data").mkdir()
    cells = ["a.bin", "inline:xyz", "../a.bin", "https://x.org/a.bin", "gone.bin", ""]
    table = table_of(tmp_path, ["k", "m"], [[at, cell] for at, cell in enumerate(cells)])
    store, bad = build(tmp_path, FileSize(None), table, "m")
    assert store.batch(np.arange(6))["size"].tolist() == [5, 10, 0, 0, 0, 0]
    assert store.present.tolist() == [True, True, False, False, False, False]
    assert bad == [
        (2, "m", "outside the data folder: ../a.bin"),
        (3, "m", "https addresses are not read; download the file and name its path"),
        (4, "m", "file not found: gone.bin"),
    ]
    again, reported = build(tmp_path, FileSize(None), table, "m")
    assert again.folder == store.folder
    assert reported == bad
    (tmp_path / "a.bin").write_bytes(b"123456")
    changed, _ = build(tmp_path, FileSize(None), table, "m")
    assert changed.batch(np.array([0]))["size"].tolist() == [6]


def test_paths_stay_inside_the_folder(tmp_path):
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(b"x")
    (home / "ok.bin").write_bytes(b"x")
    os.symlink(tmp_path / "secret.bin", home / "link.bin")
    os.symlink(home / "ok.bin", home / "sub/fine.bin")
    processor = FileSize(None)
    assert resolve(processor, "sub/../ok.bin", home) == home / "ok.bin"
    assert resolve(processor, "sub\\fine.bin", home) == home / "ok.bin"
    assert resolve(processor, str(home / "ok.bin"), home) == home / "ok.bin"
    assert resolve(processor, b"raw", home) == b"raw"
    assert resolve(processor, [1.0, 2.0], home) == [1.0, 2.0]
    assert resolve(processor, "inline:../x", None) == "inline:../x"
    assert inside(home, "..") is None
    for cell in ("../secret.bin", str(tmp_path / "secret.bin"), "link.bin", "/etc/passwd", str(tmp_path / "home2/x")):
        with pytest.raises(BadCell, match="outside the data folder"):
            resolve(processor, cell, home)
    for cell, message in (
        ("S3://b/k", "s3 addresses are not read"),
        ("a\0b", "not a path"),
        ("x" * 5000, "not a path"),
    ):
        with pytest.raises(BadCell, match=message):
            resolve(processor, cell, home)
    with pytest.raises(BadCell, match="not accepted here"):
        resolve(processor, "ok.bin", None)
    with pytest.raises(BadCells) as caught:
        resolve_cells(processor, [None, "../x", "ok.bin", "http://x"], home)
    assert list(caught.value.reasons) == [1, 3]
    assert resolve_cells(Scaled(None), ["../x"], home) == ["../x"]  # no media: just text


def test_stores_are_reused_until_something_changes(tmp_path):
    table = table_of(tmp_path, ["k", "w"], [[at, "abc"[: at % 3 + 1]] for at in range(10)])
    Letters.loads = 0
    steps = []
    first, _ = build(tmp_path, Letters(None), table, "w", progress=lambda done, total: steps.append((done, total)))
    assert Letters.loads == 10
    assert steps == [(10, 10)]
    again, _ = build(tmp_path, Letters(None), table, "w")
    assert (again.folder, Letters.loads) == (first.folder, 10)
    folders = {first.folder}
    for change in ("rows", "version", "state", "cells"):
        processor = Letters(None)
        if change == "version":
            processor.version = 2
        if change == "state":
            processor.state = {"table": np.arange(3)}
        if change == "cells":
            table = table_of(tmp_path, ["k", "w"], [[at, "xyz"] for at in range(10)], "other.csv")
        store, _ = build(tmp_path, processor, table, "w", rows=range(5) if change == "rows" else None)
        folders.add(store.folder)
    assert len(folders) == 5
    a = build(tmp_path, Scaled(Scaled.Config(), {"largest": 4.0}), table, "k")[0]
    b = build(tmp_path, Scaled(Scaled.Config(times=2.0), {"largest": 4.0}), table, "k")[0]
    assert a.folder != b.folder


def test_a_failed_build_leaves_nothing_behind(tmp_path):
    class Broken(Letters):
        def load(self, cell):
            raise RuntimeError("broken")

    table = table_of(tmp_path, ["w"], [["a"]])
    with pytest.raises(RuntimeError, match="broken"):
        build(tmp_path, Broken(None), table, "w")
    assert not list((tmp_path / "arrays").iterdir())


def test_fit_sees_the_cells_more_than_once(tmp_path):
    table = table_of(tmp_path, ["k", "x"], [[at, at] for at in range(9000)])
    cells = InputCells(Scaled(None), info("x"), table, np.arange(9000))
    assert [len(chunk) for chunk in cells] == [4096, 4096, 808]
    assert [len(chunk) for chunk in cells] == [4096, 4096, 808]
    assert fitted(Scaled(None), table, "x").state == {"largest": 8999.0}


def test_batches_of_small_arrays_are_fast(tmp_path, monkeypatch):
    words = ["word" * (at % 30 + 1) for at in range(3000)]
    table = table_of(tmp_path, ["k", "w"], [[at, word] for at, word in enumerate(words)])
    for limit in (2**30, 0):  # read into memory, mapped
        monkeypatch.setattr("automm.cache.entries.IN_MEMORY", limit)
        store, _ = build(tmp_path, Letters(None), table, "w")
        random = np.random.default_rng(0)
        picks = [random.integers(0, 3000, 64) for _ in range(200)]
        store.batch(picks[0])
        best = min(timed(store, picks) for _ in range(3))
        assert best < 0.0015  # 0.1 ms on an idle core
        assert "".join(map(chr, store.batch(np.array([7]))["codes"][0])) == words[7]


def timed(store, picks):
    start = time.perf_counter()
    for pick in picks:
        store.batch(pick)
    return (time.perf_counter() - start) / len(picks)


@pytest.fixture
def store(tmp_path: Path) -> ArrayStore:
    table = table_of(tmp_path, ["k", "w"], [[at, "x" * (at % 7 + 1)] for at in range(200)])
    return build(tmp_path, Letters(None), table, "w", rows=range(100, 200))[0]


def epoch(batches, number=0):
    batches.set_epoch(number)
    return list(batches)


def test_one_process_sees_every_row_once(store):
    batches = Batches({"w": store}, np.arange(100), 32, shuffle=True, seed=1)
    found = epoch(batches)
    assert [len(batch["row"]) for batch in found] == [25, 25, 25, 25]
    assert len(batches) == 4
    assert set(found[0]) == {"w.codes", "w.count", "w.present", "target", "row", "valid"}
    rows = np.concatenate([batch["row"] for batch in found])
    assert sorted(rows) == list(range(100, 200))
    for batch in found:
        assert (batch["target"] + 100 == batch["row"]).all()
        assert (batch["w.count"] == batch["row"] % 7 + 1).all()
        assert batch["w.codes"].shape[1] == batch["w.count"].max()
        assert batch["valid"].all()
    assert np.array_equal(rows, np.concatenate([batch["row"] for batch in epoch(batches)]))
    assert not np.array_equal(rows, np.concatenate([batch["row"] for batch in epoch(batches, 1)]))


@pytest.mark.parametrize("world", [2, 3, 8])
def test_processes_share_the_same_steps(store, world):
    one = epoch(Batches({"w": store}, None, 33, shuffle=True, seed=5), 3)
    ranks = [epoch(Batches({"w": store}, None, 33, shuffle=True, seed=5, rank=r, world=world), 3) for r in range(world)]
    assert {len(steps) for steps in ranks} == {len(one)}
    for at, whole in enumerate(one):
        sizes = {len(steps[at]["row"]) for steps in ranks}
        assert len(sizes) == 1
        assert {row for steps in ranks for row in steps[at]["row"]} == set(whole["row"])
        assert all(steps[at]["valid"].all() for steps in ranks)


@pytest.mark.parametrize(("rows", "world"), [(100, 3), (2, 4), (1, 2)])
def test_evaluation_counts_every_row_once(store, rows, world):
    positions = np.arange(rows)
    ranks = [epoch(Batches({"w": store}, None, 16, positions=positions, rank=r, world=world)) for r in range(world)]
    assert len({len(steps) for steps in ranks}) == 1
    counted = [row for steps in ranks for batch in steps for row in batch["row"][batch["valid"]]]
    assert sorted(counted) == list(range(100, 100 + rows))
    assert all(len(batch["row"]) for steps in ranks for batch in steps)


def test_evaluation_keeps_the_order(store):
    found = epoch(Batches({"w": store}, None, 30, positions=np.array([5, 3, 99, 3])))
    assert np.concatenate([batch["row"] for batch in found]).tolist() == [105, 103, 199, 103]


@pytest.mark.parametrize("method", ["over", "under", "sqrt"])
def test_resampling_is_the_same_over_any_number_of_processes(store, method):
    classes = np.array([0] * 85 + [1] * 10 + [2] * 5)
    weights, draws = sampling_weights(classes, method)

    def labels(world):
        ranks = [
            epoch(Batches({"w": store}, classes, 20, shuffle=True, weights=weights, draws=draws, rank=r, world=world))
            for r in range(world)
        ]
        return np.concatenate([batch["target"] for steps in ranks for batch in steps]), ranks

    single, ranks = labels(1)
    rows = np.concatenate([batch["row"] for batch in ranks[0]])
    counts = np.bincount(single, minlength=3)
    if method == "over":
        assert counts.tolist() == pytest.approx([33.3, 33.3, 33.3], abs=1)
        assert len(set(rows[single == 0])) == counts[0]  # no row of the large class comes twice
    elif method == "under":
        assert np.abs(counts - 5).max() <= 1
        assert len(set(rows)) == len(rows) == 15
    else:
        assert counts[0] > counts[1] > counts[2] > 10
    double = np.bincount(labels(2)[0], minlength=3)
    assert np.abs(double - counts).max() <= 5  # only rows that fill up


@pytest.mark.parametrize("method", ["over", "sqrt"])
def test_two_processes_see_every_row_its_right_share(store, method):
    # A row counts for its rarest label; rows without any are a class of their own.
    target = np.zeros((80, 3), np.float32)
    target[:15, 0], target[12:20, 1], target[18:23, 2] = 1, 1, 1
    classes = strata(target)
    sizes = np.bincount(classes)
    weights, draws = sampling_weights(classes, method)
    positions = np.arange(80)
    seen, steps = np.zeros((2, 80)), []
    for number in range(30):
        for rank in range(2):
            batches = Batches(
                {"w": store}, None, 16, positions=positions, shuffle=True, weights=weights, draws=draws,
                by_length=True, rank=rank, world=2,
            )  # fmt: skip
            found = epoch(batches, number)
            steps.append(len(found))
            for batch in found:
                np.add.at(seen[rank], batch["row"] - 100, 1)
    assert set(steps) == {5}
    assert seen.sum(1).tolist() == [30 * 40] * 2  # each process half of the draws: 16 rows a step, none to fill up
    per_class = np.array([seen.sum(0)[classes == c].sum() / 30 for c in range(4)])
    share = sizes**0.5 / (sizes**0.5).sum() if method == "sqrt" else np.full(4, 0.25)
    assert per_class == pytest.approx(80 * share, abs=0.6)
    for c in range(4):  # rows of a class come equally often
        each = seen.sum(0)[classes == c] / 30
        assert each == pytest.approx(np.full(len(each), each.mean()), abs=0.35)


def test_batches_by_length_pad_less_and_lose_no_row(store):
    def padding(by_length):
        found = epoch(Batches({"w": store}, None, 10, shuffle=True, by_length=by_length))
        assert sorted(np.concatenate([batch["row"] for batch in found])) == list(range(100, 200))
        return sum((batch["w.codes"] == -1).sum() for batch in found)

    assert padding(True) < 0.3 * padding(False)


def test_batches_refuse_what_does_not_fit(store):
    with pytest.raises(ValueError, match="no rows"):
        Batches({"w": store}, None, 8, positions=np.array([], int))
    with pytest.raises(ValueError, match="3 targets for 100 rows"):
        Batches({"w": store}, np.arange(3), 8)
    with pytest.raises(ValueError, match="weights"):
        Batches({"w": store}, None, 8, shuffle=True, weights=np.full(100, -1.0))


def test_a_file_that_many_rows_name_is_read_once(tmp_path):
    for name, size in (("a", 3), ("b", 5)):
        (tmp_path / f"{name}.bin").write_bytes(b"x" * size)
    cells = ["a.bin", "gone.bin", "b.bin", "a.bin", "", "b.bin", "gone.bin", ""]
    table = table_of(tmp_path, ["k", "m"], [[at, cell] for at, cell in enumerate(cells)])
    seen = []
    store, bad = build(tmp_path, FileSize(None), table, "m", rows=np.arange(1, 8), progress=lambda *at: seen.append(at))
    assert seen == [(4, 4)]  # gone, b, a, missing
    assert store.batch(np.arange(7))["size"].tolist() == [0, 5, 3, 0, 5, 0, 0]
    assert store.present.tolist() == [False, True, True, False, True, False, False]
    assert [row for row, _, _ in bad] == [1, 6]
    assert store.firsts.tolist() == [0, 1, 2, 3]
    doubled = ArrayStore.derive(
        tmp_path / "derived", store, Space(tmp_path / "kept", "doubled", store.specs, "doubled"),
        lambda at, told: {"size": 2 * store.batch(at)["size"]},
    )  # fmt: skip
    assert doubled.batch(np.array([4, 2, 6]))["size"].tolist() == [10, 6, 0]
    assert doubled.present.tolist() == store.present.tolist()
