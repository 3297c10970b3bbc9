"""Pretrained models of sound: how they want their sounds, and their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from automm.api import DataError, Processor, read_checkpoint_json
from automm_audio.filterbank import Filterbank
from automm_audio.wave import Wave

WAVE = frozenset({"wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio"})
"""Models that begin with the waveform."""
SPECTROGRAM = {"whisper": "whisper", "audio-spectrogram-transformer": "kaldi"}
"""Models that begin with a spectrogram, and its kind."""


def model_type(folder: Path) -> str:
    """The checkpoint's architecture.

    Raises:
        DataError: If it does not encode sound, or is not supported.
    """
    found = str(read_checkpoint_json(folder / "config.json").get("model_type"))
    if found not in WAVE and found not in SPECTROGRAM:
        known = ", ".join(sorted(WAVE | SPECTROGRAM.keys()))
        raise DataError(f"checkpoint {folder}: {found} is not an encoder of sound that is supported ({known})")
    return found


def make_processor(folder: Path, max_seconds: float) -> Processor:
    """The processor that does what the checkpoint's feature extractor does.

    Args:
        folder: The checkpoint.
        max_seconds: Most seconds of a sound.

    Raises:
        DataError: If its preprocessor_config.json is damaged or asks for something else.
    """
    kind, config = model_type(folder), read_checkpoint_json(folder / "config.json")
    found = read_checkpoint_json(folder / "preprocessor_config.json")
    found = found or read_checkpoint_json(folder / "processor_config.json").get("feature_extractor") or {}
    try:
        rate = int(found.get("sampling_rate", 16000))
        if kind in WAVE:
            normalize = bool(found.get("do_normalize", True))
            shortest = _receptive_field(config["conv_kernel"], config["conv_stride"])
            return Wave(Wave.Config(rate=rate, max_seconds=max_seconds, normalize=normalize, min_samples=shortest))
        if kind == "whisper":
            hop, frames = int(found.get("hop_length", 160)), 2 * int(config.get("max_source_positions", 1500))
            fields: dict[str, Any] = {"mels": int(config.get("num_mel_bins", 80)), "hop": hop, "frames": frames}
            return Filterbank(
                Filterbank.Config(
                    rate=rate, max_seconds=max_seconds, kind="whisper", n_fft=int(found.get("n_fft", 400)), **fields
                )
            )
        plain = found.get("do_normalize") is False
        fields = {"mels": int(config.get("num_mel_bins", 128)), "frames": int(config.get("max_length", 1024))}
        return Filterbank(
            Filterbank.Config(
                rate=rate,
                max_seconds=max_seconds,
                kind="kaldi",
                mean=0.0 if plain else float(found.get("mean", -4.2677393)),
                scale=1.0 if plain else 2 * float(found.get("std", 4.5689974)),
                **fields,
            )
        )
    except (TypeError, ValueError, KeyError) as problem:
        raise DataError(f"checkpoint {folder}: its sound preprocessing cannot be used: {problem}") from None


def _receptive_field(kernels: list[int], strides: list[int]) -> int:
    """Samples that the first frame sees."""
    size, step = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        size += (kernel - 1) * step
        step *= stride
    return size
