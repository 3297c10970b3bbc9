"""optuna-dashboard opens the journal of a run as the page on distributed runs says."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from automm.search.study import Study

pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed (automm[dashboard])")


def studies_of(storage, folder):
    """What the dashboard's own program serves for a storage."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = shutil.which("optuna-dashboard", path=str(Path(sys.executable).parent))
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([program, storage, "--port", str(port)], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 100
        while time.monotonic() < until and server.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=20) as answer:
                    return json.load(answer)["study_summaries"]
            except urllib.error.URLError:
                time.sleep(0.1)
        raise AssertionError((folder / "log").read_text())
    finally:
        server.kill()
        server.wait()


def test_dashboard_shows_the_study_of_a_run(tmp_path, make_plan, registry):
    (tmp_path / "run").mkdir()
    study = Study(make_plan(), registry, tmp_path / "run")
    for value in (0.25, 0.75):
        study.ask()
        study.tell(value, "complete", {})
    (found,) = studies_of(str(tmp_path / "run" / "study.journal"), tmp_path)
    name = json.loads((tmp_path / "run" / "study.json").read_text("utf-8"))["name"]
    assert found["study_name"] == name
    assert found["directions"] == ["maximize"]
