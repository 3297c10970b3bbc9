"""Verification in a process without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from automm.errors import VerificationError
from automm.package.verify import _CHILD, verify_package
from automm.runtime.manifest import Tolerance

OPS = Path(__file__).with_name("fake_ops.py")


def test_good_package_is_confirmed(made):
    report = verify_package(made.path, made.rows, made.media, made.expected(made.rows), plugin_files=[OPS])
    assert report.rows == 12
    assert report.deviations["probability"] < 1e-5


def test_deviation_is_caught_and_located(made):
    expected = {name: array.copy() for name, array in made.expected(made.rows).items()}
    expected["probability"][7, 1] += 0.01
    with pytest.raises(VerificationError, match=r"'probability', row 7: .* times the tolerance"):
        verify_package(made.path, made.rows, made.media, expected, plugin_files=[OPS])
    verify_package(made.path, made.rows, made.media, expected, Tolerance(absolute=0.02), plugin_files=[OPS])


def test_swapped_rows_are_caught(made):
    expected = {name: array[::-1] for name, array in made.expected(made.rows).items()}
    with pytest.raises(VerificationError, match="deviates"):
        verify_package(made.path, made.rows, made.media, expected, plugin_files=[OPS])


def test_refused_row_is_named(made):
    rows = [*made.rows[:3], {**made.rows[3], "photo": "absent.bin"}]
    with pytest.raises(VerificationError, match="refuses 1 of 4 rows, row 3: column 'photo': file not found"):
        verify_package(made.path, rows, made.media, made.expected(made.rows[:4]), plugin_files=[OPS])


def test_missing_answer_and_wrong_shape_are_caught(made):
    expected = made.expected(made.rows)
    with pytest.raises(VerificationError, match="the trained model"):
        verify_package(made.path, made.rows, made.media, {"logit": expected["probability"]}, plugin_files=[OPS])
    with pytest.raises(VerificationError, match="instead of"):
        wrong = {"probability": expected["probability"][:, :1]}
        verify_package(made.path, made.rows, made.media, wrong, plugin_files=[OPS])


def test_operation_that_needs_torch_is_caught(made, tmp_path):
    """A processor that imports torch works in training and fails on the server; verification finds it."""
    plugin = tmp_path / "torchy.py"
    plugin.write_text("import torch\n" + OPS.read_text())
    with pytest.raises(VerificationError, match=r"without torch: .*torch"):
        verify_package(made.path, made.rows, made.media, made.expected(made.rows), plugin_files=[plugin])


def test_the_process_really_has_no_torch(tmp_path):
    code = _CHILD.split("from automm")[0] + "import torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "import of torch halted" in done.stderr


def test_bytes_and_missing_cells_travel_to_the_process(made):
    rows = [{**row, "photo": (made.media / row["photo"]).read_bytes()} for row in made.rows[:3]]
    expected = made.expected(made.rows[:3])
    verify_package(made.path, rows, None, expected, plugin_files=[OPS])
    rows[1] = {**rows[1], "title": None}
    with pytest.raises(VerificationError, match="row 1"):
        verify_package(made.path, rows, None, {k: np.asarray(v) for k, v in expected.items()}, plugin_files=[OPS])
