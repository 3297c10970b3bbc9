"""What a processor made of rows as a few numbers per row: random projections, for watching drift. Torch-free."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pydantic

from automm.core.figures import Figure
from automm.core.processor import Processor
from automm.errors import PackageError

COMPONENTS = 8
"""Random projections of what the model reads of an input."""
WIDEST = 512
"""Values per row that are projected; wider arrays are averaged over neighbours."""
REACH = 5.0
"""Standardised values are cut off at so many standard deviations."""
GOLDEN, PLACE = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x9E3779B1)


class Watched(NamedTuple):
    """One input of the model, as far as drift is concerned."""

    name: str
    slug: str
    columns: tuple[str, ...]
    processor: Processor


class Scale(pydantic.BaseModel):
    """What an input's arrays are standardised with before they are projected."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    centre: tuple[float, ...]
    deviation: tuple[float, ...]


def own_arrays(item: Watched, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """An input's arrays by their own names."""
    return {name: arrays[f"{item.slug}.{name}"] for name in item.processor.specs()}


def pooled(item: Watched, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """What the processor made of rows, as one vector per row, float32 [rows, at most `WIDEST`]; NaN is unknown.

    Free sizes are averaged over (token ids: counted in hashed buckets), so the vector does not depend on the padding.
    """
    parts = []
    specs = {name: spec for name, spec in item.processor.specs().items() if spec.dtype != "bool"}
    for name, spec in specs.items():
        array, width = arrays[f"{item.slug}.{name}"], max(WIDEST // len(specs), 1)
        if array.dtype.kind in "iu" and spec.dtype != "uint8":
            parts.append(_buckets(array.reshape(len(array), -1), None if spec.fixed else spec.pad, width))
            continue
        values = array.astype(np.float32)
        free = tuple(axis + 1 for axis, size in enumerate(spec.shape) if isinstance(size, str))
        if free:
            real = np.isfinite(values) & (values != spec.pad)
            count = real.sum(free)
            total = np.where(real, values, 0).sum(free)
            values = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        parts.append(_narrow(values.reshape(len(values), -1), width))
    return np.concatenate(parts, 1) if parts else np.zeros((len(next(iter(arrays.values()))), 0), np.float32)


def _buckets(codes: np.ndarray, pad: float | None, width: int) -> np.ndarray:
    """Share of each bucket of hashed codes; codes at fixed places are hashed with their place."""
    rows, places = codes.shape
    place = np.arange(places, dtype=np.uint64) if pad is None else np.zeros(places, np.uint64)
    with np.errstate(over="ignore"):
        mixed = (codes.astype(np.int64).astype(np.uint64) + place * np.uint64(0x9E3779B1)) * np.uint64(
            0x9E3779B97F4A7C15
        )
    bucket = (mixed >> np.uint64(40)) % np.uint64(width)
    real = np.ones(codes.shape, bool) if pad is None else codes != pad
    flat = np.repeat(np.arange(rows), places) * width + bucket.astype(np.int64).ravel()
    counts = np.bincount(flat[real.ravel()], minlength=rows * width).reshape(rows, width)
    shares: np.ndarray = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return shares.astype(np.float32)


def _narrow(values: np.ndarray, most: int) -> np.ndarray:
    """Neighbouring columns are averaged until there are few enough."""
    if values.shape[1] <= most:
        return values.astype(np.float32)
    starts = np.linspace(0, values.shape[1], most, endpoint=False).astype(int)
    known = np.isfinite(values)
    count = np.add.reduceat(known, starts, 1)
    total = np.add.reduceat(np.where(known, values, 0), starts, 1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def learn_scale(vectors: np.ndarray) -> Scale:
    """Centre and deviation of each column; a column that does not vary counts as nothing."""
    known = np.isfinite(vectors)
    count = np.maximum(known.sum(0), 1)
    values = np.where(known, vectors, 0).astype(np.float64)
    centre = values.sum(0) / count
    deviation = np.sqrt((np.where(known, values - centre, 0) ** 2).sum(0) / count)
    return Scale(centre=_short(centre), deviation=_short(deviation))


def _short(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)


def projections(slug: str, vectors: np.ndarray, present: np.ndarray, scale: Scale) -> dict[str, Figure]:
    """Random ±1 projections of standardised vectors (Achlioptas 2003); None where the input is missing."""
    centre, deviation = np.array(scale.centre), np.array(scale.deviation)
    if vectors.shape[1] != len(centre):
        raise PackageError(f"input {slug!r} has {vectors.shape[1]} values here, {len(centre)} in the drift reference")
    varying = deviation > 1e-9 * np.maximum(np.abs(centre), 1.0)
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = (vectors - centre) / np.where(varying, deviation, 1.0)
    scaled = np.clip(np.nan_to_num(np.where(varying, scaled, 0.0), nan=0.0), -REACH, REACH)
    values = scaled @ _signs(slug, len(centre)) / max(np.sqrt(varying.sum()), 1.0)  # [rows, components]
    return {
        f"component {at + 1}": Figure(
            "number", [float(v) if on else None for v, on in zip(column, present, strict=True)]
        )
        for at, column in enumerate(values.T)
    }


def _signs(slug: str, width: int) -> np.ndarray:
    """Signs from a hash, so that they are the same for ever; [width, components]."""
    bits: list[np.ndarray] = []
    for block in range(-(-width * COMPONENTS // 512)):
        digest = hashlib.blake2b(f"{slug}:{block}".encode(), digest_size=64).digest()
        bits.append(np.unpackbits(np.frombuffer(digest, np.uint8)))
    flat = np.concatenate([*bits, np.zeros(0, np.uint8)])[: width * COMPONENTS]
    return flat.reshape(width, COMPONENTS) * 2.0 - 1.0
