"""Random convolutions and channel statistics: series → one fixed vector. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from automm.api import ArraySpec, BadCell
from automm_timeseries.figures import NAMES, figures
from automm_timeseries.kernels import KERNELS, convolve, dilations, positive_share
from automm_timeseries.values import Values, resample

_SAMPLE = 128
_SAMPLE_STEPS = 128
_CORRELATED = 16
_SEED = 0


class Rocket(Values):
    """Series → `vector` [n]: responses of random convolutions, then the figures of every channel.

    Dempster et al. 2021, "MiniRocket"; Tan et al. 2022, "MultiRocket": 84 fixed kernels at several dilations, each on
    a random subset of the channels, on the series and on its differences. A response becomes the share of the steps at
    which it exceeds a bias, which is a quantile of the responses of training series. Unlike there, edges are repeated
    rather than padded with zeros, so that series of any length, one point included, are treated alike.
    The convolutions see little of a channel's level, so its figures (`figures.NAMES`) follow, then the correlations of
    the channels, the logarithm of the length, and the share of missing samples.
    """

    op = "series.rocket"
    name = "series.rocket"

    class Config(Values.Config):
        """Number of convolutions and figures."""

        max_length: Annotated[int, Field(ge=1, le=100_000)] = 4096
        """Most time steps that are described."""
        dilations: Annotated[int, Field(ge=1, le=12)] = 6
        """Most dilations of the kernels: 1, 2, 4, … steps."""
        biases: Annotated[int, Field(ge=1, le=20)] = 1
        """Biases of each convolution, each giving one value of the vector."""
        differences: bool = True
        """Whether the differences between neighbouring steps are convolved as well."""
        figures: Annotated[int, Field(ge=0, le=10_000)] = 1000
        """Most figures of channels in the vector; with many channels each keeps only the most useful ones."""

    def fit(self, chunks: Iterable[Sequence[Any]]) -> None:
        """Learns the channels, then the biases from the responses of some training series (two passes).

        Raises:
            DataError: If no series can be read.
        """
        super().fit(chunks)
        generator = np.random.default_rng(_SEED)
        sample = self._sample(chunks, generator)
        config, views = self.config, 1 + self.config.differences
        self.state["dilations"] = dilations(int(np.median([len(values) for values in sample])), config.dilations)
        rows = views * len(self.state["dilations"]) * len(KERNELS)
        self.state["subsets"] = _subsets(rows, self.measured, generator)
        shares = np.arange(1, rows * config.biases + 1) * (np.sqrt(5) + 1) / 2 % 1  # low discrepancy, as in the paper
        thinned = [self._responses(values)[:, :: -(-len(values) // _SAMPLE_STEPS)] for values in sample]
        responses = np.concatenate(thinned, 1)  # [rows, steps of all]
        self.state["biases"] = np.stack(
            [np.quantile(row, wanted) for row, wanted in zip(responses, shares.reshape(rows, -1), strict=True)]
        ).astype(np.float32)

    def _sample(self, chunks: Iterable[Sequence[Any]], generator: np.random.Generator) -> list[np.ndarray]:
        """Some training series, each as likely as any other (reservoir sampling, Vitter 1985)."""
        kept: list[Any] = []
        for at, cell in enumerate(cell for chunk in chunks for cell in chunk if cell is not None):
            if at < _SAMPLE:
                kept.append(cell)
            elif (place := int(generator.integers(at + 1))) < _SAMPLE:
                kept[place] = cell
        found = []
        for cell in kept:
            with suppress(BadCell):
                found.append(self._shortened(cell)[0])
        return found or [np.zeros((1, self.measured))]

    def specs(self) -> dict[str, ArraySpec]:
        """`vector`: float32 [n]."""
        channels = self.measured
        pairs = channels * (channels - 1) // 2 if channels <= _CORRELATED else 0
        size = self.state["biases"].size + channels * self._figures + pairs + 2
        return {"vector": ArraySpec("float32", (size,))}

    def blank(self) -> dict[str, np.ndarray]:
        """All unknown."""
        return {"vector": np.full(self.specs()["vector"].shape, np.nan, np.float32)}

    @property
    def _figures(self) -> int:
        """Figures of each channel."""
        return min(len(NAMES), self.config.figures // self.measured)

    def load(self, cell: Any) -> dict[str, np.ndarray]:
        """One series → its vector; NaN where a channel has no samples.

        Raises:
            BadCell: If it cannot be read, is over the limits, or has other channels than the training series.
        """
        values, missing = self._shortened(cell)
        share = positive_share(self._responses(values), self.state["biases"])
        described = figures(values)[:, : self._figures]
        described[missing.all(0)] = np.nan
        parts = [share.ravel(), described.ravel(), _correlations(values), [np.log(len(values)), missing.mean()]]
        return {"vector": np.concatenate(parts).astype(np.float32)}

    def _shortened(self, cell: Any) -> tuple[np.ndarray, np.ndarray]:
        """Standardised samples and which of them were missing, [time, channels]; at most `max_length` steps."""
        values, missing = self.standard(cell)
        if len(values) > self.config.max_length:
            values, missing = (resample(array, self.config.max_length) for array in (values, missing))
        return values, missing

    def _responses(self, values: np.ndarray) -> np.ndarray:
        """What every convolution answers at every step, [convolutions, time]."""
        views = [values.T.astype(np.float32)]  # [channels, time]
        if self.config.differences:
            views.append(np.diff(views[0], axis=1, prepend=views[0][:, :1]))
        pairs = [(view, dilation) for view in views for dilation in self.state["dilations"]]
        subsets = self.state["subsets"].reshape(len(pairs), len(KERNELS), -1).astype(np.float32)
        return np.concatenate(
            [convolve(subset @ view, dilation) for subset, (view, dilation) in zip(subsets, pairs, strict=True)]
        )


def _subsets(rows: int, channels: int, generator: np.random.Generator) -> np.ndarray:
    """Which channels each convolution adds up: 1 to 9 of them, few as often as many. Bool [rows, channels]."""
    most = min(channels, 9)
    sizes = (2 ** generator.uniform(0, np.log2(most + 1), rows)).astype(int)
    order = generator.permuted(np.tile(np.arange(channels), (rows, 1)), axis=1)
    return order < sizes[:, None]


def _correlations(values: np.ndarray) -> np.ndarray:
    """Correlation of every pair of channels; none where there are many channels."""
    channels = values.shape[1]
    if channels > _CORRELATED:
        return np.empty(0)
    centred = values - values.mean(0)
    unit = centred / np.maximum(np.sqrt((centred**2).sum(0)), 1e-6)
    return (unit.T @ unit)[np.triu_indices(channels, 1)]
