"""Folders of pretrained checkpoints, local or from the hub. Torch-free.

A checkpoint is untrusted input: only JSON and safetensors are fetched, and no code of it is ever run.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from automm.errors import DataError, MissingExtraError

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?(@[\w.-]+)?")


def find_checkpoint(checkpoint: str, files: Sequence[str] = ("*.json", "*.safetensors")) -> Path:
    """The folder of a checkpoint. A local folder never leads to a network call.

    Args:
        checkpoint: A folder, or a name on the hub ("org/name", with "@revision" if wanted; "hf://" may precede it).
        files: Patterns of what to fetch from the hub.

    Raises:
        DataError: If there is no such folder, it has no config.json, or the hub cannot be reached or does not know it.
        MissingExtraError: If the hub's library is not installed.
    """
    if not checkpoint:
        raise DataError("no checkpoint named: give a folder, or a name on the hub")
    folder = Path(checkpoint).expanduser()
    if not checkpoint.startswith("hf://") and folder.is_dir():
        if not (folder / "config.json").is_file():
            raise DataError(f"checkpoint {checkpoint}: the folder has no config.json")
        return folder
    name = checkpoint.removeprefix("hf://")
    if not _HUB_ID.fullmatch(name):
        raise DataError(f"checkpoint {checkpoint}: no such folder")
    return _from_hub(checkpoint, name, files)


def _from_hub(checkpoint: str, name: str, files: Sequence[str]) -> Path:
    try:
        from huggingface_hub import constants, snapshot_download
    except ImportError:
        raise MissingExtraError("pretrained models need transformers: pip install 'automm[train]'") from None
    repository, _, revision = name.partition("@")
    wanted: dict[str, Any] = {"repo_id": repository, "revision": revision or None, "allow_patterns": list(files)}
    wanted["ignore_patterns"] = ["*/*"]  # the same weights in other formats, mostly
    try:
        cached = Path(snapshot_download(local_files_only=True, **wanted))
        if (cached / "config.json").is_file() and any(cached.glob("*.safetensors")):
            return cached
    except Exception:  # noqa: S110 - not in the cache, or not a name of the hub: the download below says which
        pass
    if reason := "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _unreachable(constants.ENDPOINT):
        raise DataError(
            f"checkpoint {checkpoint}: neither a folder nor in the hub's cache, and {reason}; "
            "give the folder of a downloaded checkpoint, or connect to the network"
        )
    try:
        return Path(snapshot_download(**wanted))
    except Exception as problem:
        raise DataError(f"checkpoint {checkpoint}: neither a folder nor found on the hub: {problem}") from None


def _unreachable(endpoint: str) -> str:
    """Why the hub cannot be asked; empty if it can. Its own client would retry for almost a minute."""
    if any(os.environ.get(key) for key in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return ""
    url = urlsplit(endpoint)
    try:
        socket.create_connection((url.hostname or "", url.port or (80 if url.scheme == "http" else 443)), 3).close()
    except OSError:
        return f"{url.hostname} cannot be reached"
    return ""


def read_checkpoint_json(file: Path) -> dict[str, Any]:
    """A JSON file of a checkpoint; empty if there is none.

    Raises:
        DataError: If it is damaged.
    """
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise DataError(f"{file}: not valid JSON: {problem}") from None
    if not isinstance(content, dict):
        raise DataError(f"{file}: not a JSON object")
    return content


def has_weights(folder: Path) -> bool:
    """Whether a checkpoint's folder holds weights; without any a model could only start from random ones.

    Raises:
        DataError: If there are weights, but not as safetensors.
    """
    if any(folder.glob("*.safetensors")):
        return True
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise DataError(
            f"checkpoint {folder}: only safetensors weights are read; save the model with safetensors first"
        )
    return False
