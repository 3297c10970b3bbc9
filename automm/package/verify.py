"""Comparing a written package with the trained model, in a process that cannot import torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from automm.errors import StorageError, VerificationError
from automm.runtime import strictjson
from automm.runtime.goldens import deviation
from automm.runtime.manifest import Tolerance
from automm.runtime.rows import encode_rows
from automm.runtime.state import read_npz

BLOCKED = ("torch", "lightning", "transformers", "torchmetrics")
_CHILD = f"""
import sys
sys.modules.update(dict.fromkeys({BLOCKED!r}))
from automm.package.isolated import main
main(sys.argv[1])
"""
TIMEOUT = 1800


@dataclass(frozen=True)
class VerificationReport:
    """What the comparison found.

    Attributes:
        rows: Rows compared.
        deviations: Answer → largest absolute deviation.
        tolerance: What was allowed.
    """

    rows: int
    deviations: dict[str, float]
    tolerance: Tolerance


def verify_package(
    package: Path,
    rows: Sequence[Mapping[str, Any]],
    folder: Path | None,
    expected_answers: Mapping[str, np.ndarray],
    tolerance: Tolerance | None = None,
    plugin_files: Sequence[Path] = (),
) -> VerificationReport:
    """Predicts raw rows with the package, without torch, and compares with the trained model's answers.

    A separate Python process in which `import torch` raises loads the package as a server would and starts from raw
    cells, so the comparison covers reading, processors, graph and the absence of torch.

    Args:
        package: The package folder.
        rows: Held-out rows, column → raw cell, none of which training refused.
        folder: Where their media paths start.
        expected_answers: Answer name → [rows, …], by the trained model.
        tolerance: Allowed deviation, `absolute + relative · |expected|`; by default 1e-3 each, which is what 32-bit
            arithmetic in another order may give.
        plugin_files: Local plugin files whose operations the package needs.

    Raises:
        VerificationError: If the package does not load, refuses a row, or deviates.
        StorageError: If the rows cannot be written to the temporary folder.
    """
    allowed = tolerance or Tolerance()
    expected = {name: np.asarray(array) for name, array in expected_answers.items()}
    with tempfile.TemporaryDirectory(prefix="automm-verify-") as name:
        job = Path(name)
        try:
            _write_job(job, package, rows, folder, plugin_files)
        except OSError as problem:
            raise StorageError(f"cannot write the verification's rows to {job}: {problem.strerror}") from problem
        found, refused = _run(job)
    if refused:
        first, reason = next(iter(refused.items()))
        raise VerificationError(f"the package refuses {len(refused)} of {len(rows)} rows, row {first}: {reason}")
    if found.keys() != expected.keys():
        raise VerificationError(f"the package answers {sorted(found)}, the trained model {sorted(expected)}")
    deviations = {}
    for answer, array in expected.items():
        other = found[answer].astype(array.dtype) if found[answer].dtype.kind == array.dtype.kind else found[answer]
        off = deviation(other, array, allowed)
        if not off <= 1:
            raise VerificationError(_message(answer, other, array, allowed, off))
        deviations[answer] = float(np.abs(other.astype(float) - array).max(initial=0.0))
    return VerificationReport(len(rows), deviations, allowed)


def _message(answer: str, found: np.ndarray, expected: np.ndarray, allowed: Tolerance, off: float) -> str:
    start = f"the package deviates from the trained model in {answer!r}"
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return f"{start}: {found.dtype} {found.shape} instead of {expected.dtype} {expected.shape}"
    where = np.unravel_index(np.argmax(np.abs(found.astype(float) - expected)), expected.shape)
    return (
        f"{start}, row {where[0]}: {found[where]:.6g} instead of {expected[where]:.6g}, {off:.3g} times the tolerance "
        f"(absolute {allowed.absolute:g}, relative {allowed.relative:g})"
    )


def _write_job(
    job: Path, package: Path, rows: Sequence[Mapping[str, Any]], folder: Path | None, plugin_files: Sequence[Path]
) -> None:
    count = 0

    def keep(data: bytes) -> str:
        nonlocal count
        count += 1
        (job / f"{count}.bin").write_bytes(data)
        return f"{count}.bin"

    (job / "rows.json").write_bytes(encode_rows(rows, keep))
    order = {
        "package": os.path.abspath(package),
        "folder": os.path.abspath(folder) if folder is not None else None,
        "plugins": [os.path.abspath(file) for file in plugin_files],
    }
    (job / "order.json").write_bytes(strictjson.dumps(order))


def _run(job: Path) -> tuple[dict[str, np.ndarray], dict[int, str]]:
    command = [sys.executable, "-c", _CHILD, str(job)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise VerificationError(f"the package did not answer within {TIMEOUT} s") from None
    report = job / "report.json"
    if not report.exists():
        lines = done.stderr.strip().splitlines()
        last = lines[-1] if lines else f"exit code {done.returncode}"
        raise VerificationError(f"the package cannot be loaded in a process without torch: {last}")
    refused = {int(at): str(reason) for at, reason in json.loads(report.read_text("utf-8")).items()}
    return read_npz((job / "answers.npz").read_bytes(), "answers.npz"), refused
