"""The TrainJob manifest: checked against the API's fields, and its command really run."""

from __future__ import annotations

import copy
import json
import os
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from fit.commands import run
from fit.conftest import write_recipe

SCHEMA = json.loads((Path(__file__).parent / "trainjob.schema.json").read_text("utf-8"))
NODE = ("--nodes", 3, "--gpus", 4, "--cpus", 8, "--memory", "16Gi")
OPTIONS = (*NODE, "--image", "registry/automm:1", "--claim", "shared", "--namespace", "team")


@pytest.fixture
def written(tmp_path):
    """Writes the manifest of a recipe; gives it read again."""

    def write(*options, extra="search: {time: 1h}\n"):
        recipe = write_recipe(tmp_path, extra)
        done = run("launch", "kubernetes", recipe, *options, cwd=tmp_path)
        assert done.code == 0, done.err
        assert "kubectl create -f reviews.trainjob.yaml" in done.out
        text = (tmp_path / "reviews.trainjob.yaml").read_text("utf-8")
        assert "&id" not in text
        return yaml.safe_load(text)

    return write


def test_manifest_follows_the_schema(written):
    manifest = written(*OPTIONS)
    jsonschema.validate(manifest, SCHEMA)
    spec = manifest["spec"]
    assert manifest["metadata"] == {"name": "automm-reviews", "namespace": "team"}
    assert spec["runtimeRef"]["name"] == "torch-distributed"
    assert (spec["trainer"]["numNodes"], spec["trainer"]["numProcPerNode"]) == (3, 4)
    assert spec["trainer"]["resourcesPerNode"]["limits"] == {"cpu": "8", "memory": "16Gi", "nvidia.com/gpu": "4"}
    assert spec["activeDeadlineSeconds"] == 3600 * 1.25 + 600
    pod = spec["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]
    pod = pod["template"]["spec"]["template"]["spec"]
    assert pod["volumes"] == [{"name": "automm", "persistentVolumeClaim": {"claimName": "shared"}}]
    assert pod["containers"][0]["volumeMounts"] == [{"name": "automm", "mountPath": "/automm"}]


def test_short_command_line_gives_a_valid_manifest(written):
    manifest = written("--image", "registry/automm:1", extra="")
    jsonschema.validate(manifest, SCHEMA)
    assert "activeDeadlineSeconds" not in manifest["spec"]
    assert "resourcesPerNode" not in manifest["spec"]["trainer"]


@pytest.mark.parametrize(
    "change",
    [
        lambda job: job["spec"].update(podTemplateOverrides=[]),  # until Trainer 2.1
        lambda job: job["spec"]["trainer"].update(numNodes="3"),
        lambda job: job["spec"].pop("runtimeRef"),
        lambda job: job["metadata"].update(name="Reviews_1"),
        lambda job: job["spec"]["trainer"]["resourcesPerNode"]["limits"].update(memory="16 GB"),
    ],
)
def test_schema_refuses_what_the_cluster_would_refuse(written, change):
    manifest = copy.deepcopy(written(*OPTIONS))
    change(manifest)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, SCHEMA)


@pytest.mark.parametrize(("rank", "head"), [("0", "1"), ("2", "0")])
def test_command_starts_an_agent_of_torchrun(written, tmp_path, rank, head):
    """With a torchrun that shows its arguments, under the variables that Kubeflow Trainer sets."""
    command = written(*OPTIONS, "--folder", "my work", "--out", "runs/x")["spec"]["trainer"]["command"]
    assert command[:2] == ["bash", "-c"]
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "torchrun").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', "utf-8")
    (programs / "torchrun").chmod(0o755)
    variables = {"PET_NODE_RANK": rank, "PET_MASTER_ADDR": "automm-node-0-0.automm", "PET_MASTER_PORT": "29400"}
    done = subprocess.run(
        command, env={"PATH": f"{programs}:{os.environ['PATH']}", **variables}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "--max-restarts=3", "--rdzv-backend=c10d", "--rdzv-id=automm-reviews",
        "--rdzv-endpoint=automm-node-0-0.automm:29400", f"--rdzv-conf=is_host={head}",
        "-m", "automm", "fit", "/automm/my work/reviews.yaml", "--out", "/automm/runs/x", "--quiet",
    ]  # fmt: skip


def test_folders_outside_the_volume_are_refused(tmp_path):
    recipe = write_recipe(tmp_path)
    for option in ("--folder", "--out"):
        done = run("launch", "kubernetes", recipe, "--image", "i", option, "/data", cwd=tmp_path)
        assert done.code == 2
        assert "relative paths" in done.err


def test_wrong_recipe_is_refused(tmp_path):
    recipe = write_recipe(tmp_path, "metrik: accuracy\n")
    done = run("launch", "kubernetes", recipe, "--image", "i", cwd=tmp_path)
    assert done.code == 3
    assert "did you mean 'metric'" in done.err
    assert not (tmp_path / "reviews.trainjob.yaml").exists()
