"""The batch script, run under stand-ins for `srun` and `scontrol` that start two nodes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from fit.commands import run
from fit.conftest import ENVIRONMENT, events, summary, write_recipe, write_table

SRUN = """#!/bin/bash
# Runs the step once per node; one that fails ends the others.
shift
trap 'kill $(jobs -p) 2>/dev/null; wait; echo step ended >> "$FAKE_LOG"; exit 143' TERM
for node in 0 1; do
    SLURM_NODEID=$node SLURMD_NODENAME=127.0.0.1 "$@" &
done
for _ in 0 1; do
    wait -n || { code=$?; kill $(jobs -p) 2>/dev/null; exit $code; }
done
"""
SCONTROL = """#!/bin/bash
if [ "$1 $2" = "show hostnames" ]; then
    printf '127.0.0.1\\n127.0.0.1\\n'
else
    echo "$@" >> "$FAKE_LOG"
fi
"""


@pytest.fixture
def cluster(tmp_path):
    """The environment of a batch script on a cluster of two nodes."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (programs / name).write_text(text, "utf-8")
        (programs / name).chmod(0o755)
    return {
        **ENVIRONMENT, "PATH": f"{programs}:{os.environ['PATH']}", "FAKE_LOG": str(tmp_path / "log"),
        "SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "node[0-1]", "AUTOMM_TIMEOUT": "60",
    }  # fmt: skip


def script_of(recipe, *options):
    done = run("launch", "slurm", recipe, *options, "-o", "job.sbatch", cwd=recipe.parent)
    assert done.code == 0, done.err
    assert "sbatch job.sbatch" in done.out
    return recipe.parent / "job.sbatch"


def test_options_become_directives(tmp_path):
    recipe = write_recipe(tmp_path, "search: {time: 2h}\n")
    text = script_of(
        recipe,
        *[
            "--nodes",
            "2",
            "--gpus",
            "4",
            "--cpus",
            "16",
            "--partition",
            "gpu",
            "--account",
            "team",
            "--out",
            "/shared/run",
        ],
    ).read_text("utf-8")
    directives = dict(
        line.removeprefix("#SBATCH --").split("=")
        for line in text.splitlines()
        if "=" in line[:30] and line.startswith("#SBATCH")
    )
    assert directives == {
        "job-name": "automm-reviews", "nodes": "2", "ntasks-per-node": "1", "partition": "gpu", "account": "team",
        "cpus-per-task": "16", "gpus-per-node": "4", "time": "0-02:40:00", "signal": "B:USR1@120",
        "open-mode": "append", "output": "automm-reviews-%j.log",
    }  # fmt: skip
    assert "#SBATCH --requeue" in text
    assert "--nnodes=2 --nproc-per-node=4 --max-restarts=3" in text
    assert "-m automm fit reviews.yaml --out /shared/run --quiet" in text


def test_time_and_file_may_be_named(tmp_path):
    recipe = write_recipe(tmp_path, "search: {time: 2h}\n", name="It's a recipe")
    done = run("launch", "slurm", recipe, "--time", "1d 2h", "-o", "-", cwd=tmp_path)
    assert "#SBATCH --time=1-02:00:00" in done.out
    assert "#SBATCH --job-name=automm-it-s-a-recipe" in done.out
    checked = subprocess.run(["bash", "-n"], input=done.out, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert run("launch", "slurm", recipe, "--time", "soon", cwd=tmp_path).code == 2


def test_preempted_job_is_queued_again(tmp_path, cluster):
    script = script_of(write_recipe(tmp_path))
    started = tmp_path / "started"
    text = script.read_text("utf-8").replace("    exec ", f"    touch {started}; exec sleep 30 # ")
    script.write_text(text, "utf-8")
    job = subprocess.Popen(["bash", script], env=cluster, stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 20
    while not started.exists() and time.monotonic() < until:
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    output, _ = job.communicate(timeout=20)
    assert job.returncode == 0
    assert f"queueing job {cluster['SLURM_JOB_ID']} again" in output
    assert f"requeue {cluster['SLURM_JOB_ID']}" in (tmp_path / "log").read_text("utf-8")


def worker_of_rank(rank, job):
    """The process id of a rank, among those that the job started."""
    for folder in Path("/proc").iterdir():
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"SLURM_JOB_ID={job}".encode() in variables and f"RANK={rank}".encode() in variables:
            return int(folder.name)
    raise AssertionError(f"no process of rank {rank}")


OFTEN = """
from automm.api import hookimpl


@hookimpl
def automm_callbacks(resolved, folder):
    from automm.train import standing

    standing.EVERY = 0.0
    return []
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
def test_two_nodes_of_which_one_loses_its_process(tmp_path, cluster):
    """kill -9 of one process: the processes of both nodes start again, and the run goes on in its second trial."""
    write_table(tmp_path / "train.csv", 160)
    write_table(tmp_path / "test.csv", 40, seed=1)
    search = "search: {trials: 2, baselines: false, ensemble: false}\nmodel: {learner: network}\n"
    recipe = write_recipe(tmp_path, search, "data: {train: train.csv, test: test.csv}\ntarget: verdict\n")
    (tmp_path / "often.py").write_text(OFTEN, "utf-8")
    more = "train: {epochs: 12, patience: 12}\nplugins: [often.py]\n"
    recipe.write_text(recipe.read_text("utf-8") + more, "utf-8")
    out = tmp_path / "run"
    script = script_of(recipe, "--nodes", "2", "--out", out)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    job = subprocess.Popen(["bash", script], env=cluster, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until = time.monotonic() + 120
    while time.monotonic() < until and job.poll() is None:
        if (out / "events.jsonl").exists() and [e for e in events(out, "epoch") if e["name"] == "1" and e["epoch"] > 0]:
            break
        time.sleep(0.02)
    killed = worker_of_rank(1, cluster["SLURM_JOB_ID"])
    os.kill(killed, signal.SIGKILL)
    output, _ = job.communicate(timeout=1000)
    assert job.returncode == 0, output
    found = summary(out)
    assert found["status"] == "ok"
    assert found["processes"] == 2
    assert [event["name"] for event in events(out, "trial")] == ["0", "1"]  # none lost, none doubled
    started = [event["resumed"] for event in events(out, "started")]
    assert started == [False, True]
    epochs = [event["epoch"] for event in events(out, "epoch") if event["name"] == "1"]
    assert sorted(set(epochs)) == [*range(12)]
    assert len(epochs) <= 13  # at most the epoch that the kill came into was trained again
    assert "another process of the job is gone" in output
    assert "internal error" not in output
