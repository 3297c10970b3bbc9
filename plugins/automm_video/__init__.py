"""Built-in components for video."""

from __future__ import annotations

from collections.abc import Callable

from automm.api import hookimpl
from automm_video.descriptors import Descriptors
from automm_video.frame_cnn import FrameCnn
from automm_video.frame_encoder import FrameEncoder
from automm_video.frames import Frames
from automm_video.hf_video import HfVideo
from automm_video.modality import Video
from automm_video.pictures import Pictures
from automm_video.video_descriptors import VideoDescriptors


@hookimpl
def automm_register(register: Callable[[type], type]) -> None:
    """Registers the modality, its processors and its encoders."""
    for component in (Video, Frames, Pictures, Descriptors, VideoDescriptors, FrameCnn, FrameEncoder, HfVideo):
        register(component)
