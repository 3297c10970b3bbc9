"""Goldens: a few rows with what the processors and the graph made of them when the package was written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from automm.errors import VerificationError
from automm.runtime.manifest import Tolerance
from automm.runtime.rows import decode_rows
from automm.runtime.state import read_npz

if TYPE_CHECKING:
    from automm.runtime.package import Package

LEVELS = 3
"""How far decoded 8-bit samples may be off: JPEG decoders round differently."""


def deviation(found: np.ndarray, expected: np.ndarray, tolerance: Tolerance) -> float:
    """The largest deviation as a multiple of what is allowed; above 1 it is too large, infinite if shapes differ.

    Floats are compared with `absolute + relative · |expected|`, 8-bit samples within 3 levels, all else exactly.
    """
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return np.inf
    if found.size == 0 or np.array_equal(found, expected):
        return 0.0
    if found.dtype.kind == "f":
        if not (np.isfinite(found) == np.isfinite(expected)).all():
            return np.inf
        finite = np.isfinite(expected)
        allowed = np.maximum(tolerance.absolute + tolerance.relative * np.abs(expected[finite]), np.finfo(float).tiny)
        return float((np.abs(found[finite] - expected[finite]) / allowed).max(initial=0.0))
    if found.dtype == np.uint8:
        return float(np.abs(found.astype(int) - expected.astype(int)).max()) / LEVELS
    return np.inf


def check_goldens(package: Package) -> None:
    """Runs the goldens: raw rows → arrays, and the stored arrays → answers.

    Raises:
        VerificationError: Naming what came out differently.
        PackageError: If their files are damaged.
    """
    golden = package.manifest.golden
    if golden is None:
        return
    files = package.files
    for path in golden.media:
        files.read(path)
    folder = package.path / "golden"
    rows = decode_rows(files.read(golden.inputs), folder, golden.inputs)
    arrays = read_npz(files.read(golden.arrays), golden.arrays)
    answers = read_npz(files.read(golden.answers), golden.answers)
    table = {column: [row.get(column) for row in rows] for column in package.columns}
    made, refused = package.arrays(table, len(rows), folder)
    if refused:
        raise VerificationError(f"golden rows are refused here: {refused}")
    _compare("array", made, arrays, package.manifest.tolerance)
    _compare("answer", package.run(arrays, golden.rows), answers, package.manifest.tolerance)


def _compare(
    what: str, found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], tolerance: Tolerance
) -> None:
    if found.keys() != expected.keys():
        raise VerificationError(f"golden {what}s are {sorted(expected)}, here they are {sorted(found)}")
    for name, array in expected.items():
        off = deviation(found[name], array, tolerance)
        if not off <= 1:
            raise VerificationError(
                f"golden {what} {name!r} deviates by {off:.3g} times the tolerance (found {found[name].dtype} "
                f"{found[name].shape}, expected {array.dtype} {array.shape}): the package does not work here as it was "
                "written; install the versions in its requirements.txt"
            )
