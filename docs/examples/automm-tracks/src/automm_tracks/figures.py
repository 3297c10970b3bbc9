"""A track as fixed figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from automm.api import ArraySpec, Processor
from automm_tracks.reading import LARGEST_FILE, MOST_POINTS, Way, is_inline, read_way, steps_of, turns_of

NAMES = (
    "length", "points", "straightness", "extent_east", "extent_north", "heading_east", "heading_north",
    "start_latitude", "start_longitude", "end_latitude", "end_longitude", "step_median", "step_variation",
    "turn_mean", "turn_variation", "turn_sum", "straight_share", "corner_share", "back_share",
    "duration", "speed_mean", "speed_median", "speed_highest", "speed_variation", "stopped_share",
    "hour_sine", "hour_cosine",
)  # fmt: skip
"""What the vector holds, in order; the last eight are unknown without times."""


class Figures(Processor):
    """Track → length, shape, turns, places, and where times are known duration, speeds and hour of the day."""

    op = "tracks.figures"
    name = "tracks.figures"
    media = True

    @property
    def limits(self) -> dict[str, float]:
        """Largest file and longest track."""
        return {"bytes": LARGEST_FILE, "points": MOST_POINTS}

    @staticmethod
    def inline(cell: str) -> bool:
        """GeoJSON and WKT stand in the cell itself."""
        return is_inline(cell)

    def specs(self) -> dict[str, ArraySpec]:
        """`vector` [27]."""
        return {"vector": ArraySpec("float32", (len(NAMES),))}

    def blank(self) -> dict[str, np.ndarray]:
        """Nothing is known of a missing track."""
        return {"vector": np.full(len(NAMES), np.nan, np.float32)}

    def load(self, cell: Any) -> dict[str, np.ndarray]:
        """One track → its figures, in the order of `NAMES`."""
        found = describe(read_way(cell))
        return {"vector": np.array([found.get(name, np.nan) for name in NAMES], np.float32)}


def describe(way: Way) -> dict[str, float]:
    """The figures by name; lengths and speeds as logarithms of metres and of metres per second."""
    steps, seconds = steps_of(way)
    metres = np.hypot(*steps.T)
    length, (east, north) = metres.sum(), steps.sum(0)
    turns = turns_of(steps[metres > 0])
    found = {
        "length": np.log1p(length),
        "points": np.log(len(way.places)),
        "straightness": np.hypot(east, north) / max(length, 1e-9),
        "heading_east": east / max(np.hypot(east, north), 1e-9),
        "heading_north": north / max(np.hypot(east, north), 1e-9),
        "step_median": np.log1p(np.median(metres)),
        "step_variation": metres.std() / max(metres.mean(), 1e-9),
    }
    corners = np.vstack([np.zeros(2), steps.cumsum(0)])
    found["extent_east"], found["extent_north"] = np.log1p(np.ptp(corners, axis=0))
    found["start_latitude"], found["start_longitude"] = way.places[0]
    found["end_latitude"], found["end_longitude"] = way.places[-1]
    if len(turns):
        size = np.abs(turns)
        found |= {
            "turn_mean": size.mean(),
            "turn_variation": size.std(),
            "turn_sum": turns.sum(),
            "straight_share": (size < np.pi / 18).mean(),
            "corner_share": (np.abs(size - np.pi / 2) < np.pi / 9).mean(),
            "back_share": (size > 3 * np.pi / 4).mean(),
        }
    return found | _times(way, metres, seconds)


def _times(way: Way, metres: np.ndarray, seconds: np.ndarray) -> dict[str, float]:
    """What the times tell; nothing if no step has one."""
    timed = seconds > 0
    if not timed.any():
        return {}
    speed = metres[timed] / seconds[timed]
    angle = 2 * np.pi * (way.seconds[np.isfinite(way.seconds)][0] % 86_400) / 86_400
    return {
        "duration": np.log1p(seconds[timed].sum()),
        "speed_mean": np.log1p(metres[timed].sum() / seconds[timed].sum()),
        "speed_median": np.log1p(np.median(speed)),
        "speed_highest": np.log1p(np.quantile(speed, 0.95)),
        "speed_variation": speed.std() / max(speed.mean(), 1e-9),
        "stopped_share": seconds[timed][speed < 0.5].sum() / seconds[timed].sum(),
        "hour_sine": np.sin(angle),
        "hour_cosine": np.cos(angle),
    }
