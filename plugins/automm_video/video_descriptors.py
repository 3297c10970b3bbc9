"""Fixed descriptors of appearance and motion."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from automm.api import InputInfo, VectorEncoder
from automm_video.descriptors import Descriptors


class VideoDescriptors(VectorEncoder):
    """Training-free descriptors of a video: gradients, colours, frame differences, optical flow and its boundaries.

    What works best on a few hundred clips and without downloaded weights. See the processor `video.descriptors` for
    what is measured, and its sources.
    """

    name = "video_descriptors"
    modality = "video"
    preference = 2.0

    class Config(VectorEncoder.Config):
        """How much of a video is looked at."""

        snippets: Annotated[int, Field(ge=1, le=32)] = 3
        """Most runs of frames, spread evenly over the video; long videos with short events want more."""
        length: Annotated[int, Field(ge=4, le=64)] = 10
        """Frames of a run, a twelfth of a second apart."""

    @classmethod
    def processor(cls, config: Any, info: InputInfo) -> Descriptors:
        """The descriptors."""
        del info
        return Descriptors(Descriptors.Config(snippets=config.snippets, length=config.length))
