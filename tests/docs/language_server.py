"""A client of yaml-language-server, installed by npm once per version into the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

PINNED = Path(__file__).parent / "editor"
OFFLINE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "ENOTCACHED", "E403")
"""What npm says where there is no registry."""


def server_script() -> Path:
    """The server's script; skips the test where npm or its registry is missing."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    lock = (PINNED / "package-lock.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "automm-tests"
    folder = cache / f"yaml-language-server-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not folder.exists():
        making = cache / f"making-{os.getpid()}"
        shutil.copytree(PINNED, making)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=making, capture_output=True, text=True, timeout=200, check=False)
        if done.returncode != 0:
            shutil.rmtree(making)
            if any(word in done.stderr for word in OFFLINE):
                pytest.skip(f"npm reaches no registry: {done.stderr.splitlines()[-1]}")
            pytest.fail(done.stderr)
        try:
            making.rename(folder)
        except OSError:  # another process was quicker
            shutil.rmtree(making)
    return folder / "node_modules" / "yaml-language-server" / "bin" / "yaml-language-server"


class LanguageServer:
    """A running server with a workspace.

    Args:
        script: The server's script.
        folder: The workspace.
        settings: What the editor is set to, for the section `yaml`.
    """

    def __init__(self, script: Path, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.settings = {
            "validate": True,
            "completion": True,
            "hover": True,
            "schemaStore": {"enable": False},
            **settings,
        }
        self.messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self.number = 0
        self.process = subprocess.Popen(["node", script, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        abilities = {"textDocument": {"completion": {}, "hover": {}}, "workspace": {"configuration": True}}
        place = {"rootUri": folder.as_uri(), "workspaceFolders": [{"uri": folder.as_uri(), "name": "recipes"}]}
        self.ask("initialize", {"processId": os.getpid(), **place, "capabilities": abilities})
        self.tell("initialized", {})

    def close(self) -> None:
        """Ends the server."""
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdin.close()
        self.process.stdout.close()

    def open(self, name: str, text: str) -> list[str]:
        """Opens a file; returns line and message of every problem that the editor would underline."""
        uri = (self.folder / name).as_uri()
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self.tell("textDocument/didOpen", {"textDocument": document})
        found = self._wait(
            lambda m: m.get("method") == "textDocument/publishDiagnostics" and m["params"]["uri"] == uri
        )["params"]["diagnostics"]
        return [f"{problem['range']['start']['line'] + 1}: {problem['message']}" for problem in found]

    def complete(self, name: str, line: int, character: int) -> dict[str, str]:
        """What is offered at a place (line from 1, character from 0): word → explanation."""
        found = self.ask("textDocument/completion", self._place(name, line, character))
        items = found["items"] if isinstance(found, dict) else found
        return {item["label"]: _text(item.get("documentation")) for item in items}

    def hover(self, name: str, line: int, character: int) -> str:
        """What is shown at a place."""
        found = self.ask("textDocument/hover", self._place(name, line, character))
        return _text(found and found["contents"])

    def ask(self, method: str, params: Any) -> Any:
        """A request and its answer."""
        self.number += 1
        number = self.number
        self._send({"id": number, "method": method, "params": params})
        return self._wait(lambda m: m.get("id") == number and "method" not in m)["result"]

    def tell(self, method: str, params: Any) -> None:
        """A notice."""
        self._send({"method": method, "params": params})

    def _place(self, name: str, line: int, character: int) -> dict[str, Any]:
        uri = (self.folder / name).as_uri()
        return {"textDocument": {"uri": uri}, "position": {"line": line - 1, "character": character}}

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self.process.stdin.flush()

    def _read(self) -> None:
        while line := self.process.stdout.readline():
            size = 0
            while line.strip():
                if line.lower().startswith(b"content-length:"):
                    size = int(line.partition(b":")[2])
                line = self.process.stdout.readline()
            self.messages.put(json.loads(self.process.stdout.read(size)))

    def _wait(self, wanted: Any, seconds: float = 60) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            message = self.messages.get(timeout=seconds)
            if wanted(message):
                return message
            if "method" in message and "id" in message:  # the server asks the editor
                items = (
                    message.get("params", {}).get("items", []) if message["method"].endswith("configuration") else None
                )
                answer = None if items is None else [self.settings if i.get("section") == "yaml" else {} for i in items]
                self._send({"id": message["id"], "result": answer})
        raise TimeoutError("the language server does not answer")


def _text(found: Any) -> str:
    return found.get("value", "") if isinstance(found, dict) else str(found or "")
