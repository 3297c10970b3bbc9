"""Recognising columns of videos."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from automm.api import Claim, ColumnProfile, Examples, InputInfo, MissingExtraError, Modality, claim_files

EXTENSIONS = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".m2ts", ".flv", ".wmv", ".ogv", ".3gp"}
)
SIGNATURES = (
    b"\x1aE\xdf\xa3",
    b"\x00\x00\x01\xba",
    b"\x00\x00\x01\xb3",
    b"FLV\x01",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
)
SOUND_OR_PICTURE = (b"M4A ", b"M4B ", b"avif", b"heic", b"mif1", b"crx ")


def looks_like_video(cell: Any) -> bool:
    """Whether the first bytes are those of a video file."""
    if not isinstance(cell, bytes | bytearray):
        return False
    if cell[4:8] == b"ftyp":
        return cell[8:12] not in SOUND_OR_PICTURE
    return bytes(cell).startswith(SIGNATURES) or (cell[:4] == b"RIFF" and cell[8:12] == b"AVI ")


class Video(Modality):
    """Columns of paths to video files (mp4, mov, avi, mkv, webm, …), or of the files' bytes.

    GIF files are pictures unless the recipe says that they are videos. The sound track is an input of its own, if the
    recipe names the column a second time under the modality audio.
    """

    name = "video"

    @classmethod
    def claim(cls, column: ColumnProfile) -> Claim | None:
        """Claims columns whose cells end like video files, or hold bytes that begin like one."""
        if column.sample and all(looks_like_video(cell) for cell in column.sample):
            return Claim(0.97, "the cells hold video files")
        return claim_files(column, EXTENSIONS, "video")

    @classmethod
    def examples(cls, count: int, seed: int) -> Examples:
        """Small MP4 files of a square on noise: reddish and at rest in group 0, bluish and moving in group 1."""
        generator = np.random.default_rng(seed)
        groups = tuple(row % 2 for row in range(count))
        cells = []
        for group in groups:
            length = int(generator.integers(6, 10))
            frames = generator.integers(0, 90, (1, 48, 64, 3), np.uint8).repeat(length, 0)
            left, top = generator.integers(0, 20, 2)
            for at, frame in enumerate(frames):
                start = left + 3 * at * group
                frame[top : top + 24, start : start + 24] = (60, 90, 230) if group else (230, 90, 60)
            cells.append(encode_clip(frames))
        return Examples(InputInfo("clip", cls.name, ("clip",)), cells, groups)


def encode_clip(frames: np.ndarray, rate: int = 12, codec: str = "mpeg4", container: str = "mp4") -> bytes:
    """A video file of uint8 RGB frames [time, height, width, 3], even sides; the same frames give the same bytes.

    Raises:
        MissingExtraError: If PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        raise MissingExtraError("writing video needs PyAV: pip install 'automm[video]'") from None
    file = io.BytesIO()
    with av.open(file, "w", format=container, options={"fflags": "+bitexact"}) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        stream.codec_context.thread_count = 1
        stream.bit_rate = 2_000_000
        stream.options = {"flags": "+bitexact"}
        for picture in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    return file.getvalue()
