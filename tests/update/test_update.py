"""`automm update`: what is learned, what is kept, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fit.commands import run

import automm
from automm.runtime.package import open_package, read_manifest
from automm.update import kept
from update.tables import HEADER, changed, photos, reviews, write


def summary(folder):
    return json.loads((folder / "summary.json").read_text("utf-8"), parse_constant=lambda word: pytest.fail(word))


def share_right(package, rows, folder):
    given = [dict(zip(HEADER, row, strict=True)) for row in rows]
    found = automm.load(package, threads=1).predict(given, folder=photos(folder))
    return np.mean([said == row[-1] for said, row in zip(found.columns["prediction"], rows, strict=True)])


def test_a_new_class_is_learned_and_nothing_forgotten(champion, updated, tmp_path):
    found = summary(updated)
    assert found["status"] == "promoted"
    assert found["promoted"] is True
    assert found["new_classes"] == ["repair"]
    assert found["new"]["low"] > 0
    assert found["new"]["rows"] == found["rows"]["new_judged"] == 75
    assert found["old"]["rows"] == 120
    assert "verdict (target)" in found["drift"]["fields"]
    package = Path(found["package"])
    assert package == updated / "package"
    old, repairs = (
        reviews(200, 30),
        [row for row in reviews(300, 31, ("keep", "return", "repair")) if row[-1] == "repair"],
    )
    assert share_right(champion, repairs, tmp_path) == 0
    assert share_right(package, repairs, tmp_path) > 0.7
    assert share_right(package, old, tmp_path) > share_right(champion, old, tmp_path) - 0.03


def test_the_new_package_continues_the_old_one(champion, updated):
    manifest, _ = read_manifest(updated / "package")
    assert manifest.lineage.parent == read_manifest(champion)[1]
    assert manifest.target.names == ("keep", "repair", "return")
    assert json.loads((updated / "challenger" / "summary.json").read_text("utf-8"))["verified"]["rows"] > 0
    assert summary(updated)["warm"] == {"0": "continued"}


def test_a_new_category_has_its_place_and_the_known_ones_keep_theirs(champion, updated):
    def colours(path):
        part = next(item for item in open_package(path, threads=1).inputs if item.name == "tabular")
        return part.processor.state["categories"]["colour"]

    before, after = colours(champion), colours(updated / "package")
    assert after == [*before, "teal"]


def test_a_useless_update_of_an_update_is_not_promoted(updated, tmp_path):
    rows = reviews(160, 40, ("keep", "return", "repair"))
    verdicts = np.random.default_rng(0).permutation([row[-1] for row in rows])
    write(tmp_path / "noise.csv", changed(rows, verdict=lambda cell, at: str(verdicts[at])))
    done = run("update", updated / "package", "noise.csv", "--out", "run", "--json", "--quiet", cwd=tmp_path)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["status"] == "kept"
    assert found["promoted"] is False
    assert found["reason"].startswith("not surely better on new rows")
    # What stands at package/ is the champion, byte for byte.
    assert read_manifest(tmp_path / "run" / "package")[1] == read_manifest(updated / "package")[1]
    resume = kept.read_resume(open_package(tmp_path / "run" / "challenger" / "package"))
    assert resume.stand_for > kept.read_resume(open_package(updated / "package")).stand_for


def test_kept_rows_stand_for_all_training_rows(champion, updated):
    first, second = (kept.read_resume(open_package(path, threads=1)) for path in (champion, updated / "package"))
    assert (first.rows, first.stand_for, first.held, first.answers) == (256, 256, 120, False)
    new = summary(updated)["rows"]["new_train"]
    assert second.rows <= second.stand_for <= 256 + new
    rows = kept.read_rows(open_package(updated / "package"), kept.ROWS)
    assert {row["verdict"] for row in rows} == {"keep", "return", "repair"}
    assert set(rows[0]) == set(HEADER)
    # Photos travel with the package as they were.
    photo = (updated.parent / "keep0.png").read_bytes()
    assert any(row["photo"] == photo for row in rows)


def test_missing_and_retyped_columns_are_named(champion, tmp_path):
    write(tmp_path / "short.csv", [row[1:] for row in reviews(60, 7)], HEADER[1:])
    done = run("update", champion, "short.csv", "--quiet", cwd=tmp_path)
    assert done.code == 4
    assert "1 input column is missing" in done.said
    assert "'review'" in done.said
    write(tmp_path / "blind.csv", [row[:-1] for row in reviews(60, 7)], HEADER[:-1])
    done = run("update", champion, "blind.csv", "--quiet", cwd=tmp_path)
    assert done.code == 4
    assert "no column 'verdict'" in done.said
    write(tmp_path / "words.csv", changed(reviews(60, 7), price=lambda cell, at: "cheap" if at % 2 else "dear"))
    done = run("update", champion, "words.csv", "--quiet", cwd=tmp_path)
    assert done.code == 4
    assert "column 'price': 60 cells cannot be read (row 1: 'dear' is not a number)" in done.said
    assert summary(tmp_path / "runs" / "reviews-update")["status"] == "failed"
    assert not (tmp_path / "runs" / "reviews-update" / "package").exists()


def test_too_few_rows(champion, tmp_path):
    write(tmp_path / "few.csv", reviews(20, 7))
    done = run("update", champion, "few.csv", "--quiet", cwd=tmp_path)
    assert done.code == 4
    assert "20 new rows are too few" in done.said


def test_the_champion_is_never_written_to(champion, tmp_path):
    write(tmp_path / "new.csv", reviews(60, 7))
    done = run("update", champion, "new.csv", "--out", champion.parent, cwd=tmp_path)
    assert done.code == 2
    assert "choose another --out" in done.said


def test_a_kill_while_publishing_leaves_what_was_there(champion, updated, tmp_path, monkeypatch):
    from automm.update import run as module

    state = SimpleNamespace(folder=tmp_path, package=SimpleNamespace(path=champion))
    module._publish(state, champion)
    before = read_manifest(tmp_path / "package")[1]

    def killed(*_):
        raise KeyboardInterrupt

    for step in ("flush", "put_in_place"):
        with monkeypatch.context() as patch:
            patch.setattr(module, step, killed)
            with pytest.raises(KeyboardInterrupt):
                module._publish(state, updated / "package")
        assert read_manifest(tmp_path / "package")[1] == before
        assert [path.name for path in tmp_path.iterdir()] == ["package"]
    module._publish(state, updated / "package")
    assert read_manifest(tmp_path / "package")[1] == read_manifest(updated / "package")[1]


def test_package_that_keeps_nothing(champion, tmp_path):
    shutil.copytree(champion, tmp_path / "bare")
    manifest = json.loads((tmp_path / "bare" / "automm.json").read_text("utf-8"))
    manifest["files"] = {name: part for name, part in manifest["files"].items() if not name.startswith("resume/")}
    (tmp_path / "bare" / "automm.json").write_text(json.dumps(manifest), "utf-8")
    shutil.rmtree(tmp_path / "bare" / "resume")
    write(tmp_path / "new.csv", reviews(60, 7))
    done = run("update", "bare", "new.csv", cwd=tmp_path)
    assert done.code == 9
    assert "update: none" in done.said
