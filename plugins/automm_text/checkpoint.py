"""Checkpoints of pretrained text models: their files, their tokeniser, their weights.

A checkpoint is untrusted input: no code of it is run and weights are read from safetensors only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from automm.api import AutommError, PluginError, has_weights

FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
"""What is fetched from the hub: slow tokenisers keep their vocabulary in the last two."""
_OFFSET_POSITIONS = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text", "longformer", "mpnet"}
"""Models whose positions start after the padding id."""


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
    except AutommError:
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
