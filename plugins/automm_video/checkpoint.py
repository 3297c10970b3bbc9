"""Pretrained video models: how they want their clips, and their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from automm.api import DataError, load_checkpoint, read_checkpoint_json
from automm_video.frames import Frames

RESAMPLE = {1: "lanczos", 2: "bilinear", 3: "bicubic"}


class Preparation(NamedTuple):
    """How a checkpoint wants its clips.

    Attributes:
        frames: The processor of its frames.
        scale: What values 0 to 255 are multiplied by, per channel.
        shift: What is added then.
    """

    frames: Frames.Config
    scale: tuple[float, ...]
    shift: tuple[float, ...]


def read_preparation(folder: Path) -> Preparation:
    """Reads `preprocessor_config.json` (or `video_preprocessor_config.json`), and what it leaves open from the model's.

    Raises:
        DataError: If a file is damaged, or asks for clips that are not square RGB.
    """
    found = read_checkpoint_json(folder / "preprocessor_config.json")
    found = found or read_checkpoint_json(folder / "video_preprocessor_config.json")
    config = read_checkpoint_json(folder / "config.json")
    try:
        return _parse(found, config)
    except (TypeError, ValueError, KeyError) as problem:
        raise DataError(f"checkpoint {folder}: its video preprocessing cannot be used: {problem}") from None


def _parse(found: dict[str, Any], config: dict[str, Any]) -> Preparation:
    for name in ("num_channels", "in_chans"):
        if config.get(name, 3) != 3:
            raise ValueError(f"it takes {config[name]} channels, not RGB")
    frames = config.get("num_frames") or config.get("frames_per_clip")
    if not isinstance(frames, int):
        raise ValueError("its config.json does not say how many frames it takes (num_frames)")
    side = _side(config.get("image_size") or config.get("crop_size") or 224)
    size, crop = found.get("size") or side, found.get("crop_size") if found.get("do_center_crop", True) else None
    squashed = isinstance(size, dict) and "height" in size
    shorter, cut = _side(size), _side(crop or size)
    if cut != side:
        raise ValueError(f"it cuts frames of {cut} pixels for a model of {side}")
    if cut > shorter or (squashed and cut < shorter):
        raise ValueError(f"it cuts {cut} pixels out of {size}")
    fields = {"fit": "squash"} if squashed else {"fit": "crop", "shorter": shorter}
    resample = RESAMPLE.get(found.get("resample", 2), "bilinear")
    scale, shift = _line(found)
    return Preparation(Frames.Config(frames=frames, size=side, resample=resample, **fields), scale, shift)


def _line(found: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Rescaling and normalisation as one line per channel."""
    factor = float(found.get("rescale_factor", 1 / 255)) if found.get("do_rescale", True) else 1.0
    offset = 1.0 if found.get("offset") else 0.0  # ViViT: 0 to 255 becomes -1 to 1 before it is normalised
    if found.get("do_normalize") is False:
        return (factor,) * 3, (-offset,) * 3
    mean, std = (_triple(found.get(f"image_{name}", [0.5] * 3)) for name in ("mean", "std"))
    return tuple(factor / s for s in std), tuple(-(offset + m) / s for m, s in zip(mean, std, strict=True))


def _side(size: Any) -> int:
    """The side of a square, from 224, [224, 224], {"height", "width"} or {"shortest_edge"}."""
    sides = list(size.values()) if isinstance(size, dict) else size if isinstance(size, list) else [size]
    if "shortest_edge" in (size if isinstance(size, dict) else ()):
        sides = [size["shortest_edge"]]
    if len(set(sides)) != 1 or not isinstance(sides[0], int) or sides[0] < 8:
        raise ValueError(f"it takes frames of size {size}, not squares")
    return int(sides[0])


def _triple(values: list[float]) -> tuple[float, ...]:
    triple = tuple(float(value) for value in values)
    if len(triple) != 3:
        raise ValueError(f"{len(triple)} values for the three channels")
    return triple


def load_model(folder: Path, name: str) -> Any:
    """The encoder of a video checkpoint in 32 bit, without what it does not need for its states.

    Raises:
        DataError: If it is no video model, or its weights are missing, damaged or no safetensors.
    """
    model = load_checkpoint(folder, name)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    if hasattr(model, "predictor"):  # V-JEPA's predictor guesses hidden patches
        model = model.encoder
    return model
