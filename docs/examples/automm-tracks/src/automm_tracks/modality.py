"""Recognising columns of tracks."""

from __future__ import annotations

import numpy as np

from automm.api import BadCell, Claim, ColumnProfile, Examples, InputInfo, Modality
from automm_tracks.reading import is_inline, read_way


class Track(Modality):
    """Columns of ways over the earth: GeoJSON, WKT, or paths of .gpx files."""

    @classmethod
    def claim(cls, column: ColumnProfile) -> Claim | None:
        """Claims columns in which most cells are readable tracks or name .gpx files."""
        if not column.filled:
            return None
        texts = [cell for cell in column.sample if isinstance(cell, str) and is_inline(cell)]
        readable = sum(map(_readable, texts)) / max(len(column.sample), 1)
        files = column.extensions.get(".gpx", 0.0)
        share = min(readable + files, 1.0)
        if share < 0.5:
            return None
        return Claim(0.97 * share, f"{readable:.0%} of the cells seen are tracks, {files:.0%} name .gpx files")

    @classmethod
    def examples(cls, count: int, seed: int) -> Examples:
        """Ways as text and as GPX; those of group 0 are smooth, those of group 1 turn at right angles."""
        generator = np.random.default_rng(seed)
        groups = tuple(row % 2 for row in range(count))
        cells = [made_cell(generator, group, gpx=row % 3 == 0) for row, group in enumerate(groups)]
        return Examples(InputInfo("way", cls.name, ("way",)), cells, groups)


def _readable(cell: str) -> bool:
    try:
        read_way(cell)
    except BadCell:
        return False
    return True


def made_cell(generator: np.random.Generator, corners: int, gpx: bool) -> str | bytes:
    """A way of 20 to 40 steps of about 50 metres: smooth, or with corners; WKT, or GPX with times."""
    steps = int(generator.integers(20, 41))
    if corners:
        turns = generator.choice([0.0, np.pi / 2, -np.pi / 2], steps, p=[0.6, 0.2, 0.2])
    else:
        turns = generator.normal(0, 0.7, steps)
    heading = generator.uniform(0, 2 * np.pi) + turns.cumsum()
    metres = generator.uniform(30, 70, steps)
    shifts = np.stack([np.sin(heading), np.cos(heading)], 1) * metres[:, None] / 111_000
    start = np.array([13.4, 52.5]) + generator.normal(0, 0.05, 2)
    points = np.vstack([start, start + shifts.cumsum(0)])
    if not gpx:
        return f"LINESTRING ({', '.join(f'{lon:.6f} {lat:.6f}' for lon, lat in points)})"
    clock = np.concatenate([[0], (metres / generator.uniform(3, 9)).cumsum()]).astype(int)
    rows = [
        f'<trkpt lat="{lat:.6f}" lon="{lon:.6f}"><time>2026-05-04T10:{at // 60 % 60:02d}:{at % 60:02d}Z</time></trkpt>'
        for (lon, lat), at in zip(points, clock, strict=True)
    ]
    body = f"<trk><trkseg>{''.join(rows)}</trkseg></trk>"
    return f'<gpx xmlns="http://www.topografix.com/GPX/1/1" version="1.1" creator="made">{body}</gpx>'.encode()
