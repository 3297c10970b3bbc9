"""The Dockerfile and what lies beside it."""

from __future__ import annotations

import base64
import http.server
import json
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
from automm_export.contents import Contents
from packaging.requirements import Requirement

import automm
from automm.testing.packages import small_package
from export.conftest import shop_rows


def instructions(folder) -> list[tuple[str, str]]:
    """Instruction and arguments, with continued lines joined."""
    lines = (folder / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    words = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    return [(word, " ".join(rest.split())) for word, rest in words]


def requirements(folder) -> dict[str, Requirement]:
    found = [Requirement(line) for line in (folder / "requirements.txt").read_text().splitlines()]
    return {one.name: one for one in found}


def test_image_runs_the_server_without_root_and_without_tools_of_the_build(export, shop):
    folder = export("docker")
    steps = instructions(folder)
    environment = json.loads((shop / "provenance" / "environment.json").read_text())
    minor = ".".join(environment["python"].split(".")[:2])
    assert [args for word, args in steps if word == "FROM"] == [
        f"python:{minor}-slim AS install",
        f"python:{minor}-slim",
    ]
    last = steps[[word for word, _ in steps].index("FROM", 1) :]
    words = [word for word, _ in last]
    assert words.index("USER") > words.index("COPY")
    assert dict(last)["USER"] == "10001:10001"
    assert ("COPY", "package/ /model/") in last
    assert ("RUN", '["automm", "package", "verify", "/model"]') in last
    assert words.index("RUN") < words.index("USER")
    assert dict(last)["EXPOSE"] == "8080"
    assert json.loads(dict(last)["ENTRYPOINT"]) == ["automm", "serve"]
    assert json.loads(dict(last)["CMD"]) == ["/model", "--host", "0.0.0.0", "--port", "8080"]
    copied = {args.split()[0].rstrip("/") for word, args in steps if word == "COPY" and "--from" not in args}
    assert copied == {"requirements.txt", "wheels", "package"}
    assert all((folder / name).exists() for name in copied)
    assert set((folder / ".dockerignore").read_text().split()) == {"*", *(f"!{name}" for name in copied)}
    automm.load(folder / "package")


def test_requirements_are_what_the_package_was_made_with(export, shop):
    found = requirements(export("docker"))
    environment = json.loads((shop / "provenance" / "environment.json").read_text())
    assert found["automm"].extras == {"serve"}
    for name in ("automm", "onnxruntime", "numpy", "pillow", "tokenizers"):
        assert str(found[name].specifier) == f"=={environment[name]}"
    assert "torch" not in found


def test_extras_follow_modalities_and_media(tmp_path, monkeypatch):
    package = small_package(tmp_path / "package")
    contents = Contents(package)
    assert contents.extras() == set()
    text = (package / "automm.json").read_text().replace('"modality": "text"', '"modality": "audio"')
    (package / "automm.json").write_text(text)
    assert Contents(package).extras() == {"audio"}
    monkeypatch.setattr("automm_export.contents.READS", {"": "dicom"})  # the golden media here have no ending
    assert Contents(package).extras() == {"audio", "dicom"}
    line = Contents(package).requirements("serve").splitlines()[0]
    assert line == f"automm[audio,dicom,serve]=={automm.__version__}"


def test_base_and_name_can_be_set(export, shop):
    folder = export("docker", base="registry.example/python:3.13@sha256:abc", image="registry.example/shop:7")
    assert "FROM registry.example/python:3.13@sha256:abc AS install\n" in (folder / "Dockerfile").read_text()
    text = (folder / "README.md").read_text()
    assert "docker build -t registry.example/shop:7 ." in text
    for line in re.findall(r"^docker run .*$", text, re.M):
        assert {"--read-only", "--rm", "registry.example/shop:7"} <= set(shlex.split(line))


def test_health_check_tells_ready_from_not(export):
    command = dict(instructions(export("docker")))["HEALTHCHECK"].partition("CMD ")[2]
    code = json.loads(command)[2]
    seen = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_response(503 if len(seen) == 1 else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = code.replace("8080", str(server.server_port))
        codes = [
            subprocess.run([sys.executable, "-c", here], capture_output=True, check=False).returncode for _ in range(2)
        ]
        server.shutdown()
    assert seen == ["/v2/health/ready"] * 2
    assert codes == [1, 0]


def test_server_takes_the_arguments_of_the_image(export):
    serve = pytest.importorskip("automm.cli.serve")
    command = json.loads(dict(instructions(export("docker")))["CMD"])
    context = serve.command.make_context("serve", command)
    assert context.params["packages"] == ("/model",)
    assert (context.params["host"], context.params["port"]) == ("0.0.0.0", 8080)


def test_image_serves_where_nothing_but_tmp_can_be_written(export, tmp_path):
    """The image's own command and health check, with the package's folder read-only."""
    pytest.importorskip("automm.cli.serve")
    folder = export("docker")
    steps = dict(instructions(folder))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def here(words: str) -> list[str]:
        return [word.replace("8080", port).replace("0.0.0.0", "127.0.0.1") for word in json.loads(words)]

    package = folder / "package"
    for path in (*package.rglob("*"), package):
        path.chmod(0o555 if path.is_dir() else 0o444)
    command = ["-m", *json.loads(steps["ENTRYPOINT"]), str(package), *here(steps["CMD"])[1:]]
    environment = dict(word.split("=", 1) for word in steps["ENV"].split()[1:])
    (tmp_path / "tmp").mkdir()
    environment |= {"HOME": str(tmp_path / "tmp"), "TMPDIR": str(tmp_path / "tmp")}
    server = subprocess.Popen([sys.executable, *command], cwd=tmp_path / "tmp", env=environment)
    try:
        check = here(steps["HEALTHCHECK"].partition("CMD ")[2])[1:]
        end = time.monotonic() + 60
        while subprocess.run([sys.executable, *check], capture_output=True, check=False).returncode:
            assert server.poll() is None
            assert time.monotonic() < end
        row = shop_rows(1, seed=3)[0]
        body = json.dumps([{**row, "photo": {"base64": base64.b64encode(row["photo"]).decode()}}]).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            found = json.load(answer)
        assert automm.load(package).predict([row]).rows[0]["prediction"] in json.dumps(found)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            assert b"# TYPE automm_queue_rows gauge" in answer.read()
    finally:
        server.terminate()
        assert server.wait(40) in (0, -15)
