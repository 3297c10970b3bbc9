"""DICOM files → pictures. Needs pydicom (the extra `dicom`)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from automm.api import BadCell
from automm_image.decode import refuse_large, stretch

if TYPE_CHECKING:
    from PIL.Image import Image


def read_dicom(data: bytes, max_pixels: int) -> Image:
    """The first frame, as a viewer shows it: rescaled, seen through the file's first window, MONOCHROME1 inverted.

    Without a window grey is stretched from its smallest to its largest value.

    Raises:
        BadCell: If pydicom is absent, the file holds no pixels, is compressed in a way that pydicom cannot read here,
            or is over the limit.
    """
    from PIL import Image

    try:
        import pydicom
        from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array
    except ImportError:
        raise BadCell("reading DICOM needs pydicom: pip install 'automm[dicom]'") from None
    found = pydicom.dcmread(io.BytesIO(data))
    if "PixelData" not in found:
        raise BadCell("the DICOM file holds no picture")
    refuse_large(int(found.Columns), int(found.Rows), max_pixels)
    try:
        values = pixel_array(found, index=0)  # [rows, columns] or [rows, columns, 3]
    except RuntimeError as problem:
        syntax = found.file_meta.TransferSyntaxUID.name
        raise BadCell(f"DICOM pixels cannot be read ({syntax}): {problem}") from None
    if found.PhotometricInterpretation == "PALETTE COLOR":
        values = apply_color_lut(values, found)
    if values.ndim == 3:
        bits = 8 * values.dtype.itemsize
        return Image.fromarray((values >> (bits - 8)).astype(np.uint8)[:, :, :3])
    grey = _window(apply_modality_lut(values, found).astype(np.float64), found)
    if found.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    return Image.fromarray(grey).convert("RGB")


def _window(values: np.ndarray, found: Any) -> np.ndarray:
    """Rescaled values → uint8, by the first window of the file (DICOM PS3.3 C.11.2.1)."""
    centre, width = (_first(found.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None:
        return stretch(values)
    match found.get("VOILUTFunction", "LINEAR"):
        case "SIGMOID":
            shown = 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -50, 50)))
        case "LINEAR_EXACT":
            shown = (values - centre) / width + 0.5
        case _:
            shown = (values - (centre - 0.5)) / max(width - 1, 1e-6) + 0.5
    return np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8)


def _first(value: Any) -> float | None:
    """The number, or the first of several."""
    if value is None or value == "":
        return None
    return float(value if isinstance(value, int | float | str) else value[0])
