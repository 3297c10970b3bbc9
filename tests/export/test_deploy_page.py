"""The page on deploying: its commands run, and what they write says what the page says."""

from __future__ import annotations

import re
import shlex
import shutil
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner
from docs.pages import blocks, rows

import automm
from automm.cli.main import cli
from export.conftest import EXPORTERS, shop_rows

PAGE = "deploy.md"


def out(command: str) -> str:
    words = shlex.split(command)
    return words[words.index("-o") + 1]


@pytest.fixture
def place(shop, tmp_path, monkeypatch):
    """A folder in which every command of the page was run."""
    shutil.copytree(shop, tmp_path / "run" / "package")
    monkeypatch.chdir(tmp_path)
    plugin = next(block.text for block in blocks("python", PAGE) if block.text.startswith("# listing.py"))
    (tmp_path / "listing.py").write_text(plugin, "utf-8")
    for block in blocks("sh", PAGE):
        done = CliRunner().invoke(cli, shlex.split(block.text)[1:], catch_exceptions=False)
        assert done.exit_code == 0, block.text
    return tmp_path


def test_commands_write_what_the_page_says(place):
    folders = [out(block.text) for block in blocks("sh", PAGE)]
    assert folders == ["shop", "cluster", "kserve", "triton", "mlmodel", "hub", "inputs"]
    for block in blocks("console", PAGE):
        above = max((sh for sh in blocks("sh", PAGE) if sh.line < block.line), key=lambda sh: sh.line)
        text = (place / out(above.text) / "README.md").read_text("utf-8")
        for line in block.text.splitlines():
            assert line in text.replace("-m path/of/this/folder", "-m mlmodel"), f"{block}: {line}"
    assert (place / "inputs" / "inputs.txt").read_text() == "title,tabular,photo"
    assert "max_batch_size: 128" in next((place / "triton").rglob("config.pbtxt")).read_text()
    assert "storageUri: s3://models/shop" in (place / "kserve" / "inferenceservice.yaml").read_text()


def test_table_has_every_format():
    commands = [row[1].strip("`") for row in rows(PAGE, "# Taking a package elsewhere")]
    assert commands == [f"automm export {name} run/package" for name in EXPORTERS]


def test_mlflow_program_of_the_page(place):
    pd = pytest.importorskip("pandas")
    code = next(block.text for block in blocks("python", PAGE) if block.text.startswith("import mlflow"))
    scope = {"frame": pd.DataFrame(shop_rows(2))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("mlflow")
        exec(code, scope)
    assert (
        scope["results"]["prediction"].tolist()
        == automm.load(Path("run/package")).predict(shop_rows(2)).columns["prediction"]
    )


def test_settings_on_the_page_are_settings():
    text = "\n".join(block.text for block in blocks("sh", PAGE))
    for line in filter(None, text.splitlines()):
        name = line.split()[2]
        for setting in re.findall(r"--set (\w+)=", line):
            assert name == "listing" or setting in EXPORTERS[name].Config.model_fields, line
