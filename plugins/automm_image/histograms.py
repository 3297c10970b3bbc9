"""Fixed descriptors of a picture: gradients, textures, colours, extremes. NumPy only."""

from __future__ import annotations

import numpy as np

ORIENTATIONS = 9
QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
TAILS = (0, 0.002, 0.02, 0.1, 0.9, 0.98, 0.998, 1)
NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


def gradients(grey: np.ndarray, cells: int) -> np.ndarray:
    """Histograms of oriented gradients (Dalal & Triggs 2005), each cell relative to its neighbourhood.

    Orientations are unsigned, votes are shared between neighbouring bins, and a cell is divided by the norm of the
    3 x 3 cells around it.

    Args:
        grey: Float array [side, side]; `cells` divides the side.
        cells: Cells along a side.

    Returns:
        Float array [cells * cells * 9].
    """
    histogram = _oriented(grey, cells)  # [cells, cells, orientations]
    energy = np.pad((histogram**2).sum(2), 1)
    around = sum(energy[1 + y : 1 + y + cells, 1 + x : 1 + x + cells] for y in (-1, 0, 1) for x in (-1, 0, 1))
    return np.sqrt(histogram / np.sqrt(around + 1e-4)[:, :, None]).ravel()


def edges(grey: np.ndarray, cells: int) -> np.ndarray:
    """The logarithm of the gradient energy by orientation in every cell, not relative to anything.

    Returns:
        Float array [cells * cells * 9].
    """
    return np.log(_oriented(grey, cells).ravel() + 1e-2)


def _oriented(grey: np.ndarray, cells: int) -> np.ndarray:
    """Mean gradient magnitude by cell and orientation, [cells, cells, orientations]."""
    side = len(grey)
    padded = np.pad(grey, 1, mode="edge")
    across = padded[1:-1, 2:] - padded[1:-1, :-2]
    down = padded[2:, 1:-1] - padded[:-2, 1:-1]
    size = np.hypot(across, down)
    angle = np.arctan2(down, across) * (ORIENTATIONS / np.pi) % ORIENTATIONS
    low = angle.astype(np.intp)
    share = angle - low
    low %= ORIENTATIONS
    at = np.arange(side) * cells // side
    cell = (at[:, None] * cells + at) * ORIENTATIONS
    shape = cells * cells * ORIENTATIONS
    votes = np.bincount((cell + low).ravel(), (size * (1 - share)).ravel(), shape)
    votes += np.bincount((cell + (low + 1) % ORIENTATIONS).ravel(), (size * share).ravel(), shape)
    return (votes / (side / cells) ** 2).reshape(cells, cells, ORIENTATIONS)


def _uniform_codes() -> np.ndarray:
    """Code of eight comparisons → bin: 58 codes with at most two changes around the circle, one bin for the rest."""
    bins = np.full(256, 58)
    at = 0
    for code in range(256):
        bits = [code >> step & 1 for step in range(8)]
        if sum(bits[step] != bits[step - 1] for step in range(8)) <= 2:
            bins[code] = at
            at += 1
    return bins


UNIFORM = _uniform_codes()


def textures(grey: np.ndarray, radius: int, cells: int) -> np.ndarray:
    """Histogram of uniform local binary patterns (Ojala et al. 2002): over the picture, and the most of any cell.

    Args:
        grey: Float array [side, side].
        radius: Distance of the compared pixels.
        cells: Cells along a side, for the second histogram.

    Returns:
        Float array [118], square roots of shares.
    """
    middle = grey[radius:-radius, radius:-radius]
    height, width = middle.shape
    code = np.zeros(middle.shape, np.uint8)
    for step, (y, x) in enumerate(NEIGHBOURS):
        y, x = radius * (1 + y), radius * (1 + x)
        # A margin of one grey level in 255: flat areas would be coded by their noise.
        code |= (grey[y : y + height, x : x + width] >= middle + 1 / 255).astype(np.uint8) << step
    at = np.arange(height) * cells // height
    cell = at[:, None] * cells + at
    counts = np.bincount((cell * 59 + UNIFORM[code]).ravel(), minlength=cells * cells * 59).reshape(-1, 59)
    shares = counts / counts.sum(1, keepdims=True)
    return np.sqrt(np.concatenate([counts.sum(0) / counts.sum(), shares.max(0)]))


def colours(pixels: np.ndarray) -> np.ndarray:
    """Colour histogram over the picture and its middle, moments by cell of a 3 x 3 grid.

    Colours are opponent channels: lightness, red against green, yellow against blue.

    Args:
        pixels: Float array [side, side, 3], 0 to 1.
    """
    red, green, blue = np.moveaxis(pixels, 2, 0)
    light = (red + green + blue) / 3
    channels = (light, red - green, (red + green) / 2 - blue)
    hue = np.arctan2(channels[1], channels[2])
    colourful = np.hypot(channels[1], channels[2])
    bins = (np.minimum((hue + np.pi) * (8 / (2 * np.pi)), 7)).astype(np.intp) * 3 + np.digitize(light, (0.33, 0.67))
    bins = np.where(colourful < 0.08, 24 + np.minimum(light * 8, 7).astype(np.intp), bins)  # 24 colours, 8 greys
    quarter = len(light) // 4
    found = [
        np.sqrt(np.bincount(part.ravel(), minlength=32) / part.size)
        for part in (bins, bins[quarter:-quarter, quarter:-quarter])
    ]
    for channel in channels:
        for band in np.array_split(channel, 3):
            for cell in np.array_split(band, 3, axis=1):
                found.append(np.array([cell.mean(), cell.std()]))
    found += [np.quantile(channel, QUANTILES) for channel in channels]
    return np.concatenate(found)


def extremes(grey: np.ndarray, cells: int) -> np.ndarray:
    """How far filters go anywhere: what a thin or small defect changes, though every mean hides it.

    The filters are differences of box means, round and elongated. Of each: quantiles over the picture, spread, and
    the spread in the quietest and the busiest cells.

    Args:
        grey: Float array [side, side]; `cells` divides the side.
        cells: Cells along a side.

    Returns:
        Float array [120], signed square roots.
    """
    side = len(grey)
    mean3, mean7, mean15 = (_box(grey, size, size) for size in (3, 7, 15))
    maps = (
        grey - mean3,
        mean3 - mean7,
        mean7 - mean15,
        mean15 - _box(grey, 31, 31),
        _box(grey, 3, 1) - _box(grey, 15, 1),
        _box(grey, 1, 3) - _box(grey, 1, 15),
        _box(grey, 1, 9) - _box(grey, 7, 9),
        _box(grey, 9, 1) - _box(grey, 9, 7),
    )
    ranks = np.rint(np.array(TAILS) * (side * side - 1)).astype(np.intp)
    within = np.rint(np.array((0, 0.25, 0.5, 0.75, 0.95, 1)) * (cells * cells - 1)).astype(np.intp)
    found = []
    for filtered in maps:
        blocks = filtered.reshape(cells, side // cells, cells, side // cells)
        found += [np.sort(filtered, axis=None)[ranks], [filtered.std()], np.sort(blocks.std((1, 3)), axis=None)[within]]
    values = np.concatenate(found)
    return np.sign(values) * np.sqrt(np.abs(values))


def _box(grey: np.ndarray, height: int, width: int) -> np.ndarray:
    """Mean of the `height` x `width` pixels around every pixel, both odd; the picture is mirrored at its edges."""
    for axis, size in enumerate((height, width)):
        if size > 1:
            margin = [(0, 0), (0, 0)]
            margin[axis] = (size // 2 + 1, size // 2)
            total = np.pad(grey, margin, mode="reflect").cumsum(axis, dtype=np.float64)
            ends = total[size:] - total[:-size] if axis == 0 else total[:, size:] - total[:, :-size]
            grey = (ends / size).astype(np.float32)
    return grey
