"""A track as a sequence of steps."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from automm.api import ArraySpec, Processor
from automm_tracks.reading import LARGEST_FILE, MOST_POINTS, is_inline, read_way, steps_of, turns_of

CHANNELS = 4


class Steps(Processor):
    """Track → one row per step: logarithm of its length, cosine and sine of the turn into it, logarithm of its speed.

    Nothing tells where on earth the track is or which way is north. Without times the speed is 0.
    """

    op = "tracks.steps"
    name = "tracks.steps"
    media = True

    class Config(Processor.Config):
        """How many points are kept."""

        points: Annotated[int, Field(ge=2, le=10_000)] = 256
        """Most points; longer tracks are thinned evenly."""

    @property
    def limits(self) -> dict[str, float]:
        """Largest file and longest track."""
        return {"bytes": LARGEST_FILE, "points": MOST_POINTS}

    @staticmethod
    def inline(cell: str) -> bool:
        """GeoJSON and WKT stand in the cell itself."""
        return is_inline(cell)

    def specs(self) -> dict[str, ArraySpec]:
        """`steps` [time, 4] and `mask` [time]."""
        return {"steps": ArraySpec("float32", ("time", CHANNELS)), "mask": ArraySpec("bool", ("time",))}

    def load(self, cell: Any) -> dict[str, np.ndarray]:
        """One track → its steps."""
        way = read_way(cell)
        kept = np.unique(np.linspace(0, len(way.places) - 1, self.config.points).round().astype(int))
        steps, seconds = steps_of(way._replace(places=way.places[kept], seconds=way.seconds[kept]))
        metres = np.hypot(*steps.T)
        turns = np.concatenate([[0.0], turns_of(steps)])
        speed = np.divide(metres, seconds, out=np.zeros_like(metres), where=seconds > 0)
        rows = np.stack([np.log1p(metres) / 5, np.cos(turns), np.sin(turns), np.log1p(speed) / 3], 1)
        return {"steps": rows.astype(np.float32), "mask": np.ones(len(rows), bool)}
