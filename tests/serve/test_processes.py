"""Server processes: stopping without a lost request, several workers, hot swap under load, what cannot start."""

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
    with Served(tmp_path, package, "--drain", 1) as server:
        with Load(server.url, BODY, leave=True) as load:
            server.until(lambda: len(load.answers) > 20)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert server.client.get("/v2/health/ready").status_code == 503
            assert server.client.get("/v2/health/live").status_code == 200
            load.join()
        assert server.process.wait(20) == 0
        assert load.errors == []
        assert {status for status, _ in load.answers} == {200}


def test_what_was_accepted_is_answered(package, tmp_path):
    """The signal comes while a request is half here."""
    body = json.dumps(BODY).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with Served(tmp_path, package, "--drain", 0) as server:
        server.client.close()
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(head.encode() + body[:50])
            time.sleep(0.2)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", server.port), timeout=5)
            client.sendall(body[50:])
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert server.process.wait(20) == 0


def test_hot_swap_under_load(package, colder, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    place(package, models / "9")
    with Served(tmp_path, f"season={models}", "--poll", 0.1) as server, Load(server.url, BODY) as load:
        server.until(lambda: load.versions() == {"9"})
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
        time.sleep(0.4)
        assert len(client.get("/v2/models/season").json()["versions"]) == 1, "the last one stays"
        place(package, models / "10")
        server.until(lambda: client.get("/v2/models/season").json()["versions"] == ["10"])
    assert load.errors == []
    assert {status for status, _ in load.answers} == {200}
    assert load.versions() == {"9", "10", "11"}


def test_a_package_that_is_replaced_in_its_place(package, colder, tmp_path):
    """As `automm fit` and `automm update` write: the old folder is moved away, the new one gets its name."""
    place(package, tmp_path / "package")
    with Served(tmp_path, tmp_path / "package", "--poll", 0.1) as server, Load(server.url, BODY) as load:
        server.until(lambda: load.answers)
        before = server.client.post("/predict", json=BODY).json()["predictions"][0]["probability_cold"]
        (tmp_path / "package").rename(tmp_path / "old")
        time.sleep(0.3)
        place(colder, tmp_path / "package")
        server.until(lambda: len(server.events("package loaded")) == 2)
        after = server.client.post("/predict", json=BODY).json()["predictions"][0]["probability_cold"]
        assert after > before + 0.1
    assert load.errors == []
    assert {status for status, _ in load.answers} == {200}


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


def run(*arguments, environment=None):
    """`automm serve` with what cannot start → exit code and message."""
    command = [sys.executable, "-m", "automm", "serve", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**ENVIRONMENT, **(environment or {})}
    )
    return done.returncode, done.stderr + done.stdout


@pytest.mark.parametrize("workers", [1, 2])
def test_a_damaged_package_ends_the_server(package, tmp_path, workers):
    broken = shutil.copytree(package, tmp_path / "broken")
    (broken / "graphs" / "main.onnx").write_bytes(b"broken")
    code, said = run(broken, "--port", 0, "--workers", workers)
    assert code == 9
    assert "error: graphs/main.onnx: 6 bytes, the manifest says" in said
    assert said.count("error: ") == 1 or workers == 2


def test_what_cannot_start_says_why(package, tmp_path):
    assert "nowhere: no such folder; name a package, or a folder of packages" in run(tmp_path / "nowhere")[1]
    code, said = run(package, package)
    assert (code, "two models are called 'weather'; name them: weather-a=" in said) == (2, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, said = run(package, "--port", taken.getsockname()[1])
    assert (code, "cannot listen on 127.0.0.1:" in said) == (10, True)
    code, said = run(package, environment={"AUTOMM_API_KEY": "short"})
    assert (code, "an API key has at least 16 ASCII characters" in said) == (2, True)


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


def test_serving_never_imports_torch(package):
    """In a process in which it cannot be imported."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = f"""
import os, signal, sys, threading, time, urllib.request
sys.modules["torch"] = None
def stop():
    for _ in range(300):
        time.sleep(0.1)
        try:
            found = urllib.request.urlopen("http://127.0.0.1:{port}/v2/health/ready")
        except OSError:
            continue
        os.kill(os.getpid(), signal.SIGINT)
        return
threading.Thread(target=stop, daemon=True).start()
sys.argv = ["automm", "serve", {str(package)!r}, "--port", "{port}"]
from automm.cli.main import main
main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert '"event":"package loaded"' in done.stdout
