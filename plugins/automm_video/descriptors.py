"""Video files → one vector of descriptors of appearance and motion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from automm.api import ArraySpec, Processor
from automm_video.appearance import appearance
from automm_video.frames import LimitsConfig
from automm_video.motion import motion
from automm_video.reading import read_frames, snippets

if TYPE_CHECKING:
    from PIL.Image import Image

HEIGHT, WIDTH = 72, 96
RATE = 12.0
"""Frames per second that motion is measured at."""
EVERY = 4
"""Of so many frames the appearance of one is measured."""
SIZE = 857
"""Length of the vector."""
GREY = np.array([0.299, 0.587, 0.114], np.float32)


class Descriptors(Processor):
    """Describes the appearance and the motion in short runs of frames spread over a video.

    Appearance: oriented gradients, colours over a grid, histograms of brightness, saturation and value; mean and spread
    over the frames. Motion, at twelve frames a second: energy of frame differences, optical flow without the motion of
    the camera, its directions (Chaudhry et al. 2009, HOF) and those of its boundaries (Dalal et al. 2006, MBH), its
    changes (Hassner et al. 2012, violent flows), divergence and curl, how coherent and how concentrated it is, and the
    spectrum of its energy over time. What is told by strength is also sorted by it, so that it does not matter where in
    the picture something moves.
    """

    op = "video.descriptors"
    name = "video.descriptors"
    media = True

    class Config(LimitsConfig):
        """How much of a video is looked at, and what is refused."""

        snippets: Annotated[int, Field(ge=1, le=32)] = 3
        """Most runs of frames; short videos need fewer."""
        length: Annotated[int, Field(ge=4, le=64)] = 10
        """Frames of a run, a twelfth of a second apart."""

    @property
    def limits(self) -> dict[str, float]:
        """Largest file, longest clip, largest frame."""
        limits = self.config.limits
        return {"bytes": limits.size, "seconds": limits.seconds, "pixels": limits.pixels}

    def specs(self) -> dict[str, ArraySpec]:
        """`vector`: float32 [n]."""
        return {"vector": ArraySpec("float32", (SIZE,))}

    def blank(self) -> dict[str, np.ndarray]:
        """All unknown."""
        return {"vector": np.full(self.specs()["vector"].shape, np.nan, np.float32)}

    def load(self, cell: Path | bytes) -> dict[str, np.ndarray]:
        """One video → its descriptors.

        Raises:
            BadCell: If the file is missing, damaged, no video, or over the limits.
        """
        config = self.config
        choose = snippets(config.snippets, config.length, RATE)
        frames = np.stack(read_frames(cell, choose, config.limits, _small))
        return {"vector": describe(frames.reshape(-1, config.length, HEIGHT, WIDTH, 3))}


def describe(frames: np.ndarray) -> np.ndarray:
    """Uint8 frames [runs, length, HEIGHT, WIDTH, 3] → float32 [SIZE]."""
    rgb = frames.astype(np.float32) / 255
    grey = rgb @ GREY
    seen = appearance(rgb.reshape(-1, *rgb.shape[2:])[::EVERY], grey.reshape(-1, *grey.shape[2:])[::EVERY])
    return np.concatenate([seen, motion(grey)])


def _small(picture: Image) -> np.ndarray:
    from PIL import Image

    return np.asarray(picture.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR, reducing_gap=2.0))
