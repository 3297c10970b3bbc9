"""The benchmark scripts of fusions and missing inputs: a short run on made pictures and sounds writes their tables."""

from __future__ import annotations

import csv
import json
import runpy
import sys
import wave

import numpy as np
import pytest
from PIL import Image

from automm.plugin.loader import load_plugins
from docs.pages import ROOT

SCRIPTS = ROOT / "docs" / "benchmarks"
TRAIN, TEST = 60, 24
DIGITS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """`av_digits` in small: the picture tells one bit of the digit (a bar's direction), the sound the other (pitch)."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "av_digits").mkdir()
    random = np.random.default_rng(0)
    for part, count in (("train", TRAIN), ("test", TEST)):
        lines = []
        for at in range(count):
            digit = at % DIGITS
            picture, sound = f"{part}_{at}.png", f"{part}_{at}.wav"
            pixels = random.integers(0, 60, (28, 28), np.uint8)
            pixels[:, 12:16] += np.uint8(180)
            Image.fromarray(pixels if digit % 2 else pixels.T).save(folder / "av_digits" / picture)
            tone = np.sin(np.arange(2400) * (0.2 if digit // 2 else 0.9)) + 0.1 * random.normal(size=2400)
            with wave.open(str(folder / "av_digits" / sound), "wb") as file:
                file.setparams((1, 2, 8000, 0, "NONE", ""))
                file.writeframes((tone * 9000).astype("<i2").tobytes())
            lines.append([picture, sound, digit])
        with (folder / "av_digits" / f"{part}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["image", "audio", "digit"], *lines])
    return folder


@pytest.fixture
def script(monkeypatch, capsys):
    """Runs a script of the folder with arguments; returns what it printed."""
    monkeypatch.syspath_prepend(SCRIPTS)

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(SCRIPTS / name), run_name="__main__")
        return capsys.readouterr().out

    yield run
    sys.modules.pop("trials", None)


def trials(path):
    return json.loads(path.read_text("utf-8"))


def test_fusions(script, data, tmp_path):
    settings = ["--sets", "av_digits", "--fusions", "concat", "late", "--seeds", 1, "--rows", 40, "--epochs", 8]
    arguments = ["fusions.py", data, *settings, "--out", tmp_path]
    out = script(*arguments)
    kept = trials(tmp_path / "fusions.json")
    assert [trial["what"] for trial in kept] == ["image alone", "audio alone", "concat", "late"]
    assert not [trial for trial in kept if "error" in trial]
    assert f"av_digits: 40 train, 12 valid, {TEST} test rows" in out
    best = {alone: max(t["test"] for t in kept if t["what"].endswith("alone") == alone) for alone in (True, False)}
    assert best[True] <= 0.75 < best[False], "one input tells two digits of four, both tell all"
    table = (tmp_path / "fusions.md").read_text("utf-8")
    assert out.endswith(table)
    assert f"**{best[False]:.3f}**" in table
    assert len(table.splitlines()) == 2 + len(kept)

    again = script(*arguments)
    assert "seed 0" not in again, "what is finished is not trained again"
    assert again.endswith(table)


def test_all_fusions_that_give_a_vector_are_compared(data, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    made = runpy.run_path(str(SCRIPTS / "fusions.py"))
    problem = made["Problem"](data, "av_digits", tmp_path, 8, None)
    fusions = {entry.name for entry in load_plugins().registry.all("fusion") if "vector" in entry.cls.gives}
    jobs = made["plan"](problem, None, 2)
    assert {job.what for job in jobs} == fusions | {"image alone", "audio alone"}
    assert len(jobs) == 2 * (len(fusions) + 2)


def test_missing(script, data, tmp_path):
    settings = ["--fusions", "concat", "--dropouts", 0, 0.5, "--seeds", 1, "--epochs", 12]
    out = script("missing.py", data, *settings, "--out", tmp_path)
    kept = trials(tmp_path / "missing.json")
    assert [(trial["what"], trial["dropout"]) for trial in kept] == [
        ("image", None), ("audio", None), ("concat", 0.0), ("concat", 0.5),
    ]  # fmt: skip
    robust = kept[-1]["test"]
    assert robust["test"] > 0.75
    assert robust["image 100 %"] <= robust["image 50 %"] <= robust["test"]
    assert robust["image 100 %"] <= 0.6, "what is left tells two digits of four"
    with (tmp_path / "av_digits" / "image_25.csv").open() as file:
        cells = [row["image"] for row in csv.DictReader(file)]
    assert cells.count("") == TEST // 4
    table = (tmp_path / "missing.md").read_text("utf-8")
    assert out.endswith(table)
    assert table.count("| concat |") == 4
    assert table.count("commonest class |  | 0.250 |") == 2


@pytest.mark.parametrize("name", ["fusions.py", "missing.py"])
def test_unknown_fusion(name, script, data, tmp_path):
    sets = ["--sets", "av_digits"] if name == "fusions.py" else []
    with pytest.raises(SystemExit, match=r"no fusion 'conkat' \(there are: hybrid, "):
        script(name, data, *sets, "--fusions", "conkat", "--out", tmp_path)
