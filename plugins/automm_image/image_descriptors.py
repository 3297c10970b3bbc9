"""An encoder over fixed descriptors of pictures."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from automm.api import InputInfo, VectorEncoder
from automm_image.descriptors import Descriptors


class ImageDescriptors(VectorEncoder):
    """Describes pictures without training: gradients, textures, colours, and a dictionary of patches."""

    name = "image_descriptors"
    modality = "image"
    preference = 1.5

    class Config(VectorEncoder.Config):
        """Size of the dictionary, and of the layer on the descriptors."""

        words: Annotated[int, Field(ge=8, le=400)] = 64
        """Patches in the dictionary; nine values each."""

    @classmethod
    def processor(cls, config: Config, info: InputInfo) -> Descriptors:
        """The descriptors."""
        del info
        return Descriptors(Descriptors.Config(words=config.words))
