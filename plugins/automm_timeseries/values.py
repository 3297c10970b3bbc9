"""Series → standardised values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from automm.api import ArraySpec, BadCell, Config, DataError, Processor
from automm_timeseries import timing
from automm_timeseries.read import Bounds, Reading, read_cell

CLOCK_NAMES = frozenset(
    ["index", "id", "t", "ts", "time", "timestamp", "timestep", "date", "datetime", "step", "cycle", "seconds", "ms"],
) | {"", "unnamed: 0"}
UNIX_TIME = 1e8
FARTHEST = 10.0


@dataclass
class _Times:
    """Running figures of a column that may be the training series' time axis."""

    typical: list[float] = field(default_factory=list)
    uneven: bool = False
    series: int = 0

    def add(self, time: np.ndarray) -> None:
        """Takes in the ascending times of one series."""
        self.series += 1
        if len(time) > 1 and time[-1] > time[0]:
            self.typical.append(timing.interval(time))
            self.uneven |= timing.is_uneven(time)


@dataclass
class _Tally:
    """Running figures of the training series that have the same columns."""

    channels: int
    series: int = 0
    count: np.ndarray = field(init=False)
    mean: np.ndarray = field(init=False)
    squares: np.ndarray = field(init=False)
    rising: np.ndarray = field(init=False)
    steady: np.ndarray = field(init=False)
    missing: bool = False
    longest: int = 0
    times: dict[str, _Times] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.count, self.mean, self.squares = np.zeros((3, self.channels))
        self.rising, self.steady = np.ones((2, self.channels), bool)

    def add(self, reading: Reading) -> None:
        """Takes in one series (Chan et al. 1983, merging of means and squares)."""
        values = reading.values
        known = np.isfinite(values)
        count = known.sum(0)
        filled = np.where(known, values, 0)
        mean = filled.sum(0) / np.maximum(count, 1)
        squares = (np.where(known, values - mean, 0) ** 2).sum(0)
        total = np.maximum(self.count + count, 1)
        shift = mean - self.mean
        self.squares += squares + shift**2 * self.count * count / total
        self.mean += shift * count / total
        self.count += count
        steps = np.diff(values, axis=0)
        if len(steps):
            self.rising &= (steps > 0).all(0)  # NaN compares False: a clock has no gaps
            self.steady &= np.abs(steps - steps.mean(0)).max(0) <= 1e-3 * np.abs(steps.mean(0))
        for name, time in reading.dates.items():
            self.times.setdefault(name, _Times()).add(np.sort(time))
        for at, name in enumerate(reading.names or ()):
            if self.rising[at]:
                self.times.setdefault(name, _Times()).add(values[:, at])
        self.missing |= not known.all()
        self.longest = max(self.longest, len(values))
        self.series += 1


class Values(Processor):
    """Reads a series and standardises every channel by the training rows' mean and standard deviation.

    Cells are paths (or bytes) of .npy, CSV, Parquet or JSON files, JSON lists, or lists. Their shape is [time] or
    [time, channels]. In tables, columns of words and dates are left out, and so is the clock (see `clock`). Missing
    samples are interpolated; if the training series had any, one more channel holds the share of channels that were
    missing at each step. Standardised values are cut at ±10. Uneven time steps become a channel or a regular grid (see
    `timing`).
    """

    op = "series.values"
    name = "series.values"
    media = True

    class Config(Config):
        """Length, treatment of the clock, and what is refused."""

        max_length: Annotated[int, Field(ge=1, le=100_000)] = 512
        """Most time steps that reach the model."""
        longer: Literal["last", "resample"] = "last"
        """What happens to longer series: the `last` steps are kept, or all are averaged in `max_length` equal spans."""
        clock: Literal["auto", "drop", "keep"] = "auto"
        """What happens to a table's time axis: a column that rises from row to row in every training series, and does
        so in equal steps or is named like one (`cycle`, `timestamp`). `auto` keeps counters, which tell the age (cycles
        since the start), and drops Unix time (above 1e8), whose values never come back in new data."""
        timing: Literal["auto", "steps", "gaps", "grid"] = "auto"
        """What the times of a table's rows mean, which are a column of dates or a clock as under `clock`. `steps`: the
        rows count as equally far apart; `gaps`: one more channel holds the logarithm of each row's distance from the
        one before; `grid`: values are interpolated linearly at equal distances, and count as missing where no sample
        is near. `auto` takes `gaps` if the training series are uneven, and `steps` if they are not."""
        max_values: Annotated[int, Field(ge=1)] = 5_000_000
        """Numbers (time × channels) above which a series is refused."""
        max_channels: Annotated[int, Field(ge=1)] = 1024
        """Channels above which a series is refused."""
        max_bytes: Annotated[int, Field(ge=1)] = 100_000_000
        """File size, or length of the text in a cell, above which a series is refused."""

    @property
    def limits(self) -> dict[str, float]:
        """Most numbers, channels and bytes."""
        return {"values": self.config.max_values, "channels": self.config.max_channels, "bytes": self.config.max_bytes}

    @staticmethod
    def inline(cell: str) -> bool:
        """Whether the text is a JSON list."""
        return cell.lstrip().startswith("[")

    def _read(self, cell: Path | bytes | str | Sequence[Any]) -> Reading:
        return read_cell(cell, Bounds(self.config.max_values, self.config.max_channels, self.config.max_bytes))

    def fit(self, chunks: Iterable[Sequence[Any]]) -> None:
        """Learns the channels, their means and standard deviations, in one pass.

        The columns (or the number of channels) that most series have become the model's; others are bad cells.

        Raises:
            DataError: If no series can be read.
        """
        tallies: dict[tuple[str, ...] | int, _Tally] = {}
        problem: BadCell | None = None
        for chunk in chunks:
            for cell in chunk:
                if cell is None:
                    continue
                try:
                    reading = self._read(cell)
                except BadCell as found:
                    problem = problem or found
                    continue
                channels = reading.values.shape[1]
                tallies.setdefault(reading.names or channels, _Tally(channels)).add(reading)
        if not tallies:
            raise DataError(f"no series can be read; the first problem: {problem or 'all cells are missing'}")
        schema = max(tallies, key=lambda key: tallies[key].series)
        self._learn(tallies[schema], schema if isinstance(schema, tuple) else None)

    def _learn(self, tally: _Tally, names: tuple[str, ...] | None) -> None:
        keep = np.ones(tally.channels, bool)
        if names and self.config.clock != "keep" and tally.longest > 2:
            named = np.array([name.strip().lower() in CLOCK_NAMES for name in names])
            unwanted = (self.config.clock == "drop") | (tally.mean > UNIX_TIME)
            keep = ~(tally.rising & (tally.steady | named) & unwanted)
            keep |= not keep.any()
        axis = self._axis(tally, names)
        times = tally.times[axis] if axis else _Times()
        meaning = self.config.timing
        if meaning == "auto":
            meaning = "gaps" if times.uneven else "steps"
        elif meaning != "steps" and not axis:
            raise DataError(
                f"timing: {meaning} needs series that are tables with a column of dates or a rising column named like "
                "a clock (`time`, `timestamp`, …); there is none in every training series"
            )
        std = np.sqrt(tally.squares / np.maximum(tally.count, 1))
        constant = std <= 1e-8 * np.maximum(np.abs(tally.mean), 1e-4)
        self.state = {
            "columns": [name for name, kept in zip(names, keep, strict=True) if kept] if names else [],
            "missing": bool(tally.missing),
            "timing": meaning,
            "axis": axis,
            "interval": float(np.median(times.typical)) if times.typical else 1.0,
            "mean": tally.mean[keep],
            "std": np.where(constant, 1.0, std)[keep],
        }

    @staticmethod
    def _axis(tally: _Tally, names: tuple[str, ...] | None) -> str:
        """The column that holds the time: dates, else a clock by name, else equal steps; empty if there is none."""
        whole = [name for name, times in tally.times.items() if times.series == tally.series and times.typical]
        dates = [name for name in whole if name not in (names or ())]
        rising = [name for at, name in enumerate(names or ()) if tally.rising[at] and name in whole]
        clocks = [name for name in rising if name.strip().lower() in CLOCK_NAMES]
        steady = [name for name in rising if not tally.times[name].uneven]
        return next(iter([*dates, *clocks, *steady]), "")

    @property
    def measured(self) -> int:
        """Channels that `standard` gives: the series' own, and the gaps between uneven steps."""
        return len(self.state["mean"]) + (self.state.get("timing") == "gaps")

    @property
    def channels(self) -> int:
        """Channels of the array, the missing share included."""
        return self.measured + self.state["missing"]

    def specs(self) -> dict[str, ArraySpec]:
        """`values`: float32 [time, channels], standardised; `mask`: bool [time], True where a step is real."""
        return {
            "values": ArraySpec("float32", ("time", self.channels)),
            "mask": ArraySpec("bool", ("time",)),
        }

    def load(self, cell: Path | bytes | str | Sequence[Any]) -> dict[str, np.ndarray]:
        """One series → its arrays.

        Raises:
            BadCell: If it cannot be read, is over the limits, or has other channels than the training series.
        """
        values, missing = self.standard(cell)
        if self.state["missing"]:
            values = np.concatenate([values, missing[:, : len(self.state["mean"])].mean(1, keepdims=True)], 1)
        if len(values) > self.config.max_length:
            values = resample(values, self.config.max_length)
        return {"values": values.astype(np.float32), "mask": np.ones(len(values), bool)}

    def standard(self, cell: Path | bytes | str | Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """One series → standardised samples without gaps, and which of them were missing.

        Returns:
            Float64 and bool [time, channels]; not yet averaged where the series is too long.

        Raises:
            BadCell: As `load`.
        """
        reading = self._read(cell)
        values, gaps = self._select(reading), None
        if self.state.get("timing", "steps") != "steps":
            time = self._time(reading)
            order = np.argsort(time, kind="stable")
            values, time = values[order], time[order]
            if self.state["timing"] == "gaps":
                gaps = timing.gaps(time, self.state["interval"])[:, None]
            else:
                last = self.config.longer == "last"
                values = timing.to_grid(values, time, self.state["interval"], self.config.max_length, last)
        missing = np.isnan(values)
        if missing.any():
            values = _interpolate(values, missing, self.state["mean"])
        values = np.clip((values - self.state["mean"]) / self.state["std"], -FARTHEST, FARTHEST)
        if gaps is not None:
            values, missing = np.hstack([values, gaps]), np.hstack([missing, np.zeros_like(gaps, bool)])
        if self.config.longer == "last":
            values, missing = values[-self.config.max_length :], missing[-self.config.max_length :]
        return values, missing

    def _time(self, reading: Reading) -> np.ndarray:
        """The times of a series' samples [time]."""
        axis = self.state["axis"]
        if axis in reading.dates:
            return reading.dates[axis]
        if axis not in (reading.names or ()):
            raise BadCell(f"the series has no time column {axis!r}")
        time = reading.values[:, reading.names.index(axis)]
        if np.isnan(time).any():
            raise BadCell(f"the time column {axis!r} has a gap at sample {int(np.isnan(time).argmax())}")
        return time

    def _select(self, reading: Reading) -> np.ndarray:
        """The fitted channels of a series, by name where it is a table."""
        columns, expected = self.state["columns"], len(self.state["mean"])
        if reading.names is not None and columns:
            absent = [name for name in columns if name not in reading.names]
            if absent:
                raise BadCell(f"the series has no column of numbers {absent[0]!r} ({len(absent)} of {expected} absent)")
            return reading.values[:, [reading.names.index(name) for name in columns]]
        if reading.values.shape[1] != expected:
            raise BadCell(f"series of {reading.values.shape[1]} channels; the training series have {expected}")
        return reading.values


def _interpolate(values: np.ndarray, missing: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Fills gaps linearly, edges with the nearest sample, and channels without any sample with their mean."""
    values, time = values.copy(), np.arange(len(values))
    for channel in np.flatnonzero(missing.any(0)):
        gaps = missing[:, channel]
        values[gaps, channel] = (
            mean[channel] if gaps.all() else np.interp(time[gaps], time[~gaps], values[~gaps, channel])
        )
    return values


def resample(values: np.ndarray, length: int) -> np.ndarray:
    """Averages [time, channels] in `length` spans of (almost) equal size; time > length."""
    edges = np.arange(length + 1) * len(values) // length
    return np.add.reduceat(values, edges[:-1], axis=0) / np.diff(edges)[:, None]
