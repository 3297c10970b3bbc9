"""Reading videos: which frames, their values, limits, and bad files; the modality."""

import io
import struct

import av
import numpy as np
import PIL.Image
import pytest
from automm_video.descriptors import SIZE, Descriptors
from automm_video.flow import blur, optical_flow, without_camera
from automm_video.frames import Frames
from automm_video.modality import Video, encode_clip, looks_like_video
from automm_video.pictures import Pictures
from automm_video.reading import Limits, evenly, read_frames, snippets

from automm.api import BadCell, ColumnProfile

LIMITS = Limits(10_000_000, 3600.0, 1_000_000, 3000)


def ramp(count: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Grey frames; frame i has the value 16 + 4 i."""
    values = (16 + 4 * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(values[:, None, None, None], (count, height, width, 3)).copy()


def numbers(cell, choose, limits=LIMITS) -> list[int]:
    """Which frames of a ramp were read."""
    greys = read_frames(cell, choose, limits, lambda picture: float(np.asarray(picture).mean()))
    return [round((grey - 16) / 4) for grey in greys]


def sparse_keys(count: int, every: int) -> bytes:
    """A ramp (repeating after 50 frames) with a key frame in so many frames."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 48, 32, "yuv420p", 1_000_000
        stream.options = {"g": str(every), "sc_threshold": "1000000000"}
        for picture in ramp(50)[np.arange(count) % 50]:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    return file.getvalue()


def variable_rate() -> bytes:
    """Ten frames in the first second, then one that stands for nine seconds."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream = out.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for at, picture in enumerate(ramp(12)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = at if at < 11 else 100
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return file.getvalue()


def sound_only() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return file.getvalue()


# Which frames


def test_evenly_takes_the_middles_of_equal_parts():
    seconds = np.arange(30) / 25
    assert evenly(3)(seconds).tolist() == [5, 15, 25]
    assert evenly(30)(seconds).tolist() == list(range(30))
    assert evenly(4)(np.zeros(1)).tolist() == [0, 0, 0, 0]
    assert evenly(6)(np.arange(3) / 25).tolist() == [0, 0, 1, 1, 2, 2]


def test_snippets_are_runs_at_a_fixed_rate():
    seconds = np.arange(2500) / 25  # 100 seconds
    assert snippets(2, 3, 5.0)(seconds).tolist() == [0, 5, 10, 2489, 2494, 2499]
    assert snippets(1, 3, 5.0)(seconds).tolist() == [1244, 1249, 1254]
    assert snippets(4, 3, 5.0)(seconds[:15]).tolist() == [2, 7, 12]  # one run covers the clip
    assert snippets(4, 3, 5.0)(seconds[:1]).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("codec", "container"),
    [
        ("mpeg4", "mp4"),
        ("libx264", "mov"),
        ("libx264", "matroska"),
        ("libvpx", "webm"),
        ("mpeg4", "avi"),
        ("gif", "gif"),
    ],
)
def test_every_container_gives_the_frames_asked_for(codec, container):
    clip = encode_clip(ramp(30), codec=codec, container=container)
    assert numbers(clip, evenly(5)) == [3, 9, 15, 21, 27]


def test_paths_and_bytes_give_the_same(tmp_path):
    clip = encode_clip(ramp(12))
    (tmp_path / "clip.mp4").write_bytes(clip)
    processor = Frames(Frames.Config(frames=4, size=16))
    np.testing.assert_array_equal(processor.load(tmp_path / "clip.mp4")["frames"], processor.load(clip)["frames"])


def test_variable_frame_rates_go_by_time():
    # Eleven frames in the first 1.1 seconds, the twelfth at 10 seconds: it is not yet shown at five.
    assert numbers(variable_rate(), lambda seconds: np.searchsorted(seconds, [0.31, 5.0, 10.5], "right") - 1) == [
        3,
        10,
        11,
    ]
    assert numbers(variable_rate(), evenly(4))[1:] == [10, 10, 10]


def test_long_clips_are_reached_by_key_frames():
    clip = sparse_keys(2000, 100)
    decoded = []
    wanted = numbers(clip, evenly(4), LIMITS._replace(decoded=500))
    assert wanted == [250 % 50, 750 % 50, 1250 % 50, 1750 % 50]
    read_frames(clip, lambda _: np.array([1990]), LIMITS._replace(decoded=100), decoded.append)
    assert len(decoded) == 1


def test_rare_key_frames_bound_what_is_decoded():
    clip = sparse_keys(600, 600)
    # 64 frames may be decoded: the four frames are spread over them.
    assert numbers(clip, evenly(4), LIMITS._replace(decoded=64)) == [9, 27, 45, 63 % 50]
    clip = sparse_keys(1000, 100)
    # Key frames every 100: at most 64 / 4 frames after each.
    assert numbers(clip, evenly(4), LIMITS._replace(decoded=64)) == [15, 15, 15, 15]


# What they become


def test_colours_and_places_survive():
    frames = np.zeros((4, 64, 96, 3), np.uint8)
    frames[:, :, :48], frames[:, :, 48:] = (200, 40, 40), (40, 40, 200)
    found = Frames(Frames.Config(frames=2, size=32)).load(encode_clip(frames, codec="libx264"))["frames"]
    assert found.shape == (2, 32, 32, 3)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found[:, 16, 6], [(200, 40, 40)] * 2, atol=12)
    np.testing.assert_allclose(found[:, 16, 26], [(40, 40, 200)] * 2, atol=12)


def test_crop_keeps_the_middle():
    frames = np.zeros((2, 32, 96, 3), np.uint8)
    frames[:, :, 32:64] = 200
    clip = encode_clip(frames)
    crop = Frames(Frames.Config(frames=1, size=16, fit="crop")).load(clip)["frames"]
    assert crop[0, :, 2:-2].min() > 180
    assert Frames(Frames.Config(frames=1, size=16)).load(clip)["frames"][0, :, :4].max() < 20
    zoomed = Frames(Frames.Config(frames=1, size=16, fit="crop", shorter=32)).load(clip)["frames"]
    assert zoomed.min() > 180


@pytest.mark.parametrize(("turn", "matrix"), [(1, (0, -1, 1, 0)), (2, (-1, 0, 0, -1)), (3, (0, 1, -1, 0))])
def test_rotation_of_the_file_is_applied(turn, matrix):
    frames = np.zeros((3, 32, 64, 3), np.uint8)
    frames[:, :16, :32] = 200  # upper left
    clip = bytearray(encode_clip(frames))
    a, b, c, d = (value * 65536 for value in matrix)
    at = clip.index(b"tkhd") + 44
    clip[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    picture = read_frames(bytes(clip), evenly(1), LIMITS, np.asarray)[0]
    np.testing.assert_allclose(picture.astype(int), np.rot90(frames[0], turn).astype(int), atol=40)


def test_batches_give_what_single_clips_give():
    cells = Video.examples(4, 0).cells
    for processor in (Frames(Frames.Config(frames=4, size=16)), Descriptors(Descriptors.Config(length=4))):
        batch = processor([*cells, None])
        for name, array in batch.items():
            for row, cell in enumerate([*cells, None]):
                np.testing.assert_array_equal(array[row], processor([cell])[name][0])


def test_pictures_read_frames_like_the_reader_of_pictures():
    clip = Video.examples(2, 0).cells[0]
    processor = Pictures(Pictures.Config(frames=3, reader="image.pixels", reader_config={"size": 24}))
    found = processor.load(clip)["pixels"]
    assert found.shape == processor.specs()["pixels"].shape == (3, 24, 24, 3)
    expected = [processor.reader.load(file)["pixels"] for file in read_frames(clip, evenly(3), LIMITS, _png)]
    np.testing.assert_array_equal(found, expected)
    assert processor.blank()["pixels"].shape == (3, 24, 24, 3)


def _png(picture: PIL.Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


# What is refused


CLIP = encode_clip(ramp(12))


@pytest.mark.parametrize(
    ("cell", "limits", "message"),
    [
        (b"", {}, "file is empty"),
        (b"not a video at all" * 20, {}, "damaged video, or not a video"),
        (CLIP[:200], {}, "damaged video"),
        (sound_only(), {}, "no video stream"),
        (CLIP, {"max_bytes": 1000}, "over the limit of 1,000"),
        (CLIP, {"max_pixels": 1000}, "48 x 32 pixels are over the limit of 1,000"),
        (CLIP, {"max_seconds": 0.5}, "video of 1 seconds is over the limit"),
    ],
)
def test_bad_files_are_named(cell, limits, message):
    with pytest.raises(BadCell, match=message):
        Frames(Frames.Config(**limits)).load(cell)


def test_absent_files_are_named(tmp_path):
    with pytest.raises(BadCell, match=r"file not found: gone\.mp4"):
        Frames(Frames.Config()).load(tmp_path / "gone.mp4")
    with pytest.raises(BadCell, match="cannot read"):
        Frames(Frames.Config()).load(tmp_path)


def test_playlists_cannot_name_other_files(tmp_path):
    (tmp_path / "secret.mp4").write_bytes(CLIP)
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path}/secret.mp4\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{tmp_path}/secret.mp4'\n",
    ):
        (tmp_path / "list.mp4").write_text(text)
        with pytest.raises(BadCell, match="not a video in a supported format"):
            Frames(Frames.Config()).load(tmp_path / "list.mp4")


def test_truncated_files_give_the_frames_they_have():
    clip = encode_clip(ramp(40), container="matroska")
    found = numbers(clip[: len(clip) * 2 // 3], evenly(4))
    assert found == sorted(found)
    assert found[0] < 8
    assert 10 < found[-1] < 38


def test_damaged_packets_are_passed_over():
    clip = bytearray(encode_clip(ramp(40), codec="libx264", container="matroska"))
    generator = np.random.default_rng(0)
    middle = len(clip) // 2
    clip[middle : middle + 60] = generator.integers(0, 256, 60, np.uint8).tobytes()
    assert Frames(Frames.Config(frames=8, size=16)).load(bytes(clip))["frames"].shape == (8, 16, 16, 3)


def test_any_damage_is_a_bad_cell_or_frames():
    generator = np.random.default_rng(0)
    whole = {container: encode_clip(ramp(8), container=container) for container in ("mp4", "matroska", "avi")}
    outcomes = set()
    for at in range(60):
        clip = bytearray(whole[("mp4", "matroska", "avi")[at % 3]])
        for place in generator.integers(0, len(clip), 20):
            clip[place] = generator.integers(0, 256)
        try:
            Frames(Frames.Config(frames=2, size=16)).load(bytes(clip[: generator.integers(1, 2 * len(clip))]))
            outcomes.add("frames")
        except BadCell:
            outcomes.add("bad")
    assert outcomes == {"frames", "bad"}


def test_a_header_without_frames_is_refused():
    clip = encode_clip(ramp(12), container="matroska")
    cut = clip.index(b"\x1f\x43\xb6\x75")  # the first cluster
    with pytest.raises(BadCell, match="video without frames"):
        Frames(Frames.Config()).load(clip[:cut])


# Optical flow


def texture(seed: int, height: int = 72, width: int = 96) -> np.ndarray:
    return blur(np.random.default_rng(seed).uniform(size=(1, height + 16, width + 16)).astype(np.float32), 2)


def test_optical_flow_finds_shifts():
    big = texture(0)
    for dx, dy in ((3, 0), (0, -2), (-5, 4)):
        before = 3 * big[:, 8:80, 8:104]
        after = 3 * big[:, 8 - dy : 80 - dy, 8 - dx : 104 - dx]
        flow = optical_flow(before, after)
        np.testing.assert_allclose(np.median(flow, axis=(1, 2, 3)), (dx, dy), atol=0.25)


def test_the_motion_of_the_camera_is_taken_out():
    y, x = np.meshgrid(np.linspace(-1, 1, 72), np.linspace(-1, 1, 96), indexing="ij")
    camera = np.stack([2 + x - 0.5 * y, -1 + 0.5 * x])[:, None].astype(np.float32)
    moved = camera.copy()
    moved[0, 0, 20:40, 30:50] += 4
    rest, motion = without_camera(moved)
    np.testing.assert_allclose(rest[0, 0, 22:38, 32:48], 4, atol=0.3)
    np.testing.assert_allclose(rest[:, 0, 50:], 0, atol=0.3)
    np.testing.assert_allclose(motion[0], (2, 1, -0.5, -1, 0.5, 0), atol=0.3)


def test_descriptors_of_a_still_clip_hold_no_motion():
    generator = np.random.default_rng(0)
    still = generator.integers(0, 200, (1, 48, 64, 3), np.uint8).repeat(10, 0)
    vector = Descriptors(Descriptors.Config()).load(encode_clip(still, codec="ffv1", container="matroska"))["vector"]
    assert vector.shape == (SIZE,)
    assert np.isfinite(vector).all()
    differences = vector[266 : 266 + 68]
    np.testing.assert_allclose(differences, 0, atol=1e-5)
    assert vector[:266].std() > 0.05
    assert np.isnan(Descriptors(Descriptors.Config()).blank()["vector"]).all()


# The modality


def test_modality_claims_video_columns():
    def column(**facts):
        return ColumnProfile("clip", "string", 100, 0, 99, **facts)

    claim = Video.claim(column(extensions={".mp4": 0.8, ".mov": 0.2}, exists_share=1.0))
    assert claim.confidence == pytest.approx(0.95)
    assert Video.claim(column(extensions={".mp4": 1.0}, exists_share=0.0)).confidence == pytest.approx(0.6)
    assert Video.claim(column(extensions={".png": 1.0}, exists_share=1.0)) is None
    assert Video.claim(column(extensions={".gif": 1.0}, exists_share=1.0)) is None
    assert Video.claim(column(sample=(CLIP, CLIP))).confidence == pytest.approx(0.97)


def test_signatures():
    assert looks_like_video(encode_clip(ramp(2), container="matroska"))
    assert looks_like_video(encode_clip(ramp(2), container="avi"))
    assert not looks_like_video(b"RIFF\0\0\0\0WAVEfmt ")
    assert not looks_like_video(b"\0\0\0\x20ftypM4A ")
    assert not looks_like_video("clip.mp4")
