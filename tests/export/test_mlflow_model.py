"""The `MLmodel` folder in the real MLflow: loaded, asked with data frames, and served."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml

import automm
from export.conftest import COLUMNS, EXPORTERS, shop_rows

pd = pytest.importorskip("pandas")
warnings.filterwarnings("ignore", module="mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


@pytest.fixture(scope="module")
def folder(shop, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mlflow")
    EXPORTERS["mlflow"](EXPORTERS["mlflow"].Config()).export_package(shop, folder)
    return folder


@pytest.fixture(scope="module")
def mlflow():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pytest.importorskip("mlflow")
        found.pyfunc.load_model  # noqa: B018 - imports it
    return found


@pytest.fixture(scope="module")
def model(folder, mlflow):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mlflow.pyfunc.load_model(str(folder))


@pytest.fixture(scope="module")
def predictor(shop):
    return automm.load(shop)


def coded(rows):
    """Rows as JSON requests have them."""
    return [{**row, "photo": base64.b64encode(row["photo"]).decode() if row["photo"] else None} for row in rows]


def test_loaded_model_predicts_as_the_package(model, predictor):
    frame = pd.DataFrame(shop_rows(6, seed=3))
    expected = predictor.predict(frame).to_pandas()
    assert set(expected["prediction"]) <= {"low", "high"}
    pd.testing.assert_frame_equal(model.predict(frame), expected)


def test_cells_of_every_kind_are_taken_as_automm_takes_them(model, predictor):
    frame = pd.DataFrame(shop_rows(4, seed=4))
    variants = {
        "floats": frame.assign(price=frame["price"].astype(float)),
        "text": frame.assign(price=frame["price"].astype(str)),
        "missing": frame.assign(price=[1.5, np.nan, None, 3], title=["a", None, "b", "c"], photo=[None] * 4),
        "other order": frame[list(reversed(frame.columns))].assign(more=1),
    }
    for name, given in variants.items():
        pd.testing.assert_frame_equal(model.predict(given), predictor.predict(given).to_pandas(), obj=name)


def test_bad_rows_are_refused_and_the_others_answered(model, predictor):
    rows = shop_rows(4, seed=6)
    good = predictor.predict(rows).to_pandas()
    rows[1]["price"] = "cheap"
    rows[2]["photo"] = "/etc/passwd"
    rows[3]["photo"] = base64.b64encode(b"no picture").decode()
    found = model.predict(pd.DataFrame(rows))
    assert "column 'price'" in found["error"][1]
    assert found["error"][2] == "column 'photo': neither bytes nor base64 text"
    assert "column 'photo'" in found["error"][3]
    assert found["prediction"].isna().tolist() == [False, True, True, True]
    pd.testing.assert_series_equal(found.loc[0], good.loc[0])


def test_path_of_a_file_is_never_read(model, tmp_path):
    file = tmp_path / "aaaa"  # its absolute path is no base64; its name alone is
    file.write_bytes(shop_rows(1)[0]["photo"])
    rows = [{**shop_rows(1)[0], "photo": name} for name in (str(file), "aaaa")]
    errors = model.predict(pd.DataFrame(rows))["error"]
    assert errors.notna().all()


def test_missing_column_is_named(model, mlflow):
    with pytest.raises(mlflow.exceptions.MlflowException, match=r"Model is missing inputs .'photo'."):
        model.predict(pd.DataFrame(shop_rows(1)).drop(columns="photo"))


def test_signature_is_of_the_manifest(model):
    signature = model.metadata.signature
    assert tuple(signature.inputs.input_names()) == COLUMNS
    assert [str(kind) for kind in signature.inputs.input_types()] == ["DataType.string", "Any", "Any", "Any"]
    assert signature.outputs.input_names() == ["prediction", "probability_low", "probability_high", "error"]
    assert signature.outputs.required_input_names() == ["prediction", "probability_low", "probability_high"]


def test_nothing_is_pickled_and_nothing_run_from_the_folder(folder):
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".py", ".joblib")]
    described = yaml.safe_load((folder / "MLmodel").read_text("utf-8"))
    assert described["flavors"]["python_function"]["loader_module"] == "automm_export.pyfunc"
    assert "python_model" not in described["flavors"]["python_function"]
    required = (folder / "requirements.txt").read_text("utf-8").split()
    assert required[0].startswith("automm==")
    assert required[-2:] == ["pandas", "mlflow>=3.0"]
    assert yaml.safe_load((folder / "python_env.yaml").read_text())["dependencies"] == ["-r requirements.txt"]


def test_changed_file_is_refused_when_it_is_loaded(folder, mlflow, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "package" / "graphs" / "main.onnx").write_bytes(b"x")
    with pytest.raises(Exception, match=r"graphs/main.onnx: 1 bytes, the manifest says"):
        mlflow.pyfunc.load_model(str(copy))


def test_scoring_server_answers_json(model, predictor, mlflow):
    from mlflow.pyfunc import scoring_server
    from starlette.testclient import TestClient

    rows = shop_rows(3, seed=7)
    expected = predictor.predict(rows)
    client = TestClient(scoring_server.init(model))
    assert client.get("/ping").status_code == 200
    split = {"columns": list(COLUMNS), "data": [[row[name] for name in COLUMNS] for row in coded(rows)]}
    for body in ({"dataframe_split": split}, {"dataframe_records": coded(rows)}):
        found = client.post("/invocations", json=body).json()["predictions"]
        assert [row["prediction"] for row in found] == expected.columns["prediction"]
        assert [row["probability_low"] for row in found] == pytest.approx(expected.columns["probability_low"], abs=1e-6)
        assert [row["error"] for row in found] == [None] * 3
    table = pd.DataFrame(coded(rows)).to_csv(index=False)  # MLflow reads it only for signatures without "any"
    assert client.post("/invocations", content=table, headers={"Content-Type": "text/csv"}).status_code == 400
    partial = coded([{**rows[0], "photo": b""}, rows[1]])
    partial[1]["photo"] = {"base64": partial[1]["photo"]}  # as for `automm serve`
    found = client.post("/invocations", json={"dataframe_records": partial}).json()["predictions"]
    assert found[1]["prediction"] == expected.columns["prediction"][1]
    assert client.post("/invocations", json={"dataframe_records": [{"title": "x"}]}).status_code == 400


@pytest.mark.slow
def test_models_serve(folder, predictor):
    """`mlflow models serve`, as the README of the folder writes it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rows = shop_rows(2, seed=8)
    command = ["-m", "mlflow", "models", "serve", "-m", str(folder), "--env-manager", "local", "--port", str(port)]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    server = subprocess.Popen([sys.executable, *command], env=environment, start_new_session=True)
    try:
        end = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None
                assert time.monotonic() < end
                time.sleep(0.5)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"dataframe_records": coded(rows)}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            found = json.load(answer)["predictions"]
        assert [row["prediction"] for row in found] == predictor.predict(rows).columns["prediction"]
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)
