"""Exporters that write the finished package in another format; callbacks and hooks around a run."""

from __future__ import annotations

import json

import pytest

from fit.commands import reviews, run, save
from fit.conftest import events, summary

RECIPE = """data: train.csv
target: verdict
ignore: [review]
train: {epochs: 2, batch_size: 16}
plugins: [mine.py]
export: [onnx, listing]
"""
PLUGIN = '''
import json
from automm.api import Exporter, hookimpl


class Listing(Exporter):
    """Lists the files of the package."""

    def export_package(self, package, folder):
        names = sorted(str(file.relative_to(package)) for file in package.rglob("*") if file.is_file())
        (folder / "files.json").write_text(json.dumps(names))


@hookimpl
def automm_register(register):
    register(Listing)


@hookimpl
def automm_callbacks(resolved, folder):
    from lightning import Callback

    class Notes(Callback):
        def on_train_epoch_end(self, trainer, module):
            with (folder.parent.parent / "notes.txt").open("a") as file:
                file.write(f"{folder.name} {resolved['train']['epochs']} {trainer.current_epoch}\\n")

    return [Notes()]


@hookimpl
def automm_package_written(package, manifest):
    (package.parent / "written.json").write_text(json.dumps([manifest["format"], sorted(manifest["graphs"])]))
'''


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "train.csv", reviews(tmp_path))
    (tmp_path / "r.yaml").write_text(RECIPE, "utf-8")
    return tmp_path


def fit(folder, plugin=PLUGIN):
    (folder / "mine.py").write_text(plugin, "utf-8")
    return run("fit", "r.yaml", "--out", "run", cwd=folder)


def test_folder_exporter_callbacks_and_hooks(folder):
    done = fit(folder)
    assert done.code == 0, done.err
    made = folder / "run" / "export" / "listing"
    names = json.loads((made / "files.json").read_text())
    assert {"automm.json", "graphs/main.onnx"} <= set(names)
    assert summary(folder / "run")["exports"] == {"listing": str(made)}
    assert [path.name for path in made.parent.iterdir()] == ["listing"]
    assert [event["name"] for event in events(folder / "run", "export")] == ["listing"]
    assert (folder / "run" / "notes.txt").read_text() == "0 2 0\n0 2 1\n"
    assert json.loads((folder / "run" / "written.json").read_text()) == ["automm", ["main"]]
    assert list((folder / "run" / "tensorboard" / "0").glob("events.out.tfevents.*"))

    (made / "old.txt").write_text("of an earlier run")
    assert fit(folder).code == 0
    assert [path.name for path in made.iterdir()] == ["files.json"]

    failed = fit(folder, PLUGIN.replace("names = sorted", "raise RuntimeError('no room')\n        names = sorted"))
    assert failed.code == 5
    assert "exporter 'listing' of plugin mine (local 0): export_package raised RuntimeError: no room" in failed.said
    assert [path.name for path in made.parent.iterdir()] == ["listing"]  # that of the run before
    assert (folder / "run" / "package" / "automm.json").exists()
    assert summary(folder / "run")["status"] == "failed"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "def export_package(self, package, folder)",
            "def export(self)",
            r"exporter Listing: write the method `export_",
        ),
        ("def export_package(self, package, folder)", "def export_package(self)", "must accept export_package(self"),
        ('"""Lists', 'makes = "file"\n    """Lists', "`makes` must be graph or folder, it is 'file'"),
    ],
)
def test_exporter_that_cannot_work_is_refused_when_it_is_loaded(folder, old, new, said):
    done = fit(folder, PLUGIN.replace(old, new))
    assert done.code == 5
    assert said in done.said
