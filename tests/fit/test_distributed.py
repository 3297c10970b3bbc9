"""Two processes on one node, and two nodes of one process each."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from fit.conftest import ENVIRONMENT, automm, events, summary, write_recipe

FAILING = '''
from automm.api import Config, Features, Fusion, hookimpl, nn, torch


class Fragile(Fusion):
    """Raises on one rank in its third training step."""

    def __init__(self, config, widths):
        super().__init__(config, widths)
        self.width = 8
        self.project = nn.ModuleDict({name: nn.Linear(width, 8) for name, width in widths.items()})
        self.steps = 0

    def forward(self, inputs):
        import torch.distributed as dist

        self.steps += self.training
        if self.training and self.steps == 3 and dist.is_initialized() and dist.get_rank() == 1:
            raise RuntimeError("rank 1 has a problem")
        return Features.vector(sum(self.project[name](features.mean()) for name, features in inputs.items()))


@hookimpl
def automm_register(register):
    register(Fragile)
'''


def port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_two_processes_fit_one_package(project):
    recipe = write_recipe(project, "search: {trials: 2}\n")
    done = automm("fit", recipe, "--out", "run", "--nproc", "2", cwd=project)
    assert done.returncode == 0, done.stderr
    found = summary(project / "run")
    assert found["processes"] == 2
    assert found["trials"] == {"complete": 2}
    assert found["test"]["accuracy"] > 0.7
    assert len(events(project / "run", "started")) == 1  # no rank but 0 writes


def test_two_processes_learn_what_one_learns(project):
    recipe = write_recipe(project, "model: {fusion: {name: concat, dropout: 0.0, modality_dropout: 0.0}}\n")
    for out, processes in (("one", 1), ("two", 2)):
        done = automm("fit", recipe, "--out", out, "--nproc", processes, cwd=project)
        assert done.returncode == 0, done.stderr
    one, two = summary(project / "one"), summary(project / "two")
    assert abs(one["test"]["roc_auc"] - two["test"]["roc_auc"]) < 0.05


def test_two_processes_fit_the_learners_that_one_fits(project):
    recipe = write_recipe(project, "search: {trials: 2, baselines: false}\n")  # the two learners come first
    for out, processes in (("one", 1), ("two", 2)):
        done = automm("fit", recipe, "--out", out, "--nproc", processes, cwd=project)
        assert done.returncode == 0, done.stderr
    one, two = summary(project / "one"), summary(project / "two")
    assert [event["what"].split()[0] for event in events(project / "two", "trial")] == ["linear", "stacking"]
    assert one["test"] == pytest.approx(two["test"], abs=1e-6)
    assert one["best"] == two["best"]


def test_two_nodes(project):
    recipe = write_recipe(project)
    address = f"--master-addr=127.0.0.1 --master-port={port()} --nnodes=2 --nproc-per-node=1".split()
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *address, f"--node-rank={rank}", "-m", "automm", "fit",
             str(recipe), "--out", "run"],
            cwd=project, env={**ENVIRONMENT, "GLOO_SOCKET_IFNAME": "lo"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    output = [node.communicate(timeout=200)[0].decode() for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], output
    assert summary(project / "run")["processes"] == 2


def test_failure_on_one_rank_fails_the_trial_on_all_and_the_study_goes_on(project):
    (project / "fragile.py").write_text(FAILING, "utf-8")
    recipe = write_recipe(project, "plugins: [fragile.py]\nmodel: {fusion: [fragile, concat]}\nsearch: {trials: 6}\n")
    done = automm("fit", recipe, "--out", "run", "--nproc", "2", cwd=project)
    assert done.returncode == 0, done.stderr
    trials = events(project / "run", "trial")
    failed = [trial for trial in trials if trial["state"] == "failed"]
    assert failed
    assert all("rank 1 has a problem" in trial["error"] and "fragile" in trial["error"] for trial in failed)
    assert {m["resolved"]["fusion"]["name"] for m in summary(project / "run")["best"]["members"]} == {"concat"}


def test_error_in_the_recipe_is_said_once(project):
    recipe = write_recipe(project, "metrik: accuracy\n")
    done = automm("fit", recipe, "--out", "run", "--nproc", "2", cwd=project)
    assert done.returncode != 0
    assert done.stderr.count("unknown key 'metrik'") == 1, done.stderr
    assert recipe.name in done.stderr
    assert done.returncode == 3
