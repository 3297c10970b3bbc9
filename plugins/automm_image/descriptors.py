"""Picture files → one vector of fixed descriptors."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from automm.api import ArraySpec, BadCell, Config, Processor
from automm_image import histograms, patches
from automm_image.decode import decode
from automm_image.pixels import MAX_BYTES, MAX_PIXELS, Pixels

SIDE = 128
"""Pictures are described at this height and width, and at a half and a quarter of it."""
SAMPLE = 600
"""Pictures that the dictionary is learned from at most."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
PATCHES = 30_000
"""Patches that it is learned from."""


class Descriptors(Processor):
    """Describes a picture without labels: gradients, textures, colours, unusual places, a dictionary of patches.

    Only the dictionary is learned, from a sample of the training pictures. Aspect ratios are squashed to a square; the
    ratio itself is one of the values.
    """

    op = "image.descriptors"
    name = "image.descriptors"
    media = True

    class Config(Config):
        """Size of the dictionary, and what is refused."""

        words: Annotated[int, Field(ge=8, le=400)] = 64
        """Patches in the dictionary."""
        max_pixels: Annotated[int, Field(ge=1)] = MAX_PIXELS
        """Height × width above which a picture is refused before it is decoded."""
        max_bytes: Annotated[int, Field(ge=1)] = MAX_BYTES
        """File size above which a picture is refused."""

    limits = Pixels.limits
    inline = staticmethod(Pixels.inline)

    def specs(self) -> dict[str, ArraySpec]:
        """`vector`: float32; its length depends on `words` alone."""
        return {"vector": ArraySpec("float32", (_length(self.config.words),))}

    def blank(self) -> dict[str, np.ndarray]:
        """All unknown."""
        return {name: np.full(spec.shape, np.nan, np.float32) for name, spec in self.specs().items()}

    def fit(self, chunks: Iterable[Any]) -> None:
        """Learns the dictionary from patches of a sample of the pictures; those that cannot be read are left out."""
        generator = np.random.default_rng(0)
        found = []
        cells = _sample(chunks, generator)
        for cell in cells:
            try:
                pixels, _ = self._pixels(cell)
            except BadCell:
                continue
            rows = patches.cut(_half(_half(pixels)))
            rows = rows.reshape(-1, rows.shape[2])
            found.append(rows[generator.choice(len(rows), math.ceil(PATCHES / len(cells)))])
        self.state = patches.learn(np.concatenate(found), self.config.words) if found else {}

    def load(self, cell: Path | bytes | str) -> dict[str, np.ndarray]:
        """One picture → its descriptors.

        Raises:
            BadCell: If the file is missing, damaged, of another format, or over the limits.
        """
        pixels, aspect = self._pixels(cell)
        return {"vector": _describe(pixels, aspect, self.state or patches.empty(self.config.words))}

    def _pixels(self, cell: Path | bytes | str) -> tuple[np.ndarray, float]:
        """Float32 [SIDE, SIDE, 3], 0 to 1, and width over height."""
        from PIL.Image import Resampling

        picture = decode(cell, SIDE, self.config.max_pixels, self.config.max_bytes)
        square = picture.resize((SIDE, SIDE), Resampling.BILINEAR, reducing_gap=3.0)
        return np.asarray(square, np.float32) / 255, picture.width / picture.height


def _sample(chunks: Iterable[Any], generator: np.random.Generator) -> list[Any]:
    """Up to `SAMPLE` of the present cells, each as likely as any other (reservoir sampling)."""
    kept: list[Any] = []
    seen = 0
    for chunk in chunks:
        for cell in chunk:
            if cell is None:
                continue
            seen += 1
            if len(kept) < SAMPLE:
                kept.append(cell)
            elif (at := int(generator.integers(seen))) < SAMPLE:
                kept[at] = cell
    return kept


@functools.cache
def _length(words: int) -> int:
    return len(_describe(np.zeros((SIDE, SIDE, 3), np.float32), 1.0, patches.empty(words)))


def _half(pixels: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels."""
    return (pixels[::2, ::2] + pixels[1::2, ::2] + pixels[::2, 1::2] + pixels[1::2, 1::2]) / 4


def _describe(pixels: np.ndarray, aspect: float, dictionary: Any) -> np.ndarray:
    """All descriptors of a picture [SIDE, SIDE, 3], one after the other."""
    half = _half(pixels)
    quarter = _half(half)
    grey, grey_half = pixels @ LUMA, half @ LUMA
    return np.concatenate(
        [
            [math.log(aspect)],
            histograms.gradients(grey_half, 8),
            histograms.edges(grey, 4),
            histograms.textures(grey, 1, 4),
            histograms.textures(grey, 2, 4),
            histograms.colours(half),
            histograms.extremes(grey, 8),
            _half(_half(quarter)).mean(2).ravel(),
            patches.pool(patches.activate(patches.cut(quarter), dictionary), 3),
        ]
    ).astype(np.float32)
