"""Pictures: recognising columns, and turning files into pixels."""

import base64
import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from automm_image.modality import Image as ImageModality
from automm_image.pixels import Pixels
from PIL import Image

from automm.api import BadCell, BadCells, ColumnProfile


def encode(picture: Image.Image, form: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def pixels(**fields) -> Pixels:
    return Pixels(Pixels.Config(**{"size": 16, **fields}))


def load(cell, **fields) -> np.ndarray:
    return pixels(**fields).load(cell)["pixels"]


def halves(left=(255, 0, 0), right=(0, 0, 255), width=64, height=64) -> Image.Image:
    picture = Image.new("RGB", (width, height), left)
    picture.paste(right, (width // 2, 0, width, height))
    return picture


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


# Recognising columns


def column(**facts) -> ColumnProfile:
    return ColumnProfile(**{"name": "photo", "storage": "string", "rows": 100, **facts})


def test_claims_existing_picture_files():
    claim = ImageModality.claim(column(extensions={".jpg": 0.6, ".png": 0.4}, exists_share=1.0))
    assert claim.confidence == pytest.approx(0.95)
    assert "100% name an existing file" in claim.reason


def test_claims_missing_files_less_surely():
    claim = ImageModality.claim(column(extensions={".jpg": 1.0}, exists_share=0.0))
    assert claim.confidence == pytest.approx(0.6)


def test_claims_bytes_by_their_signature():
    sample = (encode(halves()), encode(halves(), "JPEG"), encode(halves(), "WEBP"))
    assert ImageModality.claim(column(storage="binary", sample=sample)).confidence > 0.9
    assert ImageModality.claim(column(storage="binary", sample=(b"RIFF0000WAVE",))) is None


def test_leaves_other_columns():
    assert ImageModality.claim(column(extensions={".wav": 1.0}, exists_share=1.0)) is None
    assert ImageModality.claim(column(sample=("a dog", "a cat"))) is None


# Every kind of picture


def test_reads_a_path_and_bytes_alike(tmp_path: Path):
    file = tmp_path / "a.png"
    file.write_bytes(encode(halves()))
    result = load(file)
    assert result.shape == (16, 16, 3)
    assert result.dtype == np.uint8
    assert result[8, 2].tolist() == [255, 0, 0]
    assert result[8, 13].tolist() == [0, 0, 255]
    np.testing.assert_array_equal(result, load(file.read_bytes()))


def test_reads_a_data_uri():
    uri = "data:image/png;base64," + base64.b64encode(encode(halves())).decode()
    assert Pixels.inline(uri)
    assert not Pixels.inline("images/a.png")
    np.testing.assert_array_equal(load(uri), load(encode(halves())))
    with pytest.raises(BadCell, match="base64"):
        load("data:image/png,abc")
    with pytest.raises(BadCell, match="base64 of the data: URI is damaged"):
        load("data:image/png;base64,***")


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG"])
def test_reads_every_format(form):
    near = load(encode(Image.new("RGB", (40, 30), (200, 40, 90)), form)).astype(int)
    assert np.abs(near - [200, 40, 90]).max() <= 6


def test_transparency_lies_on_white():
    assert load(encode(Image.new("RGBA", (20, 20), (0, 0, 0, 0)))).min() == 255
    half = load(encode(Image.new("RGBA", (20, 20), (0, 0, 0, 128))))
    assert np.abs(half.astype(int) - 127).max() <= 1
    assert load(encode(Image.new("LA", (20, 20), (0, 0)))).min() == 255


def test_palette_with_a_transparent_colour():
    picture = Image.new("P", (20, 20), 1)
    picture.putpalette([0, 0, 0, 10, 200, 30])
    assert load(encode(picture))[5, 5].tolist() == [10, 200, 30]
    assert load(encode(picture, transparency=1))[5, 5].tolist() == [255, 255, 255]


def test_cmyk_grey_and_bilevel():
    cyan = load(encode(Image.new("CMYK", (20, 20), (255, 0, 0, 0)), "JPEG", quality=95))[5, 5].astype(int)
    assert cyan[0] < 20
    assert cyan[1:].min() > 230
    assert load(encode(Image.new("L", (20, 20), 77)))[5, 5].tolist() == [77, 77, 77]
    assert load(encode(Image.new("1", (20, 20), 1))).min() == 255


def test_sixteen_bits_keep_their_scale():
    ramp = np.repeat(np.array([[0, 257 * 100, 65535]], np.uint16), 3, 0).repeat(10, 0).repeat(10, 1)
    result = load(encode(Image.fromarray(ramp)), size=30)
    assert result[15, [4, 14, 25], 0].tolist() == [0, 100, 255]
    assert load(encode(Image.fromarray(ramp), "TIFF"), size=30)[15, 14].tolist() == [100] * 3


def deep_png(values: np.ndarray, kind: int) -> bytes:
    """A 16-bit PNG of PNG's colour type `kind`, which Pillow cannot write; values [height, width, channels]."""
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (2, [100 * 257, 50 * 257, 25 * 257], [100, 50, 25]),
        (6, [100 * 257, 50 * 257, 25 * 257, 65535], [100, 50, 25]),
        (6, [0, 0, 0, 0], [255, 255, 255]),
        (4, [100 * 257, 65535], [100, 100, 100]),
    ],
    ids=["rgb", "rgba", "transparent", "grey-alpha"],
)
def test_sixteen_bits_in_colour(kind, value, expected):
    assert load(deep_png(np.tile(np.array(value, np.uint16), (9, 9, 1)), kind))[5, 5].tolist() == expected


def test_sixteen_bits_in_other_files():
    grey = Image.fromarray(np.full((9, 9), 100 * 257, np.uint16))
    assert load(encode(grey, "TIFF", tiffinfo={262: 0}))[5, 5].tolist() == [155] * 3  # white is zero
    assert load(encode(grey, "TIFF", tiffinfo={274: 6}))[5, 5].tolist() == [100] * 3  # turned
    assert load(b"P5 9 9 1023\n" + np.full((9, 9), 512, ">u2").tobytes())[5, 5, 0] == 128
    assert load(b"P5 9 9 1023\n" + np.full((9, 9), 1023, ">u2").tobytes())[5, 5, 0] == 255


def test_twelve_bits_of_a_tiff_keep_their_scale():
    packed = np.tile(np.frombuffer(bytes([0x80, 0x08, 0x00]), np.uint8), 8 * 4)  # two pixels of 2048 in three bytes
    tags = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 12), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 200)]
    tags += [(277, 3, 1, 1), (278, 3, 1, 8), (279, 4, 1, len(packed))]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    assert load(head.ljust(200, b"\0") + packed.tobytes())[5, 5].tolist() == [128] * 3


def test_every_exif_orientation_is_undone():
    corners = np.zeros((40, 60, 3), np.uint8)
    corners[:20, :30], corners[:20, 30:], corners[20:, :30] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    picture = Image.fromarray(corners)
    turns = [None, *(Image.Transpose(at) for at in (0, 3, 1, 5, 4, 6, 2))]
    for orientation, turn in enumerate(turns, 1):
        exif = Image.Exif()
        exif[0x0112] = orientation
        # What the camera stored is the picture with its orientation undone the other way.
        back = {Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_90: Image.Transpose(4)}
        stored = picture if turn is None else picture.transpose(back.get(turn, turn))
        for form in ("PNG", "TIFF", "WEBP"):
            options = {"lossless": True} if form == "WEBP" else {}
            result = load(encode(stored, form, exif=exif, **options))
            assert result[2, 2].tolist() == [250, 0, 0], (orientation, form)
            assert result[2, 13].tolist() == [0, 250, 0], (orientation, form)
            assert result[13, 2].tolist() == [0, 0, 250], (orientation, form)


def test_several_columns_of_pictures_are_separate_inputs():
    front, back = pixels(size=8), pixels(size=16)
    rows = [(encode(halves()), encode(halves((0, 255, 0)))), (encode(halves()), None)]
    a, b = front([row[0] for row in rows])["pixels"], back([row[1] for row in rows])["pixels"]
    assert (a.shape, b.shape) == ((2, 8, 8, 3), (2, 16, 16, 3))
    assert a[1, 4, 1].tolist() == [255, 0, 0]
    assert b[0, 8, 2].tolist() == [0, 255, 0]
    assert not b[1].any()


def test_floating_point_grey_is_stretched():
    ramp = np.tile(np.linspace(-3, 7, 30, dtype=np.float32), (30, 1))
    result = load(encode(Image.fromarray(ramp), "TIFF"), size=30)
    assert result.min() == 0
    assert result.max() == 255
    flat = np.full((9, 9), 4.5, np.float32)
    flat[0, 0] = np.nan
    assert load(encode(Image.fromarray(flat), "TIFF")).shape == (16, 16, 3)


def test_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (20, 20), c) for c in ("red", "lime", "blue")]
    for form in ("GIF", "WEBP"):
        data = encode(frames[0], form, save_all=True, append_images=frames[1:])
        assert load(data)[5, 5].tolist()[0] > 240


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the stored left is the top
    result = load(encode(halves(), "JPEG", exif=exif, quality=95)).astype(int)
    assert result[2, 8, 0] > 200
    assert result[13, 8, 2] > 200


def test_large_jpeg_in_draft_mode_matches_full_decoding():
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 255, (24, 32, 3), np.uint8)).resize((1600, 1200), Image.Resampling.BICUBIC)
    full = np.asarray(rough.resize((16, 16), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(load(encode(rough, "JPEG", quality=95)).astype(int) - full).mean() < 2


# Making it square


def test_fits():
    wide = Image.new("RGB", (90, 30), "black")
    wide.paste("white", (30, 0, 60, 30))  # the middle third
    data = encode(wide)
    assert load(data, fit="crop")[1:-1, 1:-1].min() == 255
    squashed = load(data, fit="squash")
    assert (squashed[8, 0, 0], squashed[8, 8, 0], squashed[8, 15, 0]) == (0, 255, 0)
    padded = load(data, fit="pad")
    assert (padded[0, 8, 0], padded[8, 8, 0], padded[8, 0, 0]) == (127, 255, 0)


def test_zoom_crops_the_middle():
    framed = Image.new("RGB", (40, 40), "black")
    framed.paste("white", (3, 3, 37, 37))
    assert load(encode(framed), fit="crop", zoom=0.75).min() == 255
    assert load(encode(framed), fit="crop").min() < 60


@pytest.mark.parametrize("method", ["bilinear", "bicubic", "lanczos"])
def test_downsizing_is_antialiased(method):
    checks = np.indices((160, 160)).sum(0) % 2 * 255
    result = load(encode(Image.fromarray(checks.astype(np.uint8))), resample=method)
    assert np.abs(result.astype(int) - 127).max() <= 2


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_extreme_shapes(fit):
    assert load(encode(Image.new("RGB", (3000, 1), "red")), fit=fit).shape == (16, 16, 3)
    assert load(encode(Image.new("RGB", (1, 1), "red")), fit=fit)[8, 8].tolist() == [255, 0, 0]


# What is refused


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_a_huge_picture_is_refused_before_decoding(side):
    data = png_header(side, side)
    assert len(data) < 200
    with pytest.raises(BadCell, match="over the limit of 64,000,000"):
        load(data)


def test_own_pixel_limit(monkeypatch):
    data = encode(Image.new("L", (200, 100)))
    assert load(data, max_pixels=20_000).shape == (16, 16, 3)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    with pytest.raises(BadCell, match="200 x 100 pixels is over the limit of 19,999"):
        load(data, max_pixels=19_999)


def test_byte_limit(tmp_path: Path):
    file = tmp_path / "a.png"
    file.write_bytes(encode(halves()))
    with pytest.raises(BadCell, match="over the limit of 50"):
        load(file, max_bytes=50)
    with pytest.raises(BadCell, match="over the limit of 50"):
        load("data:image/png;base64," + "A" * 200, max_bytes=50)
    assert pixels(max_bytes=50).limits == {"pixels": 64_000_000, "bytes": 50}


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_truncated_files_are_refused(form):
    rng = np.random.default_rng(0)
    data = encode(Image.fromarray(rng.integers(0, 255, (80, 80, 3), np.uint8)), form)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(BadCell, match=r"damaged picture|not a picture"):
            load(data[: int(len(data) * share)])


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM"])
def test_damaged_bytes_never_raise_anything_else(form):
    rng = np.random.default_rng(1)
    clean = np.frombuffer(encode(halves(), form), np.uint8)
    for _ in range(40):
        data = clean.copy()
        data[rng.integers(0, len(data), 6)] = rng.integers(0, 256, 6)
        with contextlib.suppress(BadCell):
            assert load(data.tobytes()).shape == (16, 16, 3)


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        b"hello",
    ],
    ids=["eps", "svg", "pdf", "text"],
)
def test_other_formats_are_refused(data):
    with pytest.raises(BadCell, match=r"not a picture in a supported format \(JPEG, PNG"):
        load(data)


def test_a_disguise_does_not_help(tmp_path: Path):
    for at, data in enumerate((b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"<svg width='9' height='9'/>")):
        file = tmp_path / f"{at}.png"
        file.write_bytes(data)
        with pytest.raises(BadCell, match="not a picture in a supported format"):
            load(file)


def test_missing_and_empty_files(tmp_path: Path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(BadCell, match=r"file not found: no\.png"):
        load(tmp_path / "no.png")
    with pytest.raises(BadCell, match="file is empty"):
        load(tmp_path / "empty.png")


def test_batch_is_the_rows_one_by_one_and_missing_cells_are_blank():
    cells = [encode(halves()), None, encode(halves((0, 255, 0), (9, 9, 9)), "JPEG")]
    batch = pixels()(cells)["pixels"]
    assert batch.shape == (3, 16, 16, 3)
    assert batch[1].max() == 0
    for at in (0, 2):
        np.testing.assert_array_equal(batch[at], load(cells[at]))
    assert pixels()([])["pixels"].shape == (0, 16, 16, 3)


def test_every_bad_cell_of_a_batch_is_named():
    with pytest.raises(BadCells) as caught:
        pixels()([encode(halves()), b"nonsense", None, b""])
    assert caught.value.reasons == {
        1: "not a picture in a supported format (JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM)",
        3: "file is empty",
    }
