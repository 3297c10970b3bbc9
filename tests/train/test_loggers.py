"""Loggers: what they are given, that one which fails is left out, and that nothing leaves the machine by default."""

from __future__ import annotations

import os
import sqlite3
import sys

import pytest

from automm.recipe.model import LogSpec

pytest.importorskip("lightning")
from lightning.pytorch.loggers import Logger

from automm.train import loggers as module
from automm.train.loggers import Loggers

RESOLVED = {"encoders": {"title": {"name": "ngram", "config": {"width": 64}}}, "seed": 0}


class Recorder(Logger):
    """Notes what it is given; raises where it is told to."""

    def __init__(self, fails=()):
        super().__init__()
        self.fails, self.seen = fails, []

    name = version = "recorder"

    def _note(self, what, *content):
        if what in self.fails:
            raise ConnectionError(f"no route to the server of {what}")
        self.seen.append((what, *content))

    def log_metrics(self, metrics, step=None):
        self._note("metrics", metrics, step)

    def log_hyperparams(self, params, *args, **kwargs):
        self._note("params", params)

    def save(self):
        self._note("save")

    def finalize(self, status):
        self._note("end", status)

    @property
    def experiment(self):
        return self

    def finish(self):
        self._note("finish")


@pytest.fixture
def recorders(monkeypatch):
    """Kind → the recorders that were made in its place; `fails` says which raises where."""
    made: dict[str, list[Recorder]] = {"tensorboard": [], "wandb": [], "mlflow": []}
    fails: dict[str, tuple[str, ...]] = {}

    def maker(kind):
        def make(spec, folder, recipe, trial):
            if "make" in fails.get(kind, ()):
                raise ModuleNotFoundError(f"No module named {kind!r}")
            made[kind].append(Recorder(fails.get(kind, ())))
            return made[kind][-1]

        return make

    monkeypatch.setattr(module, "MAKERS", {kind: maker(kind) for kind in made})
    return made, fails


def one_trial(found):
    logger = found.trial("0", RESOLVED)
    if logger is not None:
        logger.log_metrics({"accuracy": 0.5, "recall@5": 0.75}, 3)
        logger.save()
        logger.finalize("success")


ALL = (LogSpec(name="tensorboard"), LogSpec(name="wandb"), LogSpec(name="mlflow"))


def test_every_logger_is_given_configuration_and_figures(recorders, tmp_path):
    made, _ = recorders
    warnings: list[str] = []
    one_trial(Loggers(ALL, tmp_path, "hotel", warnings.append))
    figures = ("metrics", {"accuracy": 0.5, "recall_at_5": 0.75}, 3)
    assert made["mlflow"][0].seen == [("params", RESOLVED), figures, ("save",), ("end", "success")]
    assert made["tensorboard"][0].seen == [figures, ("save",), ("end", "success")]
    assert made["wandb"][0].seen[-1] == ("finish",)  # else the next trial would go on in this one's run
    assert warnings == []


@pytest.mark.parametrize("where", ["make", "params", "metrics", "save", "end"])
def test_logger_that_raises_is_left_out_and_named_once(recorders, tmp_path, where):
    made, fails = recorders
    fails["mlflow"] = (where,)
    warnings: list[str] = []
    found = Loggers(ALL, tmp_path, "hotel", warnings.append)
    one_trial(found)
    one_trial(found)
    assert len(made["mlflow"]) == (where != "make")
    assert [recorder.seen[-1] for recorder in made["wandb"]] == [("finish",)] * 2
    assert len(warnings) == 1
    assert warnings[0].startswith("log: mlflow is left out from here on (")
    assert ("pip install 'automm[mlflow]'" in warnings[0]) == (where == "make")


def test_tensorboard_is_the_default_and_may_be_absent(recorders, tmp_path):
    made, fails = recorders
    warnings: list[str] = []
    one_trial(Loggers(None, tmp_path, "hotel", warnings.append))
    assert [len(group) for group in made.values()] == [1, 0, 0]
    fails["tensorboard"] = ("make",)
    one_trial(Loggers(None, tmp_path, "hotel", warnings.append))
    assert warnings == []
    one_trial(Loggers(ALL[:1], tmp_path, "hotel", warnings.append))
    assert "pip install 'automm[train]'" in warnings[0]
    assert Loggers((), tmp_path, "hotel", warnings.append).trial("0", RESOLVED) is None


def test_tensorboard_writes_a_folder_per_trial(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = Loggers(None, tmp_path, "hotel", lambda _: None)
    for name in ("0", "only-text"):
        logger = found.trial(name, RESOLVED)
        logger.log_metrics({"accuracy": 0.25}, 1)
        logger.finalize("success")
        events = EventAccumulator(str(tmp_path / "tensorboard" / name)).Reload()
        assert [(event.step, event.value) for event in events.Scalars("accuracy")] == [(1, 0.25)]


def test_wandb_is_offline_unless_the_recipe_says_otherwise(tmp_path, monkeypatch):
    given = []
    fake = type("wandb", (), {"Settings": staticmethod(dict)})
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr("lightning.pytorch.loggers.WandbLogger", lambda **options: given.append(options) or Recorder())
    monkeypatch.delenv("WANDB_ERROR_REPORTING", raising=False)
    for spec in (LogSpec(name="wandb"), LogSpec(name="wandb", online=True, project="rooms")):
        Loggers([spec], tmp_path, "hotel", pytest.fail).trial("4", RESOLVED)
    assert [(options["offline"], options["project"], options["name"]) for options in given] == [
        (True, "hotel", "hotel/4"), (False, "rooms", "hotel/4"),
    ]  # fmt: skip
    assert given[0]["save_dir"] == tmp_path
    assert given[0]["settings"]["init_timeout"] == 30
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_itself(tmp_path):
    pytest.importorskip("wandb", reason="wandb is not installed (automm[wandb])")
    warnings: list[str] = []
    one_trial(Loggers([LogSpec(name="wandb")], tmp_path, "hotel", warnings.append))
    assert warnings == []
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of its own use of SQLAlchemy
def test_mlflow_itself(tmp_path):
    pytest.importorskip("mlflow", reason="mlflow is not installed (automm[mlflow])")
    warnings: list[str] = []
    one_trial(Loggers([LogSpec(name="mlflow")], tmp_path, "hotel", warnings.append))
    assert warnings == []
    with sqlite3.connect(tmp_path / "mlflow.db") as file:
        assert file.execute("select name, status from runs").fetchall() == [(f"{tmp_path.name}/0", "FINISHED")]
        assert ("recall_at_5", 0.75, 3) in file.execute("select key, value, step from metrics").fetchall()
    file.close()
