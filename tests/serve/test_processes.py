"""Server processes: stopping without a lost request, several workers, hot swap under load, what cannot start.

All of them run where torch cannot be imported."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest
from fit.commands import run as command

from serve.conftest import encoded
from serve.servers import ENVIRONMENT, Load, Served

BODY = [encoded()]


def place(package, folder):
    """Copies a package beside its place and gives it its name then, as one should."""
    draft = folder.with_name(f".{folder.name}")
    shutil.copytree(package, draft)
    draft.rename(folder)


def processes(server):
    return {event["worker"] for event in server.events("package loaded")}


def test_sigterm_under_load_loses_no_request(package, tmp_path):
    """Whether it is on its way, half here or asked in the drain time."""
    body = json.dumps(BODY).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with (
        Served(tmp_path, package, "--drain", 1, "--body-seconds", 60) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=60) as half,
    ):
        with Load(server.url, BODY, leave=True) as load:
            server.until(lambda: len(load.answers) > 20)
            half.sendall(head.encode() + body[:50])
            server.process.send_signal(signal.SIGTERM)
            server.until(lambda: server.client.get("/v2/health/ready").status_code == 503)
            assert server.client.get("/v2/health/live").status_code == 200
            load.join()
        server.client.close()
        server.until(lambda: refuses(server.port))
        half.sendall(body[50:])
        assert half.recv(100).startswith(b"HTTP/1.1 200")
        assert server.process.wait(60) == 0
        assert load.errors == []
        assert {status for status, _ in load.answers} == {200}


def refuses(port):
    """Whether nobody listens any more."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_hot_swap_under_load(package, colder, tmp_path):
    """Versions in a folder, and a package that is replaced in its place as `automm fit` and `automm update` do it."""
    models, single = tmp_path / "models", tmp_path / "package"
    models.mkdir()
    place(package, models / "9")
    place(package, single)
    sources = f"season={models}", f"single={single}"
    with Served(tmp_path, *sources, "--poll", 0.1) as server, Load(server.url, BODY) as load:

        def cold():
            found = server.client.post("/models/single/predict", json=BODY)
            assert found.status_code == 200
            return found.json()["predictions"][0]["probability_cold"]

        before = cold()
        single.rename(tmp_path / "replaced")
        server.until(lambda: load.versions() == {"9"})
        assert cold() == before, "gone for a moment"
        place(colder, single)
        server.until(lambda: cold() > before + 0.1)
        place(colder, models / "10")
        server.until(lambda: load.answers[-1] == (200, "10"))
        client = server.client
        one, other = (
            client.post(f"/models/season/versions/{version}/predict", json=BODY).json()["predictions"][0]
            for version in ("9", "10")
        )
        assert one["probability_cold"] < other["probability_cold"] - 0.1
        assert client.get("/v2/models/season").json()["versions"] == ["9", "10"]

        shutil.copytree(package, models / "11")
        (models / "11" / "graphs" / "main.onnx").write_bytes(b"broken")
        refusals = server.until(lambda: server.events("package refused"))
        assert "11" in {event["version"] for event in refusals}
        assert client.get("/v2/models/season").json()["versions"] == ["9", "10"]
        assert client.get("/v2/health/ready").status_code == 200
        # Made whole, it is tried again.
        shutil.copyfile(package / "graphs" / "main.onnx", models / "11" / "graphs" / "main.onnx")
        server.until(lambda: load.answers[-1] == (200, "11"))

        shutil.rmtree(models / "11")
        server.until(lambda: load.answers[-1] == (200, "10"))
        (models / "10").rename(tmp_path / "old")
        (models / "9").rename(tmp_path / "older")
        time.sleep(0.5)
        assert len(client.get("/v2/models/season").json()["versions"]) == 1, "the last one stays"
        place(package, models / "10")
        server.until(lambda: client.get("/v2/models/season").json()["versions"] == ["10"])
    assert load.errors == []
    assert {status for status, _ in load.answers} == {200}
    assert load.versions() == {"9", "10", "11"}


def counted(server):
    """Requests to /predict in the metrics, of all workers."""
    lines = server.client.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith("automm_requests_total{") and 'endpoint="predict"' in line]
    return sum(float(line.split()[-1]) for line in found)


def test_several_workers(package, tmp_path):
    with Served(tmp_path, package, "--workers", 2, "--drain", 0.5) as server:
        server.until(lambda: len(processes(server)) == 2)
        with Load(server.url, BODY, threads=6) as load:
            server.until(lambda: len({event["worker"] for event in server.events("request")}) == 2)
            # One after the other, as in a rolling restart; then one that dies on the spot.
            for worker in sorted(processes(server)):
                known = len(processes(server))
                os.kill(worker, signal.SIGTERM)
                server.until(lambda known=known: len(processes(server)) > known)
        assert load.errors == []
        assert {status for status, _ in load.answers} == {200}
        assert counted(server) == len(load.answers)
        text = server.client.get("/metrics").text
        ready = [line for line in text.splitlines() if line.startswith("automm_model_ready{")]
        assert [line.split()[-1] for line in ready] == ["2.0"]

        known = processes(server)
        alive = {event["worker"] for event in server.events("package loaded")[-2:]}
        os.kill(min(alive), signal.SIGKILL)
        server.until(lambda: processes(server) > known)

        def answered():
            try:
                return httpx.post(f"{server.url}/predict", json=BODY).status_code == 200
            except httpx.HTTPError:
                return False

        server.until(answered)
        assert server.stop() == 0
        assert "another one is started" in server.log()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_damaged_package_ends_the_server(package, tmp_path, workers):
    broken = shutil.copytree(package, tmp_path / "broken")
    (broken / "graphs" / "main.onnx").write_bytes(b"broken")
    words = [sys.executable, "-m", "automm", "serve", str(broken), "--port", "0", "--workers", str(workers)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=ENVIRONMENT)
    assert done.returncode == 9
    assert "error: graphs/main.onnx: 6 bytes, the manifest says" in done.stderr
    assert done.stderr.count("error: ") == 1 or workers == 2


def test_what_cannot_start_says_why(package, tmp_path, monkeypatch):
    def said(*arguments):
        done = command("serve", *arguments, cwd=tmp_path)
        return done.code, done.err

    assert "nowhere: no such folder; name a package, or a folder of packages" in said(tmp_path / "nowhere")[1]
    code, words = said(package, package)
    assert (code, "two models are called 'weather'; name them: weather-a=" in words) == (2, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, words = said(package, "--port", taken.getsockname()[1])
    assert (code, "cannot listen on 127.0.0.1:" in words) == (10, True)
    monkeypatch.setenv("AUTOMM_API_KEY", "short")
    code, words = said(package)
    assert (code, "an API key has at least 16 ASCII characters" in words) == (2, True)


def test_an_empty_folder_waits_for_its_first_version(package, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    with Served(tmp_path, models, "--poll", 0.1, ready=False) as server:
        assert server.until(lambda: server.client.get("/v2/health/live")).status_code == 200
        assert server.client.get("/v2/health/ready").status_code == 503
        found = server.client.post("/predict", json=BODY)
        assert (found.status_code, found.headers["retry-after"]) == (503, "1")
        assert "Loading" in server.client.get("/").text
        place(package, models / "1")
        server.until(lambda: server.client.get("/v2/health/ready").status_code == 200)
        assert server.client.post("/predict", json=BODY).status_code == 200
        assert server.stop(signal.SIGINT) == 0
