"""Checkpoints of pretrained series models: what they read, and their weights.

A checkpoint is untrusted input: no code of it is run and weights are read from safetensors only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from automm.api import AutommError, PluginError, has_weights, read_checkpoint_json

MODELS = ("patchtst", "patchtsmixer")
"""The `model_type` of checkpoints that can be used."""


def context_length(folder: Path) -> int:
    """How many time steps the checkpoint reads.

    Raises:
        DataError: If its config.json is damaged.
        PluginError: If it belongs to another kind of model.
    """
    config = read_checkpoint_json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in MODELS:
        raise PluginError(f"checkpoint {folder}: {kind or 'it'} is not a series model; known are {', '.join(MODELS)}")
    length = config.get("context_length", 32)
    if not isinstance(length, int) or not 1 <= length <= 100_000:
        raise PluginError(f"checkpoint {folder}: context_length is {length!r}")
    return length


def load_model(folder: Path, channels: int) -> Any:
    """The checkpoint's series model in float32, for this many channels.

    Models that treat channels alike fit any number of them; others only their own.

    Raises:
        PluginError: If it is not a series model, or its weights cannot be read or belong to other channels.
    """
    from transformers import PatchTSMixerModel, PatchTSTModel

    context_length(folder)
    try:
        kind = read_checkpoint_json(folder / "config.json")["model_type"]
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
    except AutommError:
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
