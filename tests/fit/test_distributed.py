"""Two processes on one node; two nodes are in launch/test_slurm.py."""

from __future__ import annotations

import json

import pytest

from fit.commands import run
from fit.conftest import automm, events, summary, write_recipe

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


def study_of(folder):
    """The study of a run."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    return optuna.load_study(study_name=json.loads((folder / "study.json").read_text("utf-8"))["name"], storage=storage)


def test_two_processes_learn_what_one_learns(project):
    """Each step sees half of the batch's rows in each process; in odd batches one of them counts twice."""
    encoders = "{tabular: {name: tabular_mlp, dropout: 0.0}, text: {name: tfidf_svd, dropout: 0.0}}"
    fusion = "{name: concat, dropout: 0.0, modality_dropout: 0.0}"
    model = f"model: {{encoders: {encoders}, fusion: {fusion}}}\n"
    recipe = write_recipe(project, f"task: {{name: classification, dropout: 0.0}}\n{model}")
    assert run("fit", recipe, "--out", "one", cwd=project).code == 0
    done = automm("fit", recipe, "--out", "two", "--nproc", "2", cwd=project)
    assert done.returncode == 0, done.stderr
    found = summary(project / "two")
    assert (found["processes"], found["trials"]) == (2, {"complete": 1})
    one, two = (
        json.loads((project / out / "trials" / "0" / "report.json").read_text("utf-8"))["history"]
        for out in ("one", "two")
    )
    for name, allowed in (("loss", 0.1), ("roc_auc", 0.05)):
        found, expected = ([entry[name] for entry in history] for history in (two, one))
        assert found == pytest.approx(expected, rel=allowed)
    assert len(events(project / "two", "started")) == 1  # no rank but 0 writes


def test_trials_side_by_side_are_those_of_one_process(project):
    """Each process trains trials of its own; both find what one process finds."""
    recipe = write_recipe(project, "search: {trials: 6, baselines: false, ensemble: false, parallel: trials}\n")
    assert run("fit", recipe, "--out", "one", cwd=project).code == 0
    done = automm("fit", recipe, "--out", "two", "--nproc", "2", cwd=project)
    assert done.returncode == 0, done.stderr
    one, two = ({trial["name"]: trial for trial in events(project / out, "trial")} for out in ("one", "two"))
    assert len(one) == len(two) == 6
    first = [name for name, trial in one.items() if trial["rung"] == "first"]  # later ones depend on what is known
    assert [two[name]["what"] for name in first] == [one[name]["what"] for name in first]
    assert [two[name]["value"] for name in first] == [one[name]["value"] for name in first]
    claims = {(project / "two" / "trials" / name / "claim").read_text("utf-8") for name in two}
    assert claims == {"0", "1"}
    kept = {trial.user_attrs["name"]: trial.intermediate_values for trial in study_of(project / "two").trials}
    for name, trial in two.items():
        assert len(kept[name]) == (trial["epochs"] if "; " in trial["what"] else 0), "later trials are pruned by these"
    assert summary(project / "two")["test"]["accuracy"] > 0.7


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
