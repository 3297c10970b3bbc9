"""Video files → evenly spaced frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from automm.api import ArraySpec, Config, Processor
from automm_video.reading import Limits, evenly, read_frames

if TYPE_CHECKING:
    from PIL.Image import Image


class LimitsConfig(Config):
    """What every processor of videos refuses."""

    max_bytes: Annotated[int, Field(ge=1)] = 2_000_000_000
    """File size above which a video is refused."""
    max_seconds: Annotated[float, Field(gt=0)] = 14_400.0
    """Length above which a video is refused, in seconds."""
    max_pixels: Annotated[int, Field(ge=1)] = 40_000_000
    """Height × width of a frame above which a video is refused."""
    max_decoded: Annotated[int, Field(ge=64)] = 3_000
    """Most frames decoded of one video; of long ones with rare key frames, frames near those are taken."""

    @property
    def limits(self) -> Limits:
        """As `read_frames` wants them."""
        return Limits(self.max_bytes, self.max_seconds, self.max_pixels, self.max_decoded)


class Frames(Processor):
    """Takes frames from the middles of equal parts of a video, upright, and resizes them to squares of 8-bit RGB."""

    op = "video.frames"
    name = "video.frames"
    media = True

    class Config(LimitsConfig):
        """How many frames, what they become, and what is refused."""

        frames: Annotated[int, Field(ge=1, le=256)] = 16
        """Number of frames."""
        size: Annotated[int, Field(ge=8, le=1024)] = 64
        """Height and width of the frames in pixels."""
        fit: Literal["squash", "crop"] = "squash"
        """How other shapes become square: `squash` changes the aspect, `crop` keeps the middle."""
        shorter: Annotated[int, Field(ge=0, le=2048)] = 0
        """For `crop`: the length that the shorter side is resized to before the middle is cut out; 0: `size`."""
        resample: Literal["bilinear", "bicubic", "lanczos"] = "bilinear"
        """Interpolation; always antialiased."""

    @property
    def limits(self) -> dict[str, float]:
        """Largest file, longest clip, largest frame."""
        limits = self.config.limits
        return {"bytes": limits.size, "seconds": limits.seconds, "pixels": limits.pixels}

    def specs(self) -> dict[str, ArraySpec]:
        """`frames`: uint8 [frames, size, size, 3], RGB."""
        return {"frames": ArraySpec("uint8", (self.config.frames, self.config.size, self.config.size, 3))}

    def load(self, cell: Path | bytes) -> dict[str, np.ndarray]:
        """One video → its frames.

        Raises:
            BadCell: If the file is missing, damaged, no video, or over the limits.
        """
        config = self.config
        return {"frames": np.stack(read_frames(cell, evenly(config.frames), config.limits, self._square))}

    def _square(self, picture: Image) -> np.ndarray:
        from PIL import Image

        size, method = self.config.size, Image.Resampling[self.config.resample.upper()]
        if self.config.fit == "squash":
            return np.asarray(picture.resize((size, size), method))
        width, height = picture.size
        short, shorter = min(width, height), max(self.config.shorter, size)
        # Rounded down, like the image processors of transformers.
        picture = picture.resize((shorter * width // short, shorter * height // short), method)
        left, top = (picture.width - size) // 2, (picture.height - size) // 2
        return np.asarray(picture.crop((left, top, left + size, top + size)))
