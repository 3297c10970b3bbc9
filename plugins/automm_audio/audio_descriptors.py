"""Training-free descriptors of sound."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from automm.api import InputInfo, VectorEncoder
from automm_audio.descriptors import Descriptors


class AudioDescriptors(VectorEncoder):
    """Classical descriptors of sound (log-mel course, MFCC statistics, modulation) and one trained layer on them.

    Needs no pretrained weights and few rows: a few hundred sounds are enough.
    """

    name = "audio_descriptors"
    modality = "audio"
    preference = 1.5

    class Config(VectorEncoder.Config):
        """How much of a sound is described."""

        max_seconds: Annotated[float, Field(gt=0, le=600)] = 30.0
        """What is kept of a sound: its first seconds."""

    @classmethod
    def processor(cls, config: Any, info: InputInfo) -> Descriptors:
        """The descriptors of the first seconds."""
        del info
        return Descriptors(Descriptors.Config(max_seconds=config.max_seconds))
