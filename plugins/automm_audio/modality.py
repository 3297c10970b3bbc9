"""Recognising columns of sound."""

from __future__ import annotations

import io
import wave
from typing import Any

import numpy as np

from automm.api import Claim, ColumnProfile, Examples, InputInfo, Modality, claim_files

EXTENSIONS = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".aifc", ".au", ".caf", ".wma"}
)
SIGNATURES = (b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b".snd", b"caff")


def looks_like_sound(cell: Any) -> bool:
    """Whether the first bytes are those of a sound file."""
    if not isinstance(cell, bytes | bytearray):
        return False
    kind = bytes(cell[8:12])
    riff = cell[:4] in (b"RIFF", b"RF64") and kind == b"WAVE"
    aiff = cell[:4] == b"FORM" and kind in (b"AIFF", b"AIFC")
    return riff or aiff or kind == b"M4A " or bytes(cell).startswith(SIGNATURES)


class Audio(Modality):
    """Columns of paths to sound files, or of the files' bytes."""

    name = "audio"

    @classmethod
    def claim(cls, column: ColumnProfile) -> Claim | None:
        """Claims columns whose cells end like sound files, or hold bytes that begin like one."""
        if column.sample and all(looks_like_sound(cell) for cell in column.sample):
            return Claim(0.97, "the cells hold sound files")
        return claim_files(column, EXTENSIONS, "sound")

    @classmethod
    def examples(cls, count: int, seed: int) -> Examples:
        """Noisy WAV files of varied length and pitch; group 0 falls in pitch, group 1 rises."""
        generator = np.random.default_rng(seed)
        groups = tuple(row % 2 for row in range(count))
        cells = []
        for group in groups:
            size = int(generator.integers(2500, 6000))
            low, high = generator.uniform(400, 600), generator.uniform(1200, 1800)
            pitch = np.linspace(low, high, size) if group else np.linspace(high, low, size)
            sound = 0.4 * np.sin(2 * np.pi * np.cumsum(pitch) / 8000) + generator.normal(0, 0.02, size)
            file = io.BytesIO()
            with wave.open(file, "wb") as writer:
                writer.setnchannels(1)
                writer.setsampwidth(2)
                writer.setframerate(8000)
                writer.writeframes((sound * 32767).clip(-32768, 32767).astype("<i2").tobytes())
            cells.append(file.getvalue())
        return Examples(InputInfo("sound", cls.name, ("sound",)), cells, groups)
