"""Killed, interrupted, out of time, out of disk: what was computed stays usable."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from fit.commands import run
from fit.conftest import ENVIRONMENT, summary, write_recipe

BASE = "data: {train: train.csv, test: test.csv}\ntarget: verdict\n"


def start(recipe, project):
    return subprocess.Popen(
        [sys.executable, "-m", "automm", "fit", str(recipe), "--out", "run"],
        cwd=project, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(project, kind, count, process):
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if (project / "run" / "events.jsonl").exists() and len(events_so_far(project, kind)) >= count:
            return
        time.sleep(0.02)
    raise AssertionError(f"no {count} x {kind}: {process.stderr.read() if process.poll() is not None else 'time'}")


def events_so_far(project, kind):
    text = (project / "run" / "events.jsonl").read_text("utf-8")
    return [line for line in text.splitlines() if f'"event": "{kind}"' in line]


def test_first_signal_finishes_with_the_best_so_far(project):
    recipe = write_recipe(project, "search: {trials: 200}\n", BASE)
    process = start(recipe, project)
    wait_for(project, "trial", 1, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    found = summary(project / "run")
    assert found["status"] == "ok"
    assert sum(found["trials"].values()) < 200


def test_second_signal_stops_at_once_and_the_run_can_go_on(project):
    recipe = write_recipe(project, "search: {trials: 3}\ntrain: {epochs: 400, patience: 400}\n", BASE)
    process = start(recipe, project)
    wait_for(project, "epoch", 2, process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode in (0, 130), errors
    assert "Traceback" not in errors


def test_time_budget_is_kept(project):
    recipe = write_recipe(project, "search: {time: 40s}\n", BASE)
    began = time.monotonic()
    done = run("fit", recipe, "--out", "run", cwd=project)
    assert done.code == 0, done.err
    assert time.monotonic() - began < 1.25 * 40
    assert summary(project / "run")["trials"]["complete"] >= 1


def test_other_plan_in_the_run_folder_is_refused(project):
    assert run("fit", write_recipe(project, "train: {epochs: 1}\n", BASE), "--out", "run", cwd=project).code == 0
    changed = write_recipe(project, "train: {epochs: 1}\nseed: 5\n", BASE)
    done = run("fit", changed, "--out", "run", cwd=project)
    assert done.code == 10
    assert "another plan" in done.err


def test_two_runs_in_one_folder_are_refused(project):
    recipe = write_recipe(project, "search: {trials: 200}\n", BASE)
    process = start(recipe, project)
    wait_for(project, "started", 1, process)
    done = run("fit", recipe, "--out", "run", cwd=project)
    process.kill()
    process.communicate()
    assert done.code == 10
    assert f"another run (process {process.pid} on " in done.err


def test_torn_last_lines_are_dropped(project):
    recipe = write_recipe(project, "search: {trials: 2}\ntrain: {epochs: 2}\n", BASE)
    assert run("fit", recipe, "--out", "run", cwd=project).code == 0
    for name in ("study.journal", "events.jsonl"):
        with (project / "run" / name).open("a", encoding="utf-8") as file:
            file.write('{"op_code": 4, "tri')
    done = run("fit", recipe, "--out", "run", cwd=project)
    assert done.code == 0, done.err
    assert summary(project / "run")["trials"] == {"complete": 2}


def test_full_disk_is_named(project):
    """A file-size limit stands in for a full disk: writing past it fails with an OSError."""
    recipe = write_recipe(project, "train: {epochs: 1}\n", BASE)
    script = (
        "import errno, os, sys, pathlib\n"
        "real = pathlib.Path.write_bytes\n"
        "def full(self, data):\n"
        "    if 'package' in str(self) and self.suffix == '.onnx' or len(data) > 100_000:\n"
        "        raise OSError(errno.ENOSPC, 'No space left on device', str(self))\n"
        "    return real(self, data)\n"
        "pathlib.Path.write_bytes = full\n"
        f"sys.argv = ['automm', 'fit', {str(recipe)!r}, '--out', 'run']\n"
        "from automm.cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=project,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 10, done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    again = run("fit", recipe, "--out", "run", cwd=project)
    assert again.code == 0, again.err
