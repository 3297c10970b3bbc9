"""Recognising columns of pictures."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from automm.api import Claim, ColumnProfile, Examples, InputInfo, Modality, claim_files

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".dcm"})
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\x00", b"MM\x00*")


def looks_like_picture(cell: Any) -> bool:
    """Whether the first bytes are those of a picture file, or the text is a picture's `data:` URI."""
    if isinstance(cell, str):
        return cell.startswith("data:image/")
    if not isinstance(cell, bytes | bytearray):
        return False
    if bytes(cell[128:132]) == b"DICM":
        return True
    return bytes(cell[:8]).startswith(SIGNATURES) or (cell[:4] == b"RIFF" and cell[8:12] == b"WEBP")


class Image(Modality):
    """Columns of paths to picture files, or of the files' bytes."""

    name = "image"

    @classmethod
    def claim(cls, column: ColumnProfile) -> Claim | None:
        """Claims columns whose cells end like picture files, or hold bytes that begin like one."""
        if column.sample and all(looks_like_picture(cell) for cell in column.sample):
            return Claim(0.97, "the cells hold picture files")
        return claim_files(column, EXTENSIONS, "picture")

    @classmethod
    def examples(cls, count: int, seed: int) -> Examples:
        """Noisy PNG files of varied size; those of group 0 are reddish, those of group 1 bluish."""
        import PIL.Image

        generator = np.random.default_rng(seed)
        groups = tuple(row % 2 for row in range(count))
        cells = []
        for group in groups:
            height, width = generator.integers(20, 48, 2)
            pixels = generator.integers(0, 128, (height, width, 3), np.uint8)
            pixels[:, :, 2 if group else 0] += 127
            file = io.BytesIO()
            PIL.Image.fromarray(pixels).save(file, "PNG")
            cells.append(file.getvalue())
        return Examples(InputInfo("photo", cls.name, ("photo",)), cells, groups)
