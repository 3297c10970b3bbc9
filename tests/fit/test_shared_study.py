"""Two `automm fit` at the same time through a real PostgreSQL, which goes away and comes back meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from postgres import PASSWORD, running_server

from fit.conftest import ENVIRONMENT, events, summary, write_recipe, write_table

RECIPE = """
data: {{train: train.csv, test: test.csv}}
target: verdict
train: {{epochs: 2}}
model: {{learner: [linear, lightgbm]}}
search: {{trials: 6, storage: "{url}", baselines: false, ensemble: false}}
"""


def start(recipe, out):
    with (recipe.parent / f"{out}.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "automm", "fit", str(recipe), "--out", out],
            cwd=recipe.parent, env=ENVIRONMENT, stdout=log, stderr=log,
        )  # fmt: skip


def test_two_jobs_share_the_trials_of_a_database_that_goes_away_and_comes_back(tmp_path):
    write_table(tmp_path / "train.csv", 160)
    write_table(tmp_path / "test.csv", 40, seed=1)
    with running_server() as server:
        recipe = write_recipe(tmp_path, base=RECIPE.format(url=server.url))
        jobs = {out: start(recipe, out) for out in ("a", "b")}
        until = time.monotonic() + 200
        while time.monotonic() < until and all(job.poll() is None for job in jobs.values()):
            logs = [tmp_path / out / "events.jsonl" for out in jobs]
            if any(log.exists() and '"event": "trial"' in log.read_text("utf-8") for log in logs):
                break
            time.sleep(0.02)
        server.stop()
        time.sleep(1)
        server.start()
        for job in jobs.values():
            job.wait(timeout=1000)
    output = {out: (tmp_path / f"{out}.log").read_text() for out in jobs}
    assert [job.returncode for job in jobs.values()] == [0, 0], output
    trained = [event for out in jobs for event in events(tmp_path / out, "trial")]
    names = [event["name"] for event in trained]
    assert len(set(names)) == len(names)  # none was trained twice
    assert 6 <= len(names) <= 7
    warnings = [event["text"] for out in jobs for event in events(tmp_path / out, "warning")]
    assert any("went away; waiting for up to 600 s" in text for text in warnings)
    assert any("answers again" in text for text in warnings)
    # The job that ended last has seen all trials, its own and those of the other.
    found = [summary(tmp_path / out) for out in jobs]
    assert max(sum(one["trials"].values()) for one in found) == len(names)
    assert all(one["status"] == "ok" for one in found)
    reports = [json.loads(path.read_text("utf-8")) for path in tmp_path.glob("?/trials/*/report.json")]
    best = max(report["value"] for report in reports if report["state"] == "complete")
    assert max(one["best"]["value"] for one in found) == best
    written = [
        path
        for path in tmp_path.glob("?/**/*")
        if path.is_file() and path.suffix in (".json", ".jsonl", ".yaml", ".md")
    ]
    assert not [path for path in written if PASSWORD in path.read_text("utf-8")]
    assert not any(PASSWORD in text for text in output.values())
    assert ":***@127.0.0.1" in (tmp_path / "a" / "recipe.yaml").read_text("utf-8")
