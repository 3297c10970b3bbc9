"""Bad tables, bad cells and bad recipes: one clear message and the documented exit code, or a run that copes."""

from __future__ import annotations

import csv
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import automm
from fit.commands import changed, reviews, run, save, with_column
from fit.conftest import events, summary

RECIPE = "data: train.csv\ntarget: verdict\ntrain: {epochs: 1}\n"
TWO = RECIPE.replace("train.csv", "{train: train.csv, test: test.csv}")


def recipe(folder, more="", base=RECIPE):
    (folder / "r.yaml").write_text(base + more, "utf-8")


def fit(folder, *more):
    return run("fit", "r.yaml", "--out", "run", *more, cwd=folder)


def plan(folder):
    """The plan with its probe: everything that fit does but the export."""
    done = run("plan", "r.yaml", cwd=folder)
    assert done.code == 0, done.err
    assert "estimate" in done.out
    return done.out


# Tables that cannot be learned from


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("train.csv", b"", "train.csv: the file is empty"),
        ("train.csv", b"\n \n", "train.csv: the file is empty"),
        ("train.csv", b"review,price,verdict\n", "train.csv: the table has a header but no rows"),
        ("train.csv", b"price,verdict\n1,keep\n", "train.csv: too few rows to learn from (1)"),
        ("train.csv", b"price,verdict\n1,keep\n2,return\n", "train.csv: too few rows to learn from (2)"),
        (
            "train.csv",
            b"price,verdict\n1,a\n2,b\n3,c\n",
            "no task fits the target 'verdict' (3 values in 3 rows); name",
        ),
        ("train.csv", np.random.default_rng(0).bytes(4000), "train.csv: not a text file (it holds binary data)"),
        ("train.csv", b"PK\x03\x04" + bytes(90), "it looks like a ZIP or Excel file; save the sheet as CSV"),
        (
            "train.csv",
            b"a^verdict\n1^x\n2^y\n3^x\n",
            "(one column only: are the cells separated by a comma, semicolon, tab or |?)",
        ),
        (
            "train.csv",
            b"a,verdict\n1,x\n2\n3,y,z\n",
            "lines that do not fit the header of 2 columns:\n  line 3: 1 cell",
        ),
        ("train.csv", b"verdict\nx\ny\nx\ny\n", "no column is left to learn from"),
        ("train.parquet", b"PAR1" + bytes(50), "train.parquet: not a readable Parquet file"),
        ("train.jsonl", b'{"a": 1, "verdict": "x"}\n{"a": 1,\n', "train.jsonl: line 2"),
        ("trian.csv", b"a,verdict\n1,x\n", "train.csv: file not found; in that folder there are: trian.csv"),
    ],
)
def test_table_that_cannot_be_read(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    recipe(tmp_path, base=RECIPE.replace("train.csv", "train.csv" if name == "trian.csv" else name))
    done = fit(tmp_path)
    assert done.code == 4, done.err
    assert said in done.said
    found = summary(tmp_path / "run")
    assert (found["status"], found["exit_code"], found["package"]) == ("failed", 4, None)
    assert found["error"] in done.err


@pytest.mark.parametrize(
    ("column", "cell", "more", "said"),
    [
        ("verdict", "keep", "", "target column 'verdict' holds one class in all training rows: 'keep'"),
        ("verdict", "keep", "task: classification\n", "target column 'verdict' holds one class in all training rows"),
        ("verdict", "", "", "target column 'verdict': all 40 cells are empty"),
        ("verdict", "", "task: classification\n", "target column 'verdict': all 32 training cells are empty"),
        ("verdict", "3.5", "task: regression\n", "holds one number in all training rows: 3.5"),
        ("verdict", "3.5", "", "target column 'verdict' holds one value in all rows: '3.5'"),
        ("verdict", "keep", "task: regression\n", "holds no numbers, for example 'keep'; use task: classification"),
        ("colour", "red", "split: {group: colour}\n", "column 'colour' has 1 groups; a split in 2 parts needs more"),
        ("colour", "red", "split: {time: colour}\n", "has 0 different times (40 cells are no date or number)"),
        ("colour", "x", "split: {group: seller}\n", "split: train.csv has no column 'seller'; it has review, price"),
    ],
)
def test_column_that_cannot_be_used(tmp_path, column, cell, more, said):
    save(tmp_path / "train.csv", changed(reviews(tmp_path), column, lambda *_: cell))
    recipe(tmp_path, more)
    done = fit(tmp_path)
    assert done.code == 4, done.err
    assert said in done.said


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ("", 4, "target: train.csv has no column 'verdit'; did you mean 'verdict'?"),
        ("inputs: {revue: text}\n", 3, "inputs.revue: no column 'revue' in the data; did you mean 'review'?"),
        ("inputs: {review: txt}\n", 3, "unknown modality 'txt'; did you mean 'text'?"),
        ("inputs: {verdict: category}\n", 3, "r.yaml:4:10 inputs.verdict: 'verdict' is the target"),
        ("ignore: [colur]\n", 3, "ignore: no column 'colur' in the data; did you mean 'colour'?"),
        ("ignore: [review, price, rating, colour]\n", 4, "no column is left to learn from"),
        ("metric: rmse\n", 3, "metric 'rmse' is not one of task 'classification': accuracy"),
        ("model: {fusion: gatd}\n", 3, "r.yaml:4:9 model.fusion: unknown fusion 'gatd'; did you mean 'gated'?"),
        ("model: {encoders: {revue: ngram}}\n", 3, "model.encoders"),
        ("split: {method: random, valid: 0}\n", 3, "split.valid: must be a share between 0 and 1, got 0"),
        ("split: {method: random, valid: 0.6, test: 0.5}\n", 3, "split: valid and test leave no rows to train on"),
        ("train: {epochs: 0}\n", 3, "the key is repeated; it stands in line 3 already"),
        ("plugins: [absent.py]\n", 3, "r.yaml:4:1 plugins: there is no Python file absent.py in the recipe's folder"),
        ("plugins: [../other.py]\n", 3, "plugins: ../other.py lies outside the recipe's folder; copy it there"),
    ],
)
def test_recipe_that_does_not_fit_the_data(tmp_path, more, code, said):
    save(tmp_path / "train.csv", reviews(tmp_path))
    recipe(tmp_path, more, RECIPE if more else RECIPE.replace("verdict", "verdit"))
    done = fit(tmp_path)
    assert done.code == code, done.err
    assert said in done.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "error: r.yaml: cannot read the recipe: No such file or directory"),
        ("folder", "error: r.yaml: cannot read the recipe: Is a directory"),
        (b"data: caf\xe9.csv\n", "r.yaml:1:10 byte 0xe9 is not UTF-8: save the recipe as UTF-8"),
        (b"data: [\n", "r.yaml:2:1 not YAML"),
        (b"- a\n- b\n", "r.yaml:1:1"),
        (b"a: &a [x,x,x,x,x,x,x,x,x,x]\n" + b"".join(
            b"%c: &%c [%s]\n" % (at, at, b",".join([b"*%c" % (at - 1)] * 10)) for at in range(98, 106)
        ), "more than 20,000 values, with aliases written out, are refused"),
        (b"data: !!python/object/apply:os.system [id]\n", "is refused: a recipe is plain data"),
    ],
)  # fmt: skip
def test_file_that_is_no_recipe(tmp_path, content, said):
    if content == "folder":
        (tmp_path / "r.yaml").mkdir()
    elif content is not None:
        (tmp_path / "r.yaml").write_bytes(content)
    done = fit(tmp_path)
    assert done.code == 3
    assert said in done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("out", ["taken", "taken/below", "/proc/none/run"])
def test_run_folder_that_cannot_be_written(tmp_path, out):
    save(tmp_path / "train.csv", reviews(tmp_path))
    recipe(tmp_path)
    (tmp_path / "taken").write_text("a file")
    done = run("fit", "r.yaml", "--out", out, cwd=tmp_path)
    assert done.code == 10
    assert "cannot write" in done.said
    assert "choose another --out" in done.said


def test_unknown_name_to_block(tmp_path):
    recipe(tmp_path)
    done = fit(tmp_path, "--block", "txet")
    assert done.code == 2
    assert "--block txet: no such plugin or distribution (there are: audio, automm, compress, export" in done.said


# Parts that do not fit together


def test_test_table_without_an_input_column(tmp_path):
    save(tmp_path / "train.csv", reviews(tmp_path))
    save(tmp_path / "test.csv", [row[1:] for row in reviews(tmp_path)])
    recipe(tmp_path, base=TWO)
    done = fit(tmp_path)
    assert done.code == 4
    assert "data.test: test.csv has no column 'review'; it has price, rating, colour, verdict" in done.said


def test_class_that_the_training_rows_lack(tmp_path):
    save(tmp_path / "train.csv", reviews(tmp_path))
    save(tmp_path / "test.csv", changed(reviews(tmp_path, 20), "verdict", lambda at, cell: "swap" if at == 2 else cell))
    recipe(tmp_path, "", TWO.replace("test:", "max_bad_rows: 0.01, test:"))
    done = fit(tmp_path)
    assert done.code == 4
    assert "1 of 60 rows (1.7%) cannot be used; data.max_bad_rows allows 1.0%" in done.said
    assert (
        "test.csv, row 3, verdict: target 'verdict': the class 'swap' is not among the training rows' classes"
        in done.said
    )
    with (tmp_path / "run" / "bad_rows.csv").open(encoding="utf-8") as file:
        (bad,) = csv.DictReader(file)
    assert (bad["table"], bad["row"], bad["column"]) == ("test.csv", "3", "verdict")


def test_target_of_no_use_in_many_rows(tmp_path):
    cells = ("nan", "inf", "-inf", "1e999", "4")
    save(
        tmp_path / "train.csv",
        changed(reviews(tmp_path), "rating", lambda at, _: cells[at % 5] if at % 5 < 4 else str(at)),
    )
    recipe(tmp_path, "task: regression\n", RECIPE.replace("verdict", "rating"))
    done = fit(tmp_path)
    assert done.code == 4
    assert "32 of 40 rows (80.0%) cannot be used" in done.said
    assert "24 x target 'rating'\n  8 x target 'rating' is empty" in done.said


# Odd tables that can be learned from


@pytest.mark.parametrize(
    ("column", "cell", "shown"),
    [
        ("price", lambda at, cell: ("nan", "inf", "-inf", "1e999")[at % 4] if at < 4 else cell, "price: number"),
        ("price", lambda at, cell: "7.5" if at == 3 else "", "price: number"),
        ("review", lambda at, cell: "a nice room with a view" if at == 3 else "", "review: category"),
        ("review", lambda at, cell: cell + " word" * 200_000 if at < 3 else cell, "review: text"),
        ("colour", lambda at, cell: f"colour {at}", "colour"),
    ],
    ids=["infinite", "one number", "one text", "1 MB", "all different"],
)
def test_odd_column(tmp_path, column, cell, shown):
    save(tmp_path / "train.csv", changed(reviews(tmp_path), column, cell))
    recipe(tmp_path)
    assert shown in plan(tmp_path)


def test_infinite_target_is_a_bad_row(tmp_path):
    save(tmp_path / "train.csv", changed(reviews(tmp_path), "rating", lambda at, cell: "inf" if at == 3 else cell))
    recipe(tmp_path, "task: regression\n", RECIPE.replace("verdict", "rating"))
    assert "rows       " in plan(tmp_path)
    out = run("check", "r.yaml", cwd=tmp_path).out
    sizes = [int(part.split()[0]) for part in out.partition("rows ")[2].partition("\n")[0].split(",")]
    assert sum(sizes) == 39


def test_repeated_column_name_is_said(tmp_path):
    table = reviews(tmp_path)
    table[0][1] = "review"
    save(tmp_path / "train.csv", table)
    recipe(tmp_path)
    assert "warning    train.csv: two columns are called 'review'; column 2 is now 'review_2'" in plan(tmp_path)


def test_label_that_is_never_on(tmp_path):
    table = reviews(tmp_path)
    labels = [[str(at % 2), str(at % 3 == 0).lower(), "0"] for at in range(len(table) - 1)]
    save(
        tmp_path / "train.csv",
        [[*table[0], "a", "b", "c"], *(row + more for row, more in zip(table[1:], labels, strict=True))],
    )
    recipe(tmp_path, "", RECIPE.replace("verdict", "[a, b, c]"))
    assert "multilabel" in plan(tmp_path)


def test_batch_larger_than_the_table(tmp_path):
    save(tmp_path / "train.csv", reviews(tmp_path, 10))
    recipe(tmp_path, base=RECIPE.replace("epochs: 1", "epochs: 1, batch_size: 4096"))
    assert "batch_size = 4096" in plan(tmp_path)


def test_very_wide_table(tmp_path):
    random = np.random.default_rng(0)
    cells = random.normal(size=(50, 2000)).round(2).astype(str).tolist()
    save(
        tmp_path / "train.csv",
        [[f"x {at}" for at in range(2000)] + ["verdict"], *([*row, "ab"[at % 2]] for at, row in enumerate(cells))],
    )
    recipe(tmp_path)
    done = run("plan", "r.yaml", "--no-probe", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "2000 columns" in done.out.replace(",", "")


def test_one_validation_row_empty_cells_and_new_categories(tmp_path):
    """All in one run: exporting is what takes the time."""
    save(tmp_path / "train.csv", reviews(tmp_path))
    rows = reviews(tmp_path, 12, seed=1)
    save(
        tmp_path / "test.csv",
        [
            rows[0],
            *([*["", "", "", ""], row[4]] for row in rows[1:7]),
            *([*row[:3], "mauve", row[4]] for row in rows[7:]),
        ],
    )
    recipe(tmp_path, "split: {method: random, valid: 0.001}\n", TWO)
    done = fit(tmp_path)
    assert done.code == 0, done.err
    assert summary(tmp_path / "run")["rows"] == {"train": 39, "valid": 1, "test": 12}
    assert 0 <= summary(tmp_path / "run")["test"]["accuracy"] <= 1
    save(
        tmp_path / "new.csv",
        [["other", *row[1:]] if at else ["other", "x", "y", "z", "w"] for at, row in enumerate(rows)],
    )
    refused = run("predict", "run/package", "new.csv", "-o", "out.csv", cwd=tmp_path)
    assert refused.code == 4
    assert "that the data do not have: " in refused.said
    assert not (tmp_path / "out.csv").exists()


# Media


def photo(path, value, size=24):
    pixels = np.full((size, size, 3), value, np.uint8)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)


def huge_png(path):
    """10,000 x 10,000 white pixels in 12 KB."""
    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(b"\0" + b"\xff" * 1250) for _ in range(10_000)) + rows.flush()
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 10_000, 10_000, 1, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in parts)
    )


def photos(folder, rows=40):
    """A table of dark and light photos in `img/`."""
    for at in range(rows):
        photo(folder / "img" / f"{at}.png", 40 if at % 2 else 210)
    save(
        folder / "train.csv",
        [["photo", "kind"], *([f"img/{at}.png", "dark" if at % 2 else "light"] for at in range(rows))],
    )
    recipe(folder, "", RECIPE.replace("verdict", "kind"))


def spoil(folder):
    """Five rows that cannot be used, each in its own way. Rows are counted from 1."""
    (folder / "img" / "2.png").write_bytes(b"no picture at all")
    whole = (folder / "img" / "5.png").read_bytes()
    (folder / "img" / "5.png").write_bytes(whole[: len(whole) // 2])
    huge_png(folder / "img" / "8.png")
    (folder / "img" / "11.png").unlink()
    text = (folder / "train.csv").read_text("utf-8").replace("img/14.png", "../secret.png")
    (folder / "train.csv").write_text(text, "utf-8")
    photo(folder.parent / "secret.png", 0)


REASONS = {
    3: "not a picture",
    6: "damaged",
    9: "over the limit of 64,000,000 pixels",
    12: "file not found: 11.png",
    15: "outside the data folder: ../secret.png",
}


def test_few_bad_pictures_are_set_aside_and_refused_by_name(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    photos(folder)
    spoil(folder)
    recipe(folder, "", RECIPE.replace("verdict", "kind").replace("train.csv", "{train: train.csv, max_bad_rows: 0.2}"))
    done = fit(folder)
    assert done.code == 0, done.err
    assert "5 bad rows left out; see " in done.err
    with (folder / "run" / "bad_rows.csv").open(encoding="utf-8") as file:
        bad = {int(row["row"]): row for row in csv.DictReader(file)}
    assert {row: (found["table"], found["column"]) for row, found in bad.items()} == dict.fromkeys(
        REASONS, ("train.csv", "photo")
    )
    for row, reason in REASONS.items():
        assert reason in bad[row]["reason"]
    assert summary(folder / "run")["bad_rows"] == 5

    done = run("predict", "run/package", "train.csv", "-o", "out.jsonl", cwd=folder)
    assert done.code == 0, done.err
    assert "40 rows: 35 predicted, 5 refused" in done.err
    rows = [json.loads(line) for line in (folder / "out.jsonl").read_text("utf-8").splitlines()]
    assert [row["row"] for row in rows] == list(range(1, 41))
    good = [row for row in rows if row["row"] not in REASONS]
    backwards = [{"photo": f"img/{row['row'] - 1}.png"} for row in reversed(good)]
    alone = automm.load(folder / "run" / "package").predict(backwards, folder=folder).columns["probability_dark"]
    assert [row["probability_dark"] for row in good] == pytest.approx(alone[::-1], abs=1e-5)
    assert [row["error"] for row in good] == [None] * 35
    for row in rows:
        if row["row"] in REASONS:
            assert REASONS[row["row"]] in row["error"]
            assert "photo" in row["error"]
            assert row["prediction"] is None
            assert row["probability_dark"] is None


def test_too_many_bad_pictures_stop_the_run(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    photos(folder)
    spoil(folder)
    done = fit(folder)
    assert done.code == 4
    assert "5 of 40 rows (12.5%) cannot be used; data.max_bad_rows allows 5.0%" in done.said
    assert "1 x outside the data folder" in done.said
    assert "train.csv, row 3, photo: " in done.said
    assert len((folder / "run" / "bad_rows.csv").read_text("utf-8").splitlines()) == 6
    assert events(folder / "run", "trial") == []


def test_photos_that_are_all_missing_are_not_ignored(tmp_path):
    save(tmp_path / "train.csv", with_column(reviews(tmp_path), "photo", lambda at: f"img/{at}.jpg"))
    recipe(tmp_path)
    done = fit(tmp_path)
    assert done.code == 4
    assert "40 of 40 rows (100.0%) cannot be used" in done.said
    assert "file not found: 0.jpg" in done.said
