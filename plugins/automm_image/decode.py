"""Picture files → upright 8-bit RGB pictures. Torch-free."""

from __future__ import annotations

import base64
import binascii
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from automm.api import BadCell, read_media

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow's other readers are old, rarely used, or start programs (EPS starts Ghostscript).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
ALPHA = frozenset({"RGBA", "LA", "PA", "La", "RGBa"})
DEEP = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
TIFF_BITS, TIFF_PHOTOMETRIC = 258, 262


def decode(cell: Path | bytes | str, side: int, max_pixels: int, max_bytes: int) -> Image:
    """One cell → its picture.

    Transparency is laid over white. Of an animation the first frame counts. 16-bit grey keeps its scale (65,535 →
    255); 32-bit and floating-point grey has no agreed scale and is stretched from its smallest to its largest value.

    Args:
        cell: A path, the file's bytes, or a base64 `data:` URI.
        side: What will be looked at: a JPEG whose sides are both at least twice as long may be decoded smaller.
        max_pixels: Height × width above which a picture is refused before it is decoded.
        max_bytes: File size above which it is refused.

    Raises:
        BadCell: If the file is missing, damaged, of another format, or over the limits.
    """
    from PIL import Image, UnidentifiedImageError

    if isinstance(cell, str):
        if len(cell) > 2 * max_bytes:
            raise BadCell(f"picture of {len(cell):,} characters is over the limit of {max_bytes:,} bytes")
        cell = _decode_uri(cell)
    data = read_media(cell, max_bytes)
    try:
        if data[128:132] == b"DICM":
            from automm_image.dicom import read_dicom

            return read_dicom(data, max_pixels)
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
            refuse_large(width, height, max_pixels)
            # Twice the wanted size leaves the antialiasing its work.
            picture.draft(None, (2 * side, 2 * side))
            _decode_upright(picture)
            return _to_rgb(picture)
    except BadCell:
        raise
    except UnidentifiedImageError:
        raise BadCell(f"not a picture in a supported format ({', '.join(FORMATS)})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadCell(f"picture is over the limit of {max_pixels:,} pixels") from None
    # Pillow's readers raise almost anything on damaged files: OSError, SyntaxError, struct.error, IndexError, …
    except Exception as problem:
        raise BadCell(f"damaged picture: {problem}") from None


def refuse_large(width: int, height: int, max_pixels: int) -> None:
    """Raises `BadCell` for a picture over the limit."""
    if width * height > max_pixels:
        raise BadCell(f"picture of {width:,} x {height:,} pixels is over the limit of {max_pixels:,}")


def _decode_upright(picture: Image) -> None:
    """Decodes a picture in place, and turns it by the EXIF orientation."""
    from PIL import ImageOps

    picture.load()
    # Looking for an orientation costs more than decoding a small picture.
    if picture.format == "TIFF" or "exif" in picture.info or "xmp" in picture.info:
        ImageOps.exif_transpose(picture, in_place=True)


def _to_rgb(picture: Image) -> Image:
    """Any mode → RGB."""
    from PIL import Image

    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode in DEEP:
        return Image.fromarray(_to_eight_bits(picture)).convert("RGB")
    if picture.mode in ALPHA or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB")


def _to_eight_bits(picture: Image) -> np.ndarray:
    """Grey of 16 or 32 bits → uint8 [height, width]."""
    values = np.asarray(picture)
    # Pillow reads 16-bit PGM as 32-bit integers, scaled to 65,535.
    if not (picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PPM")):
        return stretch(values)
    tags = getattr(picture, "tag_v2", {})
    bits = tags.get(TIFF_BITS, (16,))[0]  # a TIFF may use 12 of them
    grey = np.rint(values.astype(np.float32) * (255 / (2**bits - 1))).clip(0, 255).astype(np.uint8)
    return 255 - grey if tags.get(TIFF_PHOTOMETRIC) == 0 else grey  # 0: white is zero


def stretch(values: np.ndarray) -> np.ndarray:
    """Numbers [height, width] → uint8, the smallest 0 and the largest 255; what is not finite counts as 0."""
    values = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
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
