"""Checkpoints of pretrained text models: where they are, their tokeniser, their weights.

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

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?(@[\w.-]+)?")
_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
_OFFSET_POSITIONS = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text", "longformer", "mpnet"}
"""Models whose positions start after the padding id."""


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
        raise MissingExtraError("pretrained text models need transformers: pip install 'automm[train]'") from problem
    repository, _, revision = name.partition("@")
    wanted: dict[str, Any] = {
        "repo_id": repository,
        "revision": revision or None,
        "allow_patterns": _FILES,
        "ignore_patterns": ["*/*"],
    }
    try:
        return Path(snapshot_download(local_files_only=True, **wanted))
    except Exception as problem:
        offline = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _unreachable(constants.ENDPOINT)
        if offline:
            raise PluginError(
                f"checkpoint {checkpoint}: no such folder, not in the hub's local cache, and {offline}; "
                "name a folder that holds config.json, tokenizer.json and model.safetensors"
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


def read_config(folder: Path) -> dict[str, Any]:
    """The checkpoint's config.json.

    Raises:
        PluginError: If it is damaged.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as problem:
        raise PluginError(f"checkpoint {folder}: config.json cannot be read: {problem}") from None
    if not isinstance(config, dict):
        raise PluginError(f"checkpoint {folder}: config.json holds no object")
    return config


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


def tokenizer_json(folder: Path) -> str:
    """The text of the checkpoint's tokenizer.json, converted from a slow tokeniser where that is possible.

    Raises:
        PluginError: If the checkpoint has no tokeniser that can be converted.
    """
    file = folder / "tokenizer.json"
    if file.is_file():
        return file.read_text("utf-8")
    # transformers makes an empty tokeniser where there is no vocabulary at all.
    if not any(path for pattern in ("vocab.*", "*.model") for path in folder.glob(pattern)):
        raise PluginError(f"checkpoint {folder}: neither a tokenizer.json nor a vocabulary")
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return str(tokenizer.backend_tokenizer.to_str())
    except Exception as problem:
        raise PluginError(
            f"checkpoint {folder}: no tokenizer.json, and none can be made from its other files ({problem}); "
            "save the tokeniser with tokenizers or as a fast tokeniser of transformers"
        ) from problem


def most_tokens(config: dict[str, Any]) -> int | None:
    """How many tokens the model has positions for; None if it has no such bound."""
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions <= 0:
        return None
    if config.get("model_type") in _OFFSET_POSITIONS:
        positions -= int(config.get("pad_token_id") or 0) + 1
    return positions


def load_model(folder: Path) -> Any:
    """The checkpoint's text encoder in float32, without a pooler.

    Raises:
        PluginError: If it is not a text model, needs code of its own, or its weights cannot be read.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if getattr(config, "use_cache", None):
            config.use_cache = False
        if hasattr(config, "relative_attention_num_buckets"):
            config._attn_implementation = "eager"  # T5's fused attention cannot be exported to ONNX
        text_only = type(config) in AutoModelForTextEncoding._model_mapping
        factory = AutoModelForTextEncoding if text_only else AutoModel
        if has_weights(folder):
            model = factory.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
            )
        else:
            model = factory.from_config(config, trust_remote_code=False).float()
    except PluginError:
        raise
    except Exception as problem:
        raise PluginError(f"checkpoint {folder}: not a text model that transformers can load: {problem}") from problem
    finally:
        if bars:
            logging.enable_progress_bar()
    if (
        model.main_input_name != "input_ids"
        or model.config.is_encoder_decoder
        or not hasattr(model.config, "hidden_size")
    ):
        raise PluginError(f"checkpoint {folder}: {config.model_type} is not a text encoder")
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # unused, and trained on another task
    return model
