"""The Hub folder, with the Hub's own parser."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

import automm
from export.conftest import shop_rows

hub = pytest.importorskip("huggingface_hub")


def card(folder):
    return hub.ModelCard.load(folder / "README.md")


def test_card_is_read_by_the_hub(export):
    data = card(export("huggingface", repository="acme/shop", license="apache-2.0", language="en")).data
    assert data.library_name == "automm"
    assert data.license == "apache-2.0"
    assert data.language == "en"
    assert data.tags == ["automm", "onnx", "multimodal", "image", "tabular", "text", "classification"]
    assert data.metrics == ["accuracy", "log_loss"]
    assert data.pipeline_tag is None
    assert data.model_name == "shop"
    found = {one.metric_type: (one.metric_value, one.dataset_name) for one in data.eval_results}
    assert found == {"accuracy": (0.5, "Small shop: test rows"), "log_loss": (0.625, "Small shop: test rows")}


def test_card_without_settings_names_no_license(export):
    folder = export("huggingface")
    data = card(folder).data
    assert data.license is None
    assert data.language is None
    assert "hf upload your-name/small-shop ." in (folder / "README.md").read_text("utf-8")


def test_one_modality_has_the_task_of_the_hub(shop, tmp_path, export):
    package = Path(shutil.copytree(shop, tmp_path / "text"))
    manifest = json.loads((package / "automm.json").read_text("utf-8"))
    for part in manifest["inputs"]:
        part["modality"] = "text"
    manifest["metrics"]["test"] = {}
    (package / "automm.json").write_text(json.dumps(manifest), "utf-8")
    data = card(export("huggingface", package)).data
    assert data.pipeline_tag == "text-classification"
    assert data.tags == ["automm", "onnx", "text", "classification"]
    assert [(one.metric_type, one.dataset_name) for one in data.eval_results] == [
        ("accuracy", "Small shop: validation rows")
    ]


def test_names_from_the_data_cannot_change_the_metadata(shop, tmp_path, export):
    package = Path(shutil.copytree(shop, tmp_path / "odd"))
    manifest = json.loads((package / "automm.json").read_text("utf-8"))
    manifest["name"] = "---\nlicense: mit\n---\n{title}"
    (package / "automm.json").write_text(json.dumps(manifest), "utf-8")
    folder = export("huggingface", package)
    data = card(folder).data
    assert data.license is None
    assert data.eval_results[0].dataset_name == "---\nlicense: mit\n---\n{title}: test rows"


def test_body_tells_inputs_results_and_how_to_load(export):
    text = card(export("huggingface", repository="acme/shop")).text
    for part in (
        "## Inputs",
        "| photo | image | photo |",
        "## Results",
        "## Quality",
        "| accuracy |",
        "## From the Hub",
    ):
        assert part in text
    assert 'snapshot_download("acme/shop", local_dir="small-shop")' in text
    assert f'pip install "automm=={automm.__version__}"' in text
    assert text.count("## Use") == 0  # of the package's own card, whose paths do not hold here


def test_downloaded_folder_predicts_as_the_package(export, shop, tmp_path, monkeypatch):
    """The card's program, with a download that copies."""
    folder = export("huggingface", repository="acme/shop")

    def snapshot_download(repository, *, local_dir):
        assert repository == "acme/shop"
        return shutil.copytree(folder, tmp_path / local_dir).as_posix()

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    programs = re.findall(r"```python\n(.*?)```", card(folder).text, re.S)
    scope: dict = {}
    exec(programs[1], scope)
    rows = shop_rows(3, seed=11)
    assert scope["predictor"].predict(rows).rows == automm.load(shop).predict(rows).rows
    monkeypatch.chdir(tmp_path)
    exec(programs[0], scope)
    assert scope["predictor"].predict(rows).rows == automm.load(shop).predict(rows).rows


def test_large_files_are_kept_beside_the_history(export):
    folder = export("huggingface")
    rules = [line.split() for line in (folder / ".gitattributes").read_text().splitlines()]
    assert {rule[0] for rule in rules} == {"*.onnx", "*.npz", "package/golden/media/*"}
    assert all(rule[1:] == ["filter=lfs", "diff=lfs", "merge=lfs", "-text"] for rule in rules)
    assert (folder / "requirements.txt").read_text().startswith("automm==")


def test_front_matter_is_yaml_that_others_read(export):
    text = (export("huggingface") / "README.md").read_text("utf-8")
    assert text.startswith("---\nlibrary_name: automm\n")
    assert yaml.safe_load(text.split("---\n")[1])["tags"][0] == "automm"
