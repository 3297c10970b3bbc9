"""Built-in components: audio."""

from __future__ import annotations

from collections.abc import Callable

from automm.api import hookimpl


@hookimpl
def automm_register(register: Callable[[type], type]) -> None:
    """Registers the modality, its processors and its encoders."""
    from automm_audio.audio_descriptors import AudioDescriptors
    from automm_audio.descriptors import Descriptors
    from automm_audio.filterbank import Filterbank
    from automm_audio.hf_audio import HfAudio
    from automm_audio.mel import Mel
    from automm_audio.mel_cnn import MelCnn
    from automm_audio.modality import Audio
    from automm_audio.wave import Wave

    for component in (Audio, Wave, Mel, Filterbank, Descriptors, AudioDescriptors, MelCnn, HfAudio):
        register(component)
