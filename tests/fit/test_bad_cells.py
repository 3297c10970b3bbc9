"""Damaged files, odd cells and missing modalities, end to end: a row is refused by name or predicted, none is shifted.

One table of six modalities, fitted by boosted trees on fixed descriptors and by a network, mostly from scratch.
"""

from __future__ import annotations

import csv
import io
import json
import resource
import time
from itertools import zip_longest

import numpy as np
import pytest
from PIL import Image

import automm
from fit.commands import reviews, run, save, with_column
from fit.conftest import summary

av = pytest.importorskip("av")
soundfile = pytest.importorskip("soundfile")

RATE = 8000
ROWS = 20
"""Good rows of the training table."""
COLUMNS = ["price", "colour", "note", "photo", "sound", "clip", "trace", "memo", "weight", "spare", "kind"]
INPUTS = {"price": "tabular", "note": "text", "photo": "image", "sound": "audio", "clip": "video", "trace": "series"}
RECIPE = """data: {train: train.csv, test: test.csv, max_bad_rows: 0.5}
target: kind
train: {epochs: 2, batch_size: 16}
search: {trials: 1, baselines: false, ensemble: false}
"""
NAMED = """inputs: {memo: text, weight: number, "*": }
"""
"""The training cells of both columns are all empty."""
MODELS = {
    "trees": """model:
  learner: {name: lightgbm, min_rows: 2, trees: 10}
  encoders:
    photo: {name: image_descriptors, words: 8}
    clip: {name: video_descriptors, snippets: 1, length: 4}
""",
    "network": """model:
  learner: network
  fusion: {name: late, hidden: 16}
  encoders:
    tabular: {name: tabular_mlp, layers: 1}
    text: ngram
    photo: {name: small_cnn, size: 32, width: 8}
    sound: {name: mel_cnn, mels: 16, width: 8}
    clip: {name: video_descriptors, snippets: 1, length: 4}
    trace: {name: inception_time, filters: 4, depth: 1, kernel: 9}
""",
}


# Files: an even row is calm, an odd one is not


def photo(odd, random, form):
    file = io.BytesIO()
    pixels = random.normal(170 if odd else 80, 30, (24, 24, 3)).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def sound(odd, random, form, seconds=0.6):
    file = io.BytesIO()
    steps = np.arange(round(seconds * RATE)) / RATE
    samples = 0.3 * np.sin(2 * np.pi * (900 if odd else 300) * steps) + random.normal(0, 0.02, len(steps))
    soundfile.write(file, samples.astype(np.float32), RATE, format=form)
    return file.getvalue()


def film(frames):
    """An MP4 file of grey frames [time, height, width]; none: the file has a track of pictures and no picture."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("mpeg4", rate=8)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.thread_count = 1
        out.start_encoding()
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.stack([frame] * 3, 2), format="rgb24")))
        out.mux(stream.encode())
    return file.getvalue()


def clip(odd, random):
    frames = random.normal(100, 20, (5, 32, 32))
    for at, frame in enumerate(frames):
        row = 5 * at if odd else 20 - 5 * at
        frame[row : row + 8] = 230
    return film(frames.clip(0, 255).astype(np.uint8))


def trace(odd, random, form, steps=30):
    moments = np.arange(steps)
    values = np.stack([np.sin(moments / (2 if odd else 6)), np.cos(moments / 3)], 1)
    values += random.normal(0, 0.1, values.shape)
    file = io.BytesIO()
    if form == "npy":
        np.save(file, values)
    else:
        np.savetxt(file, values, fmt="%.3f", delimiter=",", header="x,y", comments="")
    return file.getvalue()


def half(data):
    return data[: len(data) // 2]


NOISE = np.random.default_rng(9).bytes(2000)


def bad_files():
    """(column, ending, content, part of the reason) of files that cannot be used."""
    random = np.random.default_rng(5)
    png, jpg = (photo(0, random, form) for form in ("PNG", "JPEG"))
    wav, mp3 = (sound(0, random, form) for form in ("WAV", "MP3"))
    npy, table = (trace(0, random, form) for form in ("npy", "csv"))
    return [
        ("photo", "png", NOISE, "not a picture"),
        ("photo", "png", half(png), "damaged"),
        ("photo", "jpg", half(jpg), "damaged"),
        ("photo", "jpg", b"", "file is empty"),
        ("sound", "wav", NOISE, "not a sound file"),
        ("sound", "wav", half(wav), "cut off"),
        ("sound", "mp3", half(mp3), "cut off"),
        ("sound", "wav", sound(0, random, "WAV", seconds=0), "its length is zero"),
        ("clip", "mp4", NOISE, "not a video"),
        ("clip", "mp4", half(clip(0, random)), "damaged video"),
        ("clip", "mp4", film([]), "video"),
        ("trace", "npy", NOISE, "not a series file"),
        ("trace", "npy", half(npy), "truncated .npy"),
        ("trace", "csv", table[: table.rindex(b",")], "has 1 cells, not 2"),
        ("trace", "csv", b"x,y\n", "no samples"),
    ]


def good_row(folder, at, random):
    """The cells of a row, with its files."""
    odd, files = at % 2, folder / "files"
    files.mkdir(exist_ok=True)
    picture, tone, numbers = ("png", "wav", "npy") if at % 4 < 2 else ("jpg", "mp3", "csv")
    made = {
        f"{at}.{picture}": photo(odd, random, "PNG" if picture == "png" else "JPEG"),
        f"{at}.{tone}": sound(odd, random, tone.upper()),
        f"{at}.mp4": clip(odd, random),
        f"{at}.{numbers}": trace(odd, random, numbers),
    }
    for name, content in made.items():
        (files / name).write_bytes(content)
    heard = "loud and very hot" if odd else "calm and rather cool"
    note = f"{random.choice(['engine', 'pump'])} number {at} is {heard}"
    price, colour = f"{1000 + random.normal(100 * odd, 40):.1f}", str(random.choice(["red", "blue"]))
    return [price, colour, note, *(f"files/{name}" for name in made), "", "", "", "worn" if odd else "fine"]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A folder with tables and files. Every second row of train.csv has a bad file, as long as there are bad files."""
    folder = tmp_path_factory.mktemp("workshop")
    random = np.random.default_rng(0)
    good = [good_row(folder, at, random) for at in range(ROWS)]
    bad = []
    for at, (column, ending, content, _) in enumerate(bad_files()):
        (folder / "files" / f"bad{at}.{ending}").write_bytes(content)
        row = good_row(folder, 100 + at, random)
        row[COLUMNS.index(column)] = f"files/bad{at}.{ending}"
        bad.append(row)
    rows = [row for pair in zip_longest(good, bad) for row in pair if row is not None]
    save(folder / "train.csv", [COLUMNS, *rows])
    tested = [good_row(folder, 200 + at, random) for at in range(4)]
    for row in tested:
        for column, cell in {"photo": "", "memo": "some words", "weight": "3.5", "spare": "17"}.items():
            row[COLUMNS.index(column)] = cell
    save(folder / "test.csv", [COLUMNS, *tested])
    return folder


REFUSED = {2 * at + 2: (column, reason) for at, (column, _, _, reason) in enumerate(bad_files())}
"""Number of a row of train.csv, from 1 → column and part of the reason."""


@pytest.fixture(scope="module", params=MODELS)
def fitted(request, workshop):
    """The folder and a run in it."""
    (workshop / f"{request.param}.yaml").write_text(RECIPE + NAMED + MODELS[request.param], "utf-8")
    done = run("fit", f"{request.param}.yaml", "--out", request.param, cwd=workshop)
    assert done.code == 0, done.err
    return workshop, workshop / request.param


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def predicted(run_folder, rows, **options):
    """Probabilities of "worn"; all rows must be predicted."""
    found = automm.load(run_folder / "package", verify="hashes").predict(rows, folder=run_folder.parent, **options)
    assert found.refused == {}
    values = np.array(found.columns["probability_worn"], float)
    assert ((values >= 0) & (values <= 1)).all()
    return values


def test_bad_files_are_listed_by_row_and_column(fitted):
    _, out = fitted
    found = {int(row["row"]): row for row in rows_of(out / "bad_rows.csv")}
    assert {number: (row["table"], row["column"]) for number, row in found.items()} == {
        number: ("train.csv", column) for number, (column, _) in REFUSED.items()
    }
    for number, (_, reason) in REFUSED.items():
        assert reason in found[number]["reason"]
    assert summary(out)["bad_rows"] == len(REFUSED)


def test_bad_files_are_refused_and_no_row_is_shifted(fitted):
    folder, out = fitted
    done = run("predict", out / "package", "train.csv", "-o", f"{out.name}.jsonl", "--batch-size", 7, cwd=folder)
    assert done.code == 0, done.err
    assert f"{ROWS + len(REFUSED)} rows: {ROWS} predicted, {len(REFUSED)} refused" in done.err
    lines = [json.loads(line) for line in (folder / f"{out.name}.jsonl").read_text("utf-8").splitlines()]
    assert [line["row"] for line in lines] == list(range(1, ROWS + len(REFUSED) + 1))
    given = rows_of(folder / "train.csv")
    good = [line for line in lines if line["row"] not in REFUSED]
    backwards = predicted(out, [given[line["row"] - 1] for line in reversed(good[::2])])
    assert [line["probability_worn"] for line in good[::2]] == pytest.approx(backwards[::-1].tolist(), abs=1e-4)
    assert {line["error"] for line in good} == {None}
    for number, (column, reason) in REFUSED.items():
        line = lines[number - 1]
        assert column in line["error"]
        assert reason in line["error"]
        assert (line["prediction"], line["probability_worn"]) == (None, None)


def test_columns_that_only_training_or_only_test_rows_have(fitted):
    _, out = fitted
    found = summary(out)
    assert found["rows"]["test"] == 4
    assert found["bad_rows"] == len(REFUSED)  # none of them in test.csv
    assert 0 <= found["test"]["accuracy"] <= 1
    assert np.isfinite(found["test"]["log_loss"])


def test_column_that_is_empty_in_training_is_left_out_unless_named(fitted):
    folder, out = fitted
    plan = json.loads((out / "plan.json").read_text("utf-8"))
    assert plan["left_out"]["spare"] == "all cells are empty"
    assert {"memo", "weight"} <= {column for item in plan["inputs"] for column in item["columns"]}
    row = rows_of(folder / "train.csv")[0]
    usual, spare, _ = predicted(out, [row, {**row, "spare": "17"}, {**row, "memo": "some words", "weight": "3.5"}])
    assert spare == pytest.approx(usual, abs=1e-6)


def test_modality_that_no_row_has_when_predicting(fitted):
    folder, out = fitted
    rows = [row for at, row in enumerate(rows_of(folder / "train.csv"), 1) if at not in REFUSED][-2:]
    for column in INPUTS:
        gone = ("price", "colour") if column == "price" else (column,)
        blank = predicted(out, [{**row, **dict.fromkeys(gone, "")} for row in rows])
        absent = predicted(out, [{k: v for k, v in row.items() if k not in gone} for row in rows], allow_missing=True)
        assert blank == pytest.approx(absent, abs=1e-5)
    nothing = predicted(out, [dict.fromkeys(COLUMNS, "")] * 2)
    assert nothing[0] == pytest.approx(nothing[1], abs=1e-6)


def test_odd_cells_are_predicted(fitted):
    folder, out = fitted
    row = rows_of(folder / "train.csv")[0]
    random = np.random.default_rng(3)
    for ending in ("npy", "csv"):
        (folder / "files" / f"point.{ending}").write_bytes(trace(0, random, ending, steps=1))
    predicted(out, [{**row, "trace": f"files/point.{ending}"} for ending in ("npy", "csv")])
    predicted(out, [{**row, "colour": colour} for colour in ("mauve", "красный", "x" * 10_000)])
    spelt = predicted(out, [{**row, "price": price} for price in ("1234", "1,234 €", "$ 1,234.00", " 1.234e3 ")])
    assert spelt == pytest.approx(spelt[0], abs=1e-6)
    found = automm.load(out / "package", verify="hashes").predict([{**row, "price": "cheap"}, row], folder=folder)
    assert list(found.refused) == [0]
    assert "price" in found.refused[0]
    assert "cheap" in found.refused[0]
    assert found.columns["probability_worn"][0] is None


def test_text_of_ten_megabytes_takes_little_time_and_memory(fitted):
    folder, out = fitted
    row = rows_of(folder / "train.csv")[0]
    start = row["note"] + " loud" * 3000
    package = automm.load(out / "package", verify="hashes")
    short = package.predict([{**row, "note": start}], folder=folder).columns["probability_worn"][0]
    long = start + " calm" * 2_000_000
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    found = package.predict([{**row, "note": long}], folder=folder)
    assert time.process_time() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB
    assert 0 < short < 1  # the first 10,000 characters are read
    assert found.columns["probability_worn"][0] is None
    assert "characters" in found.refused[0]


# Other tables


def with_columns(table, cells):
    """The table with more columns, each of one value."""
    for name, cell in cells.items():
        table = with_column(table, name, lambda _, cell=cell: cell)
    return table


def test_linear_model_of_columns_that_are_empty_in_training_and_of_a_huge_text(tmp_path):
    train = with_columns(reviews(tmp_path), {"memo": "", "weight": "", "shade": "", "scan": ""})
    train[3][0] += " again" * 1_600_000  # 10 MB
    save(tmp_path / "train.csv", train)
    (tmp_path / "scan.png").write_bytes(photo(0, np.random.default_rng(0), "PNG"))
    cells = {"memo": "some words", "weight": "3.5", "shade": "red", "scan": "scan.png"}
    save(tmp_path / "test.csv", with_columns(reviews(tmp_path, 30, seed=1), cells))
    recipe = RECIPE.replace("kind", "verdict").replace(", max_bad_rows: 0.5", "")
    recipe += 'inputs: {memo: text, weight: number, shade: category, scan: image, "*": }\nmodel: {learner: linear}\n'
    (tmp_path / "r.yaml").write_text(recipe, "utf-8")
    done = run("fit", "r.yaml", "--out", "run", cwd=tmp_path)
    assert done.code == 0, done.err
    found = summary(tmp_path / "run")
    assert (found["bad_rows"], found["rows"]["test"]) == (1, 30)
    assert found["test"]["accuracy"] > 0.6  # columns without any training cell say nothing, and do no harm


def test_series_that_are_all_empty_in_training_are_named(tmp_path):
    save(tmp_path / "train.csv", with_columns(reviews(tmp_path), {"curve": ""}))
    (tmp_path / "r.yaml").write_text('data: train.csv\ntarget: verdict\ninputs: {curve: series, "*": tabular}\n')
    done = run("fit", "r.yaml", "--out", "run", cwd=tmp_path)
    assert done.code == 4
    assert "input 'curve': no series can be read; the first problem: all cells are missing" in done.said
