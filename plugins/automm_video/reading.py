"""Video files → the pictures at chosen moments, in bounded time and memory."""

from __future__ import annotations

import io
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

import numpy as np

from automm.api import BadCell, MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")
Chooser = Callable[[np.ndarray], np.ndarray]
"""Times of all frames in seconds, ascending from 0 → which frames are wanted: positions, ascending."""

# Containers that hold their pictures themselves. Playlists (HLS, DASH, concat) name other files and addresses.
FORMATS = "mov,mp4,matroska,webm,avi,gif,mpeg,mpegts,flv,asf,ogg,mjpeg,m4v,h264,hevc,ivf,apng"
WORTH_SEEKING = 48
"""Frames: a jump to a key frame nearer than this costs more than decoding on."""
MOST_PACKETS = 2_000_000
"""Frames above which a file is refused: more than nine hours at 60 frames a second."""


class Limits(NamedTuple):
    """What is refused, and how much is decoded.

    Attributes:
        size: Largest file in bytes.
        seconds: Longest clip.
        pixels: Largest frame, height × width.
        decoded: Most frames decoded of one clip.
    """

    size: int
    seconds: float
    pixels: int
    decoded: int


class _Index(NamedTuple):
    """The frames of a stream in the order they are shown, found without decoding.

    Attributes:
        stamps: Presentation time stamps, ascending; positions where the file has none.
        seconds: The same in seconds from 0.
        keys: Positions of the frames that can be decoded on their own.
        timed: Whether the file has time stamps.
    """

    stamps: list[int]
    seconds: np.ndarray
    keys: list[int]
    timed: bool


def evenly(count: int) -> Chooser:
    """The frames shown in the middle of `count` equal parts of the clip; short clips repeat frames."""

    def choose(seconds: np.ndarray) -> np.ndarray:
        # The last frame is shown for as long as frames are on average.
        end = seconds[-1] + (seconds[-1] / (len(seconds) - 1) if len(seconds) > 1 else 1.0)
        moments = (np.arange(count) + 0.5) / count * end
        return _shown(seconds, moments)

    return choose


def snippets(count: int, length: int, rate: float) -> Chooser:
    """Runs of `length` frames `1 / rate` seconds apart, spread evenly: as many as cover the clip, at most `count`."""

    def choose(seconds: np.ndarray) -> np.ndarray:
        runs = min(count, max(1, math.ceil(float(seconds[-1]) * rate / length)))
        last = max(float(seconds[-1]) - (length - 1) / rate, 0.0)
        starts = np.linspace(0, last, runs) if runs > 1 else np.array([last / 2])
        return _shown(seconds, (starts[:, None] + np.arange(length) / rate).ravel())

    return choose


def _shown(seconds: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """The frames on screen at these moments; a hair of tolerance, for time stamps rounded to milliseconds."""
    return np.clip(np.searchsorted(seconds, moments + 2e-3, side="right") - 1, 0, len(seconds) - 1)


def read_frames(cell: Path | bytes, choose: Chooser, limits: Limits, convert: Callable[[Image], T]) -> list[T]:
    """Decodes the chosen frames of a clip, upright, in RGB.

    The file is first read through without decoding, which gives the true time of every frame (variable frame rates,
    wrong headers, truncated files). Then every wanted frame is reached from the key frame before it. Where key frames
    are so rare that more than `limits.decoded` frames had to be decoded, frames nearer to the key frame are taken.

    Args:
        cell: A path or the bytes of a file.
        choose: Which frames are wanted.
        limits: What is refused, and how much is decoded.
        convert: Makes of every distinct frame what is kept of it; a frame is as large as the film.

    Returns:
        What `convert` gave, one per wanted frame.

    Raises:
        BadCell: If the file is missing, damaged, no video, or over the limits.
    """
    try:
        import av
    except ImportError:
        raise MissingExtraError("reading video needs PyAV: pip install 'automm[video]'") from None

    with _open(cell, limits.size) as file:
        try:
            index = _read_index(file, limits)
            wanted = choose(index.seconds)
            reached = _within_reach(index, sorted(set(wanted.tolist())), limits.decoded)
            file.seek(0)
            kept = _decode(file, index, sorted(set(reached.values())), limits, convert)
        except (BadCell, MissingExtraError):
            raise
        except av.error.EOFError:
            raise BadCell("video without frames: the file ends before the first one") from None
        # PyAV raises almost anything on damaged files: FFmpegError, UnicodeDecodeError, ValueError, …
        except Exception as problem:
            reason = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
            raise BadCell(f"damaged video, or not a video in a supported format: {reason}") from None
    return [kept[reached[position]] for position in wanted.tolist()]


def _open(cell: Path | bytes, most: int) -> BinaryIO:
    if isinstance(cell, bytes | bytearray):
        size, file = len(cell), io.BytesIO(cell)
    elif not isinstance(cell, Path):
        raise BadCell(f"must be a file or its bytes, it is {type(cell).__name__}")
    else:
        try:
            size, file = cell.stat().st_size, cell.open("rb")
        except FileNotFoundError:
            raise BadCell(f"file not found: {cell.name}") from None
        except OSError as problem:
            raise BadCell(f"cannot read {cell.name}: {problem.strerror}") from None
    if 0 < size <= most:
        return file
    file.close()
    raise BadCell(f"file of {size:,} bytes is over the limit of {most:,}" if size else "file is empty")


def _open_stream(file: BinaryIO, limits: Limits) -> tuple[Any, Any]:
    """The container and its first film (a cover picture is none)."""
    import av

    container = av.open(file, options={"format_whitelist": FORMATS, "protocol_whitelist": ""})
    films = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not films:
        container.close()
        raise BadCell("no video stream in the file")
    stream = films[0]
    if stream.codec_context is None:
        container.close()
        raise BadCell("the video stream is in a format that is not supported")
    stream.thread_count = 1  # the cells of a batch are spread over the cores
    _refuse_large(stream.codec_context.width, stream.codec_context.height, limits)
    return container, stream


def _refuse_large(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.pixels:
        raise BadCell(f"frames of {width:,} x {height:,} pixels are over the limit of {limits.pixels:,}")


def _read_index(file: BinaryIO, limits: Limits) -> _Index:
    import av

    container, stream = _open_stream(file, limits)
    packets: list[tuple[int | None, bool]] = []
    with container:
        try:
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard:
                    packets.append((packet.pts if packet.pts is not None else packet.dts, packet.is_keyframe))
                if len(packets) > MOST_PACKETS:
                    raise BadCell(f"video of more than {MOST_PACKETS:,} frames")
        except av.error.FFmpegError:
            if not packets:  # the readable part of a truncated file is used
                raise
        base, rate = float(stream.time_base), float(stream.average_rate or 25)
    if not packets:
        raise BadCell("video without frames")
    stamps = [stamp for stamp, _ in packets]
    timed = None not in stamps and len(set(stamps)) == len(stamps)
    if timed:
        packets.sort(key=lambda packet: packet[0] or 0)
        stamps = [stamp for stamp, _ in packets]
        seconds = (np.asarray(stamps, np.float64) - stamps[0]) * base
    else:
        stamps = list(range(len(packets)))
        seconds = np.arange(len(packets)) / rate
    if seconds[-1] > limits.seconds:
        raise BadCell(f"video of {seconds[-1]:,.0f} seconds is over the limit of {limits.seconds:,.0f}")
    keys = [at for at, (_, key) in enumerate(packets) if key and (timed or at == 0)]
    return _Index(stamps, seconds, keys, timed)


def _key_before(index: _Index, position: int) -> int:
    at = bisect_right(index.keys, position)
    return index.keys[at - 1] if at else 0


def _within_reach(index: _Index, wanted: Sequence[int], budget: int) -> dict[int, int]:
    """Wanted position → the position that is taken, such that at most `budget` frames are decoded."""
    here = cost = 0
    for position in wanted:
        here = _jump(index, here, position)
        cost, here = cost + position + 1 - here, position + 1
    if cost <= budget:
        return {position: position for position in wanted}
    if len(index.keys) > len(wanted):
        far = budget // len(wanted) - 1
        return {p: min(p, _key_before(index, p) + far) for p in wanted}
    # Hardly any key frames: the beginning of the clip, evenly.
    return {p: min(p, p * (budget - 1) // max(wanted[-1], 1)) for p in wanted}


def _jump(index: _Index, here: int, position: int) -> int:
    """Where decoding goes on: at the key frame before `position` if that is worth it, else `here`."""
    key = _key_before(index, position)
    return key if key - here > WORTH_SEEKING else here


def _decode(
    file: BinaryIO, index: _Index, wanted: Sequence[int], limits: Limits, convert: Callable[[Image], T]
) -> dict[int, T]:
    """Position → what `convert` made of that frame. Frames that cannot be decoded are replaced by their neighbour."""
    kept: dict[int, T] = {}
    container, stream = _open_stream(file, limits)
    with container:
        here, frames = 0, _frames(container, stream)
        for position in wanted:
            start = _jump(index, here, position)
            if start != here:
                container.seek(index.stamps[start], stream=stream, backward=True)
                stream.codec_context.flush_buffers()
                here, frames = start, _frames(container, stream)
            chosen = None
            for frame in frames:
                known = index.timed and frame.pts is not None
                here = bisect_right(index.stamps, frame.pts) if known else here + 1
                chosen = frame
                if here > position:
                    break
            if chosen is not None:
                kept[position] = convert(_upright(chosen, limits))
            elif kept:
                kept[position] = kept[max(kept)]
    if not kept:
        raise BadCell("video without a frame that can be decoded")
    first = kept[min(kept)]
    return {position: kept.get(position, first) for position in wanted}


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames; damaged packets are left out."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            return
        if packet is None:
            return
        try:
            yield from packet.decode()
        except av.error.FFmpegError:
            continue


def _upright(frame: Any, limits: Limits) -> Image:
    """A frame as an RGB picture, turned as the file says."""
    from PIL import Image

    _refuse_large(frame.width, frame.height, limits)
    picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
    turns = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
    turn = turns.get(round(frame.rotation / 90) * 90 % 360)
    return picture if turn is None else picture.transpose(turn)
