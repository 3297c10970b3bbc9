"""Copies of packages leave out what only an update reads: training rows must not travel with what is published."""

from __future__ import annotations

import hashlib
import json

import pytest

import automm
from automm.api import copy_package, read_manifest
from automm.testing.packages import small_package


@pytest.fixture
def package(tmp_path):
    """A package that keeps rows for an update."""
    path = small_package(tmp_path / "package")
    manifest = json.loads((path / "automm.json").read_text("utf-8"))
    rows = b'{"rows": "somebody"}'
    (path / "resume").mkdir()
    (path / "resume" / "rows.json").write_bytes(rows)
    manifest["files"]["resume/rows.json"] = {"sha256": hashlib.sha256(rows).hexdigest(), "bytes": len(rows)}
    (path / "automm.json").write_text(json.dumps(manifest), "utf-8")
    return path


def test_a_copy_holds_no_training_rows(package, tmp_path):
    copy_package(package, tmp_path / "copy")
    assert not (tmp_path / "copy" / "resume").exists()
    assert "resume/rows.json" in read_manifest(package)[0].files
    assert "resume/rows.json" not in read_manifest(tmp_path / "copy")[0].files
    automm.load(tmp_path / "copy")  # every digest, and the golden rows


def test_a_copy_that_can_be_updated(package, tmp_path):
    copy_package(package, tmp_path / "copy", resume=True)
    assert (tmp_path / "copy" / "resume" / "rows.json").read_bytes() == b'{"rows": "somebody"}'
    assert (tmp_path / "copy" / "automm.json").read_bytes() == (package / "automm.json").read_bytes()
    automm.load(tmp_path / "copy")
