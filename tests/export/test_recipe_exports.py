"""The same formats in a recipe."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from fit.commands import reviews, run, save
from fit.conftest import summary

import automm
from automm.plugin.loader import load_plugins
from export.conftest import EXPORTERS

RECIPE = """data: train.csv
target: verdict
ignore: [review]
train: {epochs: 1, batch_size: 16}
model: {fusion: concat}
export: [onnx, docker, kubernetes, kserve, triton, mlflow, huggingface]
"""


def test_list_of_formats_is_written_beside_the_package(shop, tmp_path):
    from automm.package.deliver import _export_folders

    events = []
    run = SimpleNamespace(
        plugins=load_plugins(), folder=tmp_path, event=lambda kind, **values: events.append((kind, values["name"])),
        recipe=SimpleNamespace(export=("onnx", *EXPORTERS)),
    )  # fmt: skip
    written = _export_folders(run, shop)
    assert written == {name: str(tmp_path / "export" / name) for name in EXPORTERS}
    assert events == [("export", name) for name in EXPORTERS]
    assert all((tmp_path / "export" / name / "README.md").exists() for name in EXPORTERS)


@pytest.mark.slow
def test_recipe_writes_every_format_beside_the_package(tmp_path):
    save(tmp_path / "train.csv", table := reviews(tmp_path))
    (tmp_path / "r.yaml").write_text(RECIPE, "utf-8")
    done = run("fit", "r.yaml", "--out", "run", cwd=tmp_path)
    assert done.code == 0, done.err
    home = tmp_path / "run" / "export"
    assert summary(tmp_path / "run")["exports"] == {name: str(home / name) for name in EXPORTERS}
    rows = [dict(zip(table[0], line, strict=True)) for line in table[1:6]]
    expected = automm.load(tmp_path / "run" / "package").predict(rows).rows
    for name, cls in EXPORTERS.items():
        found = cls(cls.Config()).load(home / name)(rows)
        assert [row["prediction"] for row in found] == [row["prediction"] for row in expected], name
