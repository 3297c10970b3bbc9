"""Checkpoints of pretrained series models: where they are and their weights.

A checkpoint is untrusted input: no code of it is run and weights are read from safetensors only. Its folder is all that
is read; the hub is asked only for a name that is no folder, once, and never waited for.
"""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from typing import Any

from automm.api import MissingExtraError, PluginError

MODELS = ("patchtst", "patchtsmixer")
"""The `model_type` of checkpoints that can be used."""

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?(@[\w.-]+)?")


def locate(checkpoint: str) -> Path:
    """The local folder of a checkpoint.

    Args:
        checkpoint: A folder, or a hub id (`org/name`, `hf://org/name`, with `@revision` if wanted).

    Raises:
        PluginError: If there is no such folder, or the hub cannot be reached.
    """
    folder = Path(checkpoint).expanduser()
    if not checkpoint.startswith("hf://") and folder.is_dir():
        if not (folder / "config.json").is_file():
            raise PluginError(f"checkpoint {checkpoint}: the folder holds no config.json")
        return folder.resolve()
    name = checkpoint.removeprefix("hf://")
    if not _HUB_ID.fullmatch(name):
        raise PluginError(f"checkpoint {checkpoint}: no such folder")
    return _download(checkpoint, name)


def _download(checkpoint: str, name: str) -> Path:
    try:
        from huggingface_hub import constants, snapshot_download
    except ImportError as problem:
        raise MissingExtraError("pretrained series models need transformers: pip install 'automm[train]'") from problem
    repository, _, revision = name.partition("@")
    wanted: dict[str, Any] = {
        "repo_id": repository,
        "revision": revision or None,
        "allow_patterns": ["*.json", "*.safetensors"],
        "ignore_patterns": ["*/*"],
    }
    try:
        return Path(snapshot_download(local_files_only=True, **wanted))
    except Exception as problem:
        offline = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _unreachable(constants.ENDPOINT)
        if offline:
            raise PluginError(
                f"checkpoint {checkpoint}: no such folder, not in the hub's local cache, and {offline}; "
                "name a folder that holds config.json and model.safetensors"
            ) from problem
    try:
        return Path(snapshot_download(**wanted))
    except Exception as problem:
        raise PluginError(f"checkpoint {checkpoint}: the hub has no such model, or refuses it ({problem})") from problem


def _unreachable(endpoint: str) -> str:
    """Why the hub cannot be asked; empty if it can. The hub's own client would try for most of a minute."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return ""
    host = endpoint.split("://")[-1].split("/")[0].split(":")[0]
    try:
        socket.create_connection((host, 443), timeout=3).close()
    except OSError as problem:
        return f"{host} cannot be reached ({problem})"
    return ""


def context_length(folder: Path) -> int:
    """How many time steps the checkpoint reads.

    Raises:
        PluginError: If its config.json is damaged or belongs to another kind of model.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as problem:
        raise PluginError(f"checkpoint {folder}: config.json cannot be read: {problem}") from None
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in MODELS:
        raise PluginError(f"checkpoint {folder}: {kind or 'it'} is not a series model; known are {', '.join(MODELS)}")
    length = config.get("context_length", 32)
    if not isinstance(length, int) or not 1 <= length <= 100_000:
        raise PluginError(f"checkpoint {folder}: context_length is {length!r}")
    return length


def has_weights(folder: Path) -> bool:
    """Whether there are weights to load; without any the model starts from random ones.

    Raises:
        PluginError: If there are weights, but not as safetensors.
    """
    if any(folder.glob("*.safetensors")):
        return True
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise PluginError(
            f"checkpoint {folder}: only safetensors weights are read; save the model with safetensors first"
        )
    return False


def load_model(folder: Path, channels: int) -> Any:
    """The checkpoint's series model in float32, for this many channels.

    Models that treat channels alike fit any number of them; others only their own.

    Raises:
        PluginError: If it is not a series model, or its weights cannot be read or belong to other channels.
    """
    from transformers import PatchTSMixerModel, PatchTSTModel

    context_length(folder)
    try:
        kind = json.loads((folder / "config.json").read_text("utf-8"))["model_type"]
        factory = PatchTSTModel if kind == "patchtst" else PatchTSMixerModel
        config = factory.config_class.from_pretrained(folder, local_files_only=True)
        own, config.num_input_channels = config.num_input_channels, channels
        if kind == "patchtst":
            config.do_mask_input = False
        if not has_weights(folder):
            return factory(config).float()
        model, notes = factory.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except PluginError:
        raise
    except Exception as problem:
        raise PluginError(f"checkpoint {folder}: not a series model that transformers can load: {problem}") from problem
    if notes["mismatched_keys"]:
        raise PluginError(
            f"checkpoint {folder}: its weights are for {own} channels, and mix them; the input has {channels}"
        )
    if notes["missing_keys"]:
        raise PluginError(f"checkpoint {folder}: the weights lack {sorted(notes['missing_keys'])[0]!r}")
    return model.float()
