"""Sound files → samples: any common format, any rate, any number of channels, becomes one channel at one rate."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from automm.api import BadCell, MissingExtraError, read_media

RATES = (1000, 768_000)
"""Rates that occur, in hertz; anything else is a damaged or malicious header."""
CHANNELS = 64
LOUDEST = 1e9
"""Samples are ±1, or integers up to 32 bits that somebody stored as floats; squares of more overflow."""
BLOCK = 1 << 16
"""Samples decoded at a time where channels must be mixed, so that many channels need no memory."""
UNKNOWN = (1, 4)
"""libsndfile's codes for "format not recognised" and "encoding not supported": then ffmpeg may know it."""
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,mpeg,mpegts,mp3,aac,ogg,wav,flac,aiff,amr,ac3,eac3"
"""What ffmpeg may open: no playlists or scripts, which would lead to other files."""


class Limits(NamedTuple):
    """What is read of a file.

    Attributes:
        bytes: Larger files are refused.
        seconds: What is kept: the beginning.
        longest: Sounds that are longer (in seconds) are refused.
    """

    bytes: int = 100_000_000
    seconds: float = 30.0
    longest: float = 1800.0


def read(cell: Path | bytes, rate: int, limits: Limits) -> np.ndarray:
    """The beginning of a sound, mixed down and resampled. Of a film, its sound track.

    Only what is kept is decoded, so a header that lies about the length costs nothing.

    Args:
        cell: A file or its bytes.
        rate: Samples per second of the result.
        limits: What is kept and what is refused.

    Returns:
        Float32 [samples], at least one.

    Raises:
        BadCell: If the file is missing, damaged, cut off, holds no sound, or is over the limits.
        MissingExtraError: If a library for it is not installed.
    """
    data = read_media(cell, limits.bytes)
    sound, found = _decode(data, limits)
    if not len(sound):
        raise BadCell("holds no sound: its length is zero")
    if not np.isfinite(sound).all():
        raise BadCell("damaged sound: some samples are NaN or infinite")
    if (peak := float(np.abs(sound).max())) > LOUDEST:
        raise BadCell(f"damaged sound: a sample of {peak:.3g} (full scale is 1)")
    if found != rate:
        sound = _soxr().resample(sound, found, rate)
    # Resampling may leave nothing of a very short sound.
    return sound if len(sound) else np.zeros(1, np.float32)


def native_rate(cell: Path | bytes, limits: Limits) -> int | None:
    """The rate a file was recorded at, from its header; None if it cannot be read."""
    soundfile = _soundfile()
    try:
        return int(soundfile.info(io.BytesIO(cell) if isinstance(cell, bytes) else cell).samplerate)
    except (soundfile.LibsndfileError, OSError):
        pass
    try:
        with _open_container(read_media(cell, limits.bytes)) as container:
            return int(container.streams.audio[0].rate)
    except (BadCell, MissingExtraError, IndexError):
        return None


def _decode(data: bytes, limits: Limits) -> tuple[np.ndarray, int]:
    """Samples [at most limits.seconds] and their rate."""
    soundfile = _soundfile()
    _refuse_cut_off(data)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, declared = file.samplerate, file.frames
            _refuse(rate, file.channels, declared / max(rate, 1), limits)
            most = max(1, round(limits.seconds * rate))
            sound = file.read(most, dtype="float32") if file.channels == 1 else _join(_mixed(file, most))
            slack = max(0.25 * rate, 0.02 * declared) if file.format == "MP3" else 0  # MP3 headers round
    except soundfile.LibsndfileError as problem:
        if problem.code in UNKNOWN:
            return _from_container(data, limits)
        raise BadCell(f"damaged sound: {problem.error_string}") from None
    if len(sound) + slack < min(declared, most):
        raise BadCell(f"the file is cut off: {len(sound) / rate:.2f} of {declared / rate:.2f} seconds can be read")
    return sound, rate


def _mixed(file: Any, most: int) -> Iterator[np.ndarray]:
    left = most
    while left > 0 and len(block := file.read(min(left, BLOCK), dtype="float32", always_2d=True)):
        left -= len(block)
        yield block.mean(1)


def _join(blocks: Iterator[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *blocks])


def _refuse(rate: int, channels: int, seconds: float, limits: Limits) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise BadCell(f"damaged sound: a rate of {rate:,} Hz (from {RATES[0]:,} to {RATES[1]:,} are read)")
    if channels > CHANNELS:
        raise BadCell(f"sound of {channels} channels is over the limit of {CHANNELS}")
    if seconds > limits.longest:
        raise BadCell(f"sound of {seconds:,.0f} seconds is over the limit of {limits.longest:,.0f}")


def _refuse_cut_off(data: bytes) -> None:
    """Of files that lost their end, libsndfile and ffmpeg read what there is and say nothing."""
    if data[:4] in (b"RIFF", b"FORM"):
        form, name = ("<I", b"data") if data[:4] == b"RIFF" else (">I", b"SSND")
        at = 12
        while at + 8 <= len(data):
            (size,) = struct.unpack_from(form, data, at + 4)
            if data[at : at + 4] == name:
                # Recorders that write into a pipe cannot know the size and leave the largest number there.
                if at + 8 + size > len(data) and size < 0x7FFFFF00:
                    raise BadCell(f"the file is cut off: {len(data) - at - 8:,} of {size:,} bytes of sound are there")
                return
            at += 8 + size + size % 2
        (size,) = struct.unpack_from(form, data, 4) if len(data) >= 8 else (0,)
        if data[8:12] == b"AVI " and len(data) < 8 + size < 0x7FFFFF00:
            raise BadCell(f"the file is cut off: {len(data):,} of {8 + size:,} bytes are there")
    elif data[:4] == b"\x1a\x45\xdf\xa3":
        size = _matroska_size(data)
        if size > len(data):
            raise BadCell(f"the file is cut off: {len(data):,} of {size:,} bytes are there")
    elif data[:4] == b"OggS":
        at = data.rfind(b"OggS")
        lacing = data[at + 27 : at + 27 + data[at + 26]] if at + 27 <= len(data) else b""
        if not lacing or at + 27 + len(lacing) + sum(lacing) > len(data):
            raise BadCell("the file is cut off: its last page is incomplete")


def _matroska_size(data: bytes) -> int:
    """What a Matroska or WebM file says its size is; 0 if it does not say (it was streamed)."""

    def number(at: int) -> tuple[int, int]:
        """A variable-length number and where it ends; -1 stands for "unknown"."""
        length = 9 - data[at].bit_length()
        bits = 7 * length
        value = int.from_bytes(data[at : at + length], "big") & ((1 << bits) - 1)
        return (-1 if value == (1 << bits) - 1 else value), at + length

    try:
        header, at = number(4)
        at += header
        if data[at : at + 4] != b"\x18\x53\x80\x67":
            return 0
        size, at = number(at + 4)
    except IndexError:
        return 0
    return at + size if size >= 0 else 0


def _open_container(data: bytes) -> Any:
    try:
        import av
    except ImportError:
        raise MissingExtraError(
            "sound in m4a, mp4, webm, mkv or avi files needs PyAV: pip install 'automm[video]'"
        ) from None
    try:
        return av.open(io.BytesIO(data), options={"format_whitelist": CONTAINERS}, metadata_errors="replace")
    except (av.FFmpegError, ValueError):
        raise BadCell("not a sound file in a known format (wav, flac, ogg, mp3, m4a, …), or damaged") from None


def _from_container(data: bytes, limits: Limits) -> tuple[np.ndarray, int]:
    """The first sound track of a film or of a compressed sound file that only ffmpeg knows."""
    with _open_container(data) as container:
        import av

        if not container.streams.audio:
            raise BadCell("the file has no sound track")
        stream = container.streams.audio[0]
        rate = int(stream.rate or 0)
        declared = float(stream.duration * stream.time_base) if stream.duration else 0.0
        _refuse(rate, int(stream.channels or 1), declared, limits)
        most = max(1, round(limits.seconds * rate))
        try:
            sound = _join(_tracked(container, stream, rate, most))[:most]
        except (av.FFmpegError, ValueError) as problem:
            raise BadCell(f"damaged sound: {problem}") from None
    seconds = min(declared, limits.seconds)
    if len(sound) / rate + 0.25 < 0.98 * seconds:
        raise BadCell(f"the file is cut off: {len(sound) / rate:.2f} of {seconds:.2f} seconds can be read")
    return sound, rate


def _tracked(container: Any, stream: Any, rate: int, most: int) -> Iterator[np.ndarray]:
    import av

    convert = av.AudioResampler(format="fltp", rate=rate)  # only the format: a change of rate in mid-stream is evened
    left = most
    for frame in container.decode(stream):
        for block in convert.resample(frame):
            left -= block.samples
            yield block.to_ndarray().mean(0)
        if left <= 0:
            return
    for block in convert.resample(None):
        yield block.to_ndarray().mean(0)


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as problem:
        raise MissingExtraError(f"sound needs soundfile ({problem}): pip install 'automm[audio]'") from None
    return soundfile


def _soxr() -> Any:
    try:
        import soxr
    except ImportError:
        raise MissingExtraError("sound of another rate needs soxr: pip install 'automm[audio]'") from None
    return soxr
