"""`automm monitor`: exit codes, report, page, captured requests; without torch."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from fit.commands import run
from PIL import Image

from update.tables import HEADER, changed, photos, reviews, write


@pytest.fixture
def place(champion, tmp_path):
    """A folder with the package and rows like those of training."""
    shutil.copytree(champion, tmp_path / "package")
    write(tmp_path / "same.csv", reviews(250, 7))
    return tmp_path


def shifted():
    """Dearer, and in a new colour."""
    return changed(
        reviews(250, 7),
        price=lambda cell, at: f"{float(cell) + 12:.2f}",
        colour=lambda cell, at: "<script>alert(1)</script>" if at % 3 == 0 else cell,
    )


def test_no_drift_is_exit_code_0(place):
    done = run("monitor", "package", "same.csv", cwd=place)
    assert done.code == 0
    assert done.out.strip() == "250 rows compared with 256 training rows: no drift"


def test_drift_is_exit_code_12_and_named(place):
    write(place / "new.csv", shifted())
    done = run("monitor", "package", "new.csv", "-o", "report.html", cwd=place)
    assert done.code == 12
    lines = done.out.splitlines()
    assert any(re.match(r"drift +price: mean (49|50)\.\d+ → 6[12]\.\d+ \(PSI 1\.", line) for line in lines)
    assert any(line.startswith("drift") and "colour" in line and "others 0% → 34%" in line for line in lines)
    assert not any("review" in line or "rating" in line for line in lines[:-1])
    assert "drift in" in lines[-1]
    page = (place / "report.html").read_text("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")


def test_json_report(place):
    write(place / "new.csv", shifted())
    done = run("monitor", "package", "new.csv", "--json", "--rows", "100", cwd=place)
    report = json.loads(done.out, parse_constant=lambda word: pytest.fail(word))
    assert done.code == 12
    assert report["drift"] is True
    assert report["rows"] == 100
    assert report["reference_rows"] == 256
    found = {(one["group"], one["field"], one["figure"]): one for one in report["findings"]}
    assert found["input", "price", "value"]["status"] == "drift"
    assert found["input", "rating", "value"]["status"] == "stable"
    assert found["input", "review", "words"]["status"] == "stable"
    assert found["input", "photo", "pixels mean"]["status"] == "stable"
    assert {"model", "prediction", "target", "rows"} <= {one["group"] for one in report["findings"]}
    for one in report["findings"]:
        assert sum(after for _, _, after in one["bins"]) == pytest.approx(1)


def test_darker_photos_are_found(place):
    for path in place.glob("*.png"):
        Image.fromarray((np.asarray(Image.open(path)) * 0.5).astype(np.uint8)).save(path)
    done = run("monitor", "package", "same.csv", cwd=place)
    assert done.code == 12
    assert re.search(r"^drift +photo, pixels mean: mean 1\d\d.* → [67]\d", done.out, re.M)
    assert re.search(r"^drift +photo \(as the model reads it\)", done.out, re.M)
    assert "price" not in done.out


def test_the_target_is_compared_where_it_is_known(place):
    rows = [row for row in reviews(500, 8) if row[-1] == "keep"]
    write(place / "keep.csv", rows)
    report = json.loads(run("monitor", "package", "keep.csv", "--json", cwd=place).out)
    found = {one["field"]: one["status"] for one in report["findings"] if one["group"] == "target"}
    assert found == {"verdict": "drift"}
    write(place / "unknown.csv", [row[:-1] for row in reviews(200, 9)], HEADER[:-1])
    report = json.loads(run("monitor", "package", "unknown.csv", "--json", cwd=place).out)
    assert not [one for one in report["findings"] if one["group"] == "target"]
    assert report["drift"] is False


def test_captured_requests_are_read(place):
    folder = place / "captured"
    folder.mkdir()
    photos(folder)
    for part in range(2):
        rows = [dict(zip(HEADER[:-1], row[:-1], strict=True)) for row in reviews(100, 20 + part)]
        lines = [json.dumps({**row, "price": float(row["price"]), "_model": "reviews", "_error": None}) for row in rows]
        (folder / f"rows-{part}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    done = run("monitor", "package", "captured", cwd=place)
    assert (done.code, done.out.strip()) == (0, "200 rows compared with 256 training rows: no drift")


def test_unreadable_rows_are_counted(place):
    rows = changed(reviews(250, 7), price=lambda cell, at: "cheap" if at % 4 == 0 else cell)
    write(place / "words.csv", rows)
    done = run("monitor", "package", "words.csv", cwd=place)
    assert done.code == 12
    assert "63 of them could not be read" in done.out
    assert "rows: read 100% → 75%" in done.out


def test_absent_columns(place):
    write(place / "short.csv", [row[1:] for row in reviews(60, 7)], HEADER[1:])
    done = run("monitor", "package", "short.csv", cwd=place)
    assert done.code == 4
    assert "'review'" in done.said
    assert "--allow-missing" in done.said
    done = run("monitor", "package", "short.csv", "--allow-missing", cwd=place)
    assert done.code == 12
    assert "missing 0% → 100%" in done.out


def test_package_without_a_reference(place):
    manifest = json.loads((place / "package" / "automm.json").read_text("utf-8"))
    del manifest["files"]["reference/drift.json"]
    (place / "package" / "automm.json").write_text(json.dumps(manifest), "utf-8")
    (place / "package" / "reference" / "drift.json").unlink()
    done = run("monitor", "package", "same.csv", cwd=place)
    assert done.code == 9
    assert "fit again to watch for drift" in done.said


def test_changed_reference_is_refused(place):
    path = place / "package" / "reference" / "drift.json"
    path.write_bytes(path.read_bytes().replace(b'"rows": 256', b'"rows": 999'))
    assert run("monitor", "package", "same.csv", cwd=place).code == 9


def test_monitor_needs_no_torch(place):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'lightning', 'scipy', 'sklearn')));"
        "sys.argv = ['automm', 'monitor', 'package', 'same.csv'];"
        "from automm.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("no drift")
