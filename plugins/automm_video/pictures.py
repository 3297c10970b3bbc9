"""Video files → what a processor of pictures makes of their frames."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from automm.api import ArraySpec, BadCell, PluginError, Processor, find_operation
from automm_video.frames import LimitsConfig
from automm_video.reading import evenly, read_frames

if TYPE_CHECKING:
    from PIL.Image import Image


class Pictures(Processor):
    """Takes frames from the middles of equal parts of a video and gives each to a processor of pictures, as a PNG file.

    So whatever reads pictures reads videos, with the same preparation.
    """

    op = "video.pictures"
    name = "video.pictures"
    media = True

    class Config(LimitsConfig):
        """How many frames, and what reads them."""

        frames: Annotated[int, Field(ge=1, le=256)] = 8
        """Number of frames."""
        reader: str = "image.pixels"
        """Operation id of the processor of pictures."""
        reader_version: Annotated[int, Field(ge=1)] = 1
        """Its version."""
        reader_config: Annotated[dict[str, Any], Field(default_factory=dict)]
        """Its configuration."""

    @cached_property
    def reader(self) -> Processor:
        """The processor of pictures, with what it learned."""
        cls = find_operation(self.config.reader, self.config.reader_version)
        made: Processor = cls(cls.Config.model_validate(self.config.reader_config), self.state)
        return made

    @property
    def limits(self) -> dict[str, float]:
        """Largest file, longest clip, largest frame."""
        limits = self.config.limits
        return {"bytes": limits.size, "seconds": limits.seconds, "pixels": limits.pixels}

    def fit(self, chunks: Iterable[Any]) -> None:
        """Lets the reader learn from the frames; videos that cannot be read are passed over."""
        reader = self.reader
        reader.fit(_Pieces(self, chunks))
        self.state = reader.state

    def specs(self) -> dict[str, ArraySpec]:
        """The reader's arrays, [frames, …] each.

        Raises:
            PluginError: If their size varies.
        """
        found = self.reader.specs()
        if loose := [name for name, spec in found.items() if not spec.fixed]:
            raise PluginError(f"{self.config.reader} gives {loose[0]!r} in sizes that vary: not for frames of a video")
        return {
            name: ArraySpec(spec.dtype, (self.config.frames, *spec.shape), spec.pad) for name, spec in found.items()
        }

    def blank(self) -> dict[str, np.ndarray]:
        """The reader's blank row for every frame."""
        return {name: np.stack([array] * self.config.frames) for name, array in self.reader.blank().items()}

    def load(self, cell: Path | bytes) -> dict[str, np.ndarray]:
        """One video → the reader's arrays of its frames.

        Raises:
            BadCell: If the file is missing, damaged, no video, or over the limits.
        """
        rows = [self.reader.load(file) for file in self.files(cell)]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def files(self, cell: Path | bytes) -> list[bytes]:
        """The frames as PNG files.

        Raises:
            BadCell: As `load`.
        """
        return read_frames(cell, evenly(self.config.frames), self.config.limits, _png)


class _Pieces:
    """Pieces of a column of videos as pieces of a column of pictures; may be iterated more than once."""

    def __init__(self, processor: Pictures, chunks: Iterable[Any]) -> None:
        self._processor, self._chunks = processor, chunks

    def __iter__(self) -> Iterator[list[bytes]]:
        for chunk in self._chunks:
            for cell in chunk:
                if cell is not None:
                    try:
                        yield self._processor.files(cell)
                    except BadCell:
                        continue


def _png(picture: Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()
