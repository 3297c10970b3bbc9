"""DICOM files: rescaling, windows, inverted and coloured pictures, and what is refused."""

import io
import sys

import numpy as np
import pytest
from automm_image.modality import Image
from automm_image.pixels import Pixels

from automm.api import BadCell, ColumnProfile

pydicom = pytest.importorskip("pydicom")


def encode(pixels: np.ndarray, **tags) -> bytes:
    """A DICOM file of unsigned or signed grey [rows, columns], or of colour [rows, columns, 3]."""
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = tags.pop("syntax", pydicom.uid.ExplicitVRLittleEndian)
    file.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    frames = tags.get("NumberOfFrames", 1)
    shape = pixels.shape[1:] if frames > 1 else pixels.shape
    file.Rows, file.Columns = shape[:2]
    file.SamplesPerPixel = 3 if len(shape) == 3 else 1
    file.PhotometricInterpretation = "RGB" if len(shape) == 3 else "MONOCHROME2"
    if len(shape) == 3:
        file.PlanarConfiguration = 0
    bits = 8 * pixels.dtype.itemsize
    file.BitsAllocated, file.BitsStored, file.HighBit = bits, bits, bits - 1
    file.PixelRepresentation = int(pixels.dtype.kind == "i")
    file.PixelData = pixels.tobytes()
    file["PixelData"].VR = "OW" if bits > 8 else "OB"
    for name, value in tags.items():
        setattr(file, name, value)
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, file, enforce_file_format=True)
    return stream.getvalue()


def load(data: bytes, **fields) -> np.ndarray:
    return Pixels(Pixels.Config(size=8, **fields)).load(data)["pixels"]


def flat(value: float, kind=np.int16) -> np.ndarray:
    return np.full((8, 8), value, kind)


def test_slope_intercept_and_window():
    # 1,000 becomes 2 * 1000 - 1024 = 976 units; the window 0 to 2,000 shows it at (976 - 999.5) / 1999 + 0.5 of white.
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1024, "WindowCenter": 1000, "WindowWidth": 2000}
    grey = round(255 * ((976 - 999.5) / 1999 + 0.5))
    assert load(encode(flat(1000), **tags))[4, 4].tolist() == [grey] * 3
    assert load(encode(flat(-5000), **tags)).max() == 0
    assert load(encode(flat(5000), **tags)).min() == 255
    assert load(encode(flat(1000), **{**tags, "WindowCenter": [1000, 40], "WindowWidth": [2000, 9]}))[4, 4, 0] == grey
    exact = load(encode(flat(1000), **tags, VOILUTFunction="LINEAR_EXACT"))[4, 4, 0]
    assert exact == round(255 * ((976 - 1000) / 2000 + 0.5))
    curved = load(encode(flat(1250), **tags, VOILUTFunction="SIGMOID"))[4, 4, 0]
    assert curved == round(255 / (1 + np.exp(-4 * (1476 - 1000) / 2000)))


def test_without_a_window_grey_is_stretched():
    ramp = np.tile(np.arange(8, dtype=np.uint16) * 100 + 300, (8, 1))
    assert load(encode(ramp))[4, :, 0].tolist() == [round(255 * at / 7) for at in range(8)]


def test_monochrome1_is_inverted():
    tags = {"WindowCenter": 128, "WindowWidth": 256}
    assert load(encode(flat(200, np.uint8), **tags))[4, 4, 0] == 200
    assert load(encode(flat(200, np.uint8), **tags, PhotometricInterpretation="MONOCHROME1"))[4, 4, 0] == 55


def test_colour_and_the_first_of_several_frames():
    colour = np.tile(np.array([10, 200, 90], np.uint8), (8, 8, 1))
    assert load(encode(colour))[4, 4].tolist() == [10, 200, 90]
    frames = np.stack([flat(60, np.uint8), flat(250, np.uint8)])
    data = encode(frames, NumberOfFrames=2, WindowCenter=128, WindowWidth=256)
    assert load(data)[4, 4, 0] == 60


def test_run_length_encoding_is_read():
    file = pydicom.dcmread(io.BytesIO(encode(flat(80, np.uint8), WindowCenter=128, WindowWidth=256)))
    file.compress(pydicom.uid.RLELossless)
    stream = io.BytesIO()
    file.save_as(stream)
    assert load(stream.getvalue())[4, 4, 0] == 80


def test_what_is_refused():
    with pytest.raises(BadCell, match="8 x 8 pixels is over the limit of 60"):
        load(encode(flat(1)), max_pixels=60)
    with pytest.raises(BadCell, match="damaged picture"):
        load(encode(flat(1))[:-60])
    bare = pydicom.dcmread(io.BytesIO(encode(flat(1))))
    del bare.PixelData
    stream = io.BytesIO()
    bare.save_as(stream)
    with pytest.raises(BadCell, match="the DICOM file holds no picture"):
        load(stream.getvalue())


def test_without_pydicom_the_line_to_type_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(BadCell, match=r"pip install 'automm\[dicom\]'"):
        load(encode_once())


def encode_once() -> bytes:
    return bytes(128) + b"DICM" + bytes(64)


def test_columns_of_dicom_files_are_claimed():
    claim = Image.claim(ColumnProfile(name="scan", storage="string", rows=9, extensions={".dcm": 1.0}, exists_share=1))
    assert claim.confidence == pytest.approx(0.95)
    assert Image.claim(ColumnProfile(name="scan", storage="binary", rows=9, sample=(encode_once(),))) is not None
