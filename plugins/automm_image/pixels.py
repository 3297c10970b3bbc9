"""Picture files → pixels."""

from __future__ import annotations

import base64
import binascii
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from automm.api import ArraySpec, BadCell, Config, Processor, read_media

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow's other readers are old, rarely used, or start programs (EPS starts Ghostscript).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
GREY = (127, 127, 127)
ALPHA = frozenset({"RGBA", "LA", "PA", "La", "RGBa"})
DEEP = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})


class Pixels(Processor):
    """Decodes a picture, turns it upright, and resizes it to a square of 8-bit RGB.

    Transparency is laid over white. Of an animation the first frame counts. 16-bit grey keeps its scale (65,535 →
    255); 32-bit and floating-point grey has no agreed scale and is stretched from its smallest to its largest value.
    """

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
        max_pixels: Annotated[int, Field(ge=1)] = 64_000_000
        """Height × width above which a picture is refused before it is decoded."""
        max_bytes: Annotated[int, Field(ge=1)] = 50_000_000
        """File size above which a picture is refused."""

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
        from PIL import Image, UnidentifiedImageError

        if isinstance(cell, str):
            if len(cell) > 2 * self.config.max_bytes:
                raise BadCell(
                    f"picture of {len(cell):,} characters is over the limit of {self.config.max_bytes:,} bytes"
                )
            cell = _decode_uri(cell)
        data = read_media(cell, self.config.max_bytes)
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                self._refuse_large(*picture.size)
                return {"pixels": np.asarray(self._square(self._upright(picture)), np.uint8)}
        except BadCell:
            raise
        except UnidentifiedImageError:
            raise BadCell(f"not a picture in a supported format ({', '.join(FORMATS)})") from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise BadCell(f"picture is over the limit of {self.config.max_pixels:,} pixels") from None
        # Pillow's readers raise almost anything on damaged files: OSError, SyntaxError, struct.error, IndexError, …
        except Exception as problem:
            raise BadCell(f"damaged picture: {problem}") from None

    def _refuse_large(self, width: int, height: int) -> None:
        if width * height > self.config.max_pixels:
            raise BadCell(f"picture of {width:,} x {height:,} pixels is over the limit of {self.config.max_pixels:,}")

    def _upright(self, picture: Image) -> Image:
        """Decodes, turns by the EXIF orientation, and converts to RGB."""
        from PIL import ImageOps

        # JPEG can be decoded at 1/2, 1/4 or 1/8 of its size; twice the wanted size leaves the antialiasing its work.
        side = int(2 * self.config.size / self.config.zoom)
        picture.draft(None, (side, side))
        picture.load()
        return _to_rgb(ImageOps.exif_transpose(picture))

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


def _to_rgb(picture: Image) -> Image:
    """Any mode → RGB."""
    from PIL import Image

    if picture.mode in DEEP:
        return Image.fromarray(_to_eight_bits(picture)).convert("RGB")
    if picture.mode in ALPHA or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB")


def _to_eight_bits(picture: Image) -> np.ndarray:
    """Grey of 16 or 32 bits → uint8 [height, width]."""
    values = np.nan_to_num(np.asarray(picture).astype(np.float32), posinf=0, neginf=0)
    if picture.mode.startswith("I;16"):
        return np.rint(values / 257).astype(np.uint8)
    low, high = float(values.min()), float(values.max())
    return np.rint((values - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)


def _decode_uri(uri: str) -> bytes:
    """The bytes of a base64 `data:` URI."""
    head, _, body = uri.partition(",")
    if not head.endswith(";base64"):
        raise BadCell("a data: URI must be base64 (data:image/png;base64,…)")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise BadCell("the base64 of the data: URI is damaged") from None
