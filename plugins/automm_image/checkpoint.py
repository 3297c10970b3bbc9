"""How a vision checkpoint wants its pictures. Torch-free."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from automm.api import DataError, read_checkpoint_json

RESAMPLE = {1: "lanczos", 2: "bilinear", 3: "bicubic"}


class Preparation(NamedTuple):
    """How a checkpoint wants its pictures.

    Attributes:
        size: Height and width in pixels.
        fit: "squash" or "crop".
        zoom: For "crop": cropped side over the resized shorter side.
        resample: Interpolation.
        mean: What is subtracted per channel, of values 0 to 1.
        std: What they are divided by.
    """

    size: int
    fit: str
    zoom: float
    resample: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def read_preparation(folder: Path) -> Preparation:
    """Reads `preprocessor_config.json` (or the image part of `processor_config.json`, or else `config.json`).

    Raises:
        DataError: If a file is damaged, or asks for pictures that are not square RGB.
    """
    found = read_checkpoint_json(folder / "preprocessor_config.json")
    found = found or read_checkpoint_json(folder / "processor_config.json").get("image_processor") or {}
    config = read_checkpoint_json(folder / "config.json")
    config = config.get("vision_config") or config
    try:
        return _parse(found, config)
    except (TypeError, ValueError, KeyError) as problem:
        raise DataError(f"checkpoint {folder}: its image preprocessing cannot be used: {problem}") from None


def _parse(found: dict[str, Any], config: dict[str, Any]) -> Preparation:
    if config.get("num_channels", 3) != 3:
        raise ValueError(f"it takes {config['num_channels']} channels, not RGB")
    size = found.get("size") or config.get("image_size") or 224
    shorter = _side({"shortest_edge": size} if isinstance(size, int) and "crop_size" in found else size)
    fit, side = "squash", shorter
    if found.get("do_center_crop") and found.get("crop_size"):
        fit, side = "crop", min(_side(found["crop_size"]), shorter)
    elif isinstance(size, dict) and "shortest_edge" in size:
        fit = "crop"
        if "crop_pct" in found and side < 384:  # ConvNeXt's rule: smaller sizes are cropped from a larger resize
            shorter = round(side / (found["crop_pct"] or 1))
    plain = found.get("do_normalize") is False
    return Preparation(
        size=side,
        fit=fit,
        zoom=side / shorter,
        resample=RESAMPLE.get(found.get("resample", 2), "bilinear"),
        mean=(0.0,) * 3 if plain else _triple(found.get("image_mean", [0.5] * 3)),
        std=(1.0,) * 3 if plain else _triple(found.get("image_std", [0.5] * 3)),
    )


def _side(size: Any) -> int:
    """The side of a square, from 224, [224, 224], {"height", "width"} or {"shortest_edge"}."""
    sides = list(size.values()) if isinstance(size, dict) else size if isinstance(size, list) else [size]
    if "shortest_edge" in (size if isinstance(size, dict) else ()):
        sides = [size["shortest_edge"]]
    if len(set(sides)) != 1 or not isinstance(sides[0], int) or sides[0] < 1:
        raise ValueError(f"it takes pictures of size {size}, not squares")
    return int(sides[0])


def _triple(values: list[float]) -> tuple[float, ...]:
    triple = tuple(float(value) for value in values)
    if len(triple) != 3:
        raise ValueError(f"{len(triple)} values for the three channels")
    return triple
