"""Picture files → pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from automm.api import ArraySpec, Config, Processor
from automm_image.checkpoint import Preparation
from automm_image.decode import decode

if TYPE_CHECKING:
    from PIL.Image import Image

GREY = (127, 127, 127)
MAX_PIXELS = 64_000_000
MAX_BYTES = 50_000_000


class Pixels(Processor):
    """Decodes a picture, turns it upright, and resizes it to a square of 8-bit RGB (see `decode` for the formats)."""

    op = "image.pixels"
    name = "image.pixels"
    media = True

    class Config(Config):
        """What the picture becomes, and what is refused."""

        size: Annotated[int, Field(ge=8, le=1024)] = 64
        """Height and width of the result in pixels."""
        fit: Literal["squash", "crop", "pad"] = "squash"
        """How other shapes become square: `squash` changes the aspect and loses nothing, which suits most
        classification; `crop` keeps the middle; `pad` keeps the aspect and fills with grey."""
        zoom: Annotated[float, Field(gt=0.1, le=1)] = 1.0
        """For `crop`: the side of the middle square as a share of the shorter side."""
        resample: Literal["bilinear", "bicubic", "lanczos"] = "bilinear"
        """Interpolation; always antialiased."""
        max_pixels: Annotated[int, Field(ge=1)] = MAX_PIXELS
        """Height × width above which a picture is refused before it is decoded."""
        max_bytes: Annotated[int, Field(ge=1)] = MAX_BYTES
        """File size above which a picture is refused."""

    @classmethod
    def wanted(cls, preparation: Preparation) -> Pixels:
        """Pictures as a checkpoint wants them."""
        size, fit, zoom, resample, *_ = preparation
        return cls(cls.Config.model_validate({"size": size, "fit": fit, "zoom": zoom, "resample": resample}))

    @property
    def limits(self) -> dict[str, float]:
        """Largest picture in pixels and in bytes."""
        return {"pixels": self.config.max_pixels, "bytes": self.config.max_bytes}

    @staticmethod
    def inline(cell: str) -> bool:
        """Whether the text is a `data:` URI."""
        return cell.startswith("data:image/")

    def specs(self) -> dict[str, ArraySpec]:
        """`pixels`: uint8 [size, size, 3], RGB."""
        return {"pixels": ArraySpec("uint8", (self.config.size, self.config.size, 3))}

    def load(self, cell: Path | bytes | str) -> dict[str, np.ndarray]:
        """One picture → its pixels.

        Raises:
            BadCell: If the file is missing, damaged, of another format, or over the limits.
        """
        side = int(self.config.size / self.config.zoom)
        picture = decode(cell, side, self.config.max_pixels, self.config.max_bytes)
        return {"pixels": np.asarray(self._square(picture), np.uint8)}

    def _square(self, picture: Image) -> Image:
        from PIL import Image, ImageOps

        size, method = self.config.size, Image.Resampling[self.config.resample.upper()]
        if self.config.fit == "pad":
            return ImageOps.pad(picture, (size, size), method, color=GREY)
        box = None
        if self.config.fit == "crop":
            width, height = picture.size
            side = min(width, height) * self.config.zoom
            box = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
        return picture.resize((size, size), method, box=box, reducing_gap=3.0)
