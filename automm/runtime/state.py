"""State on disk: JSON for what is plain, NPZ for what is an array. No pickle anywhere."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from automm.errors import PackageError
from automm.runtime import strictjson

MARK = "$array"
LARGEST_JSON = 512 * 2**20
LARGEST_HEADER = 10_000


def split_state(state: Mapping[str, Any], *, caches: bool = False) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """State → plain JSON and the arrays it points to.

    Keys that begin with "_" are caches (what an encoder starts from, say): packages leave them out, runs keep them.

    Raises:
        ValueError: If a value is neither JSON nor a numeric array; the message says where.
    """
    arrays: dict[str, np.ndarray] = {}

    def plain(value: Any, where: str) -> Any:
        if isinstance(value, np.ndarray):
            if value.dtype.hasobject:
                raise ValueError(f"state {where}: an array of Python objects cannot be stored")
            name = f"a{len(arrays)}"
            arrays[name] = value
            return {MARK: name}
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, Mapping):
            if bad := [key for key in value if not isinstance(key, str) or key == MARK]:
                raise ValueError(f"state {where}: the key {bad[0]!r} cannot be stored; keys are strings")
            return {key: plain(item, f"{where}.{key}") for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item, f"{where}[{at}]") for at, item in enumerate(value)]
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"state {where}: {value} cannot be stored")
        if value is None or isinstance(value, str | bool | int | float):
            return value
        raise ValueError(
            f"state {where}: {type(value).__name__} cannot be stored; use strings, numbers, lists, dicts, arrays"
        )

    kept = {key: item for key, item in state.items() if caches or not str(key).startswith("_")}
    return {key: plain(item, str(key)) for key, item in kept.items()}, arrays


def join_state(json: bytes, npz: bytes | None, what: str) -> dict[str, Any]:
    """The reverse of `split_state`.

    Raises:
        PackageError: If either part is damaged or they do not belong together.
    """
    plain = strictjson.loads(json, what, most=LARGEST_JSON)
    if not isinstance(plain, dict):
        raise PackageError(f"{what}: a state is a JSON object")
    arrays = read_npz(npz, what) if npz is not None else {}

    def joined(value: Any) -> Any:
        if isinstance(value, dict):
            if set(value) == {MARK}:
                if value[MARK] not in arrays:
                    raise PackageError(f"{what}: its array {value[MARK]!r} is missing")
                return arrays[value[MARK]]
            return {key: joined(item) for key, item in value.items()}
        return [joined(item) for item in value] if isinstance(value, list) else value

    return {key: joined(item) for key, item in plain.items()}


def write_npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as an uncompressed NPZ file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)
            # A fixed date makes the same arrays give the same bytes.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    return buffer.getvalue()


def read_npz(data: bytes, what: str) -> dict[str, np.ndarray]:
    """The arrays of an uncompressed NPZ file. A header's claims are compared with the bytes before any allocation.

    Raises:
        PackageError: If it is damaged, compressed, or holds anything but numeric arrays.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            claimed = 0
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if member.compress_type != zipfile.ZIP_STORED or name == member.filename or name in arrays:
                    raise PackageError(f"{what}: {member.filename!r} is not a stored array")
                if "/" in name or "\\" in name or ".." in name:
                    raise PackageError(f"{what}: {member.filename!r} is not a plain name")
                if (claimed := claimed + member.file_size) > len(data):
                    raise PackageError(f"{what}: its members claim more bytes than the file has")
                arrays[name] = _read_npy(archive.read(member), f"{what}: {name}")
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError, KeyError) as problem:
        raise PackageError(f"{what}: not a readable NPZ file: {problem}") from None
    return arrays


def _read_npy(data: bytes, what: str) -> np.ndarray:
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream, max_header_size=LARGEST_HEADER)
    if dtype.hasobject:
        raise PackageError(f"{what}: holds pickled objects, which are never loaded")
    body = data[stream.tell() :]
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != len(body):
        raise PackageError(f"{what}: its shape {shape} does not fit its {len(body):,} bytes")
    array = np.frombuffer(body, dtype).copy()
    return array.reshape(shape, order="F" if fortran else "C")
