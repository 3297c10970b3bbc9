"""ROCKET vectors: kernels by hand, figures of known series, learning from both, and what is unusual."""

import numpy as np
import pytest
from automm_timeseries.figures import NAMES, figures
from automm_timeseries.kernels import KERNELS, convolve, dilations, positive_share
from automm_timeseries.rocket import Rocket
from automm_timeseries.rocket_vector import RocketVector

from automm.api import BadCell, InputInfo

INFO = InputInfo("log", "series", ("log",))


def fitted(cells, **fields) -> Rocket:
    processor = RocketVector.processor(RocketVector.Config(**fields), INFO)
    processor.fit([cells[:7], cells[7:]])
    return processor


def waves(count: int, seed: int, channels: int = 2) -> tuple[list[np.ndarray], np.ndarray]:
    """Noise with a sawtooth or its mirror image: the same spectrum, level and spread."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 2
    cells = []
    for kind in label:
        time = np.arange(rng.integers(50, 90)) + rng.integers(0, 12)
        saw = (time % 12) / 6 - 1
        values = rng.normal(0, 0.4, (len(time), channels))
        values[:, -1] += -saw if kind else saw
        cells.append(values)
    return cells, label


# Kernels


def test_the_dictionary():
    assert KERNELS.shape == (84, 9)
    assert len({tuple(kernel) for kernel in KERNELS}) == 84
    assert (KERNELS.sum(1) == 0).all()
    assert ((KERNELS == 2).sum(1) == 3).all()
    assert KERNELS[0].tolist() == [2, 2, 2, -1, -1, -1, -1, -1, -1]


def test_a_kernel_by_hand():
    series = np.zeros((84, 12), np.float32)
    series[0, 4] = 1
    # The first kernel reads three steps at distances -4, -3, -2 with weight 2: they see step 4 from 8, 7 and 6.
    assert convolve(series, 1)[0].tolist() == [-1, -1, -1, -1, -1, -1, 2, 2, 2, 0, 0, 0]
    # At dilation 2 the distances are -8, -6, -4, … 8, so only even steps see it.
    assert convolve(series, 2)[0].tolist() == [-1, 0, -1, 0, -1, 0, -1, 0, 2, 0, 2, 0]
    shares = positive_share(convolve(series, 1)[:1], np.array([[0, -1, -2, 2]]))
    np.testing.assert_allclose(shares, [[3 / 12, 6 / 12, 1, 0]])


@pytest.mark.parametrize("dilation", [1, 3])
def test_convolution_agrees_with_numpy(dilation):
    series = np.random.default_rng(0).normal(size=(84, 40)).astype(np.float32)
    reach = 4 * dilation
    for row in (0, 17, 83):
        spread = np.zeros(2 * reach + 1)
        spread[::dilation] = KERNELS[row]
        expected = np.correlate(np.pad(series[row], reach, mode="edge"), spread, "valid")
        np.testing.assert_allclose(convolve(series, dilation)[row], expected, atol=1e-5)


def test_constant_series_give_nothing_at_any_length():
    for time in (1, 2, 5, 30):
        np.testing.assert_array_equal(convolve(np.full((84, time), 7, np.float32), 4), np.zeros((84, time)))


def test_dilations_fit_the_series():
    assert dilations(128, 6) == [1, 2, 4, 8]
    assert dilations(1000, 3) == [1, 2, 4]
    assert dilations(1, 6) == dilations(16, 6) == [1]
    assert dilations(17, 6) == [1, 2]


# Figures


def by_name(values) -> dict[str, np.ndarray]:
    found = figures(np.asarray(values, np.float64))
    assert found.shape == (np.shape(values)[1], len(NAMES))
    return dict(zip(NAMES, found.T.tolist(), strict=True))


def test_figures_of_a_ramp():
    ramp = np.column_stack([np.arange(41) / 10, -np.arange(41) / 5])
    found = by_name(ramp)
    expected = {"mean": [2, -4], "slope": [4, -8], "line_end": [4, -8], "min": [0, -8], "max": [4, 0]}
    expected |= {"last": [4, -8], "last_5": [3.8, -7.6], "last_10": [3.55, -7.1], "last_20": [3.05, -6.1]}
    expected |= {"last_quarter": [3.55, -7.1], "last_quarter_slope": [0.9, -1.8], "last_half_slope": [2.0, -4.0]}
    expected |= {"first_quarter": [0.45, -0.9], "step_std": [0.1, 0.2], "quantile_25": [1, -6], "skewness": [0, 0]}
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5, err_msg=name)


def test_figures_of_a_wave():
    time = np.arange(64)
    wave = 3 * np.sqrt(2) * np.sin(2 * np.pi * time / 8 + 0.1)[:, None]  # an eighth of a cycle a step
    found = by_name(wave)
    assert found["std"][0] == pytest.approx(3)
    assert found["energy"][0] == pytest.approx(np.log(9), abs=1e-5)
    assert found["autocorrelation_8"][0] == pytest.approx(56 / 64)  # a whole period, eight steps short
    assert found["autocorrelation_4"][0] == pytest.approx(-60 / 64)
    assert found["crossings"][0] == pytest.approx(15 / 64, abs=0.01)
    bands = [found[f"band_{band}"][0] for band in range(8)]
    assert np.argmax(bands) == 5  # the band from 1/16 to 1/8
    assert sum(np.exp(bands)) == pytest.approx(9, rel=1e-4)
    assert found["kurtosis"][0] == pytest.approx(1.5, abs=1e-4)


def test_figures_of_one_point_and_of_a_constant_are_finite():
    for values in ([[5.0]], [[5.0]] * 30, [[1.0], [2.0]]):
        found = figures(np.array(values))
        assert np.isfinite(found).all()
        assert found[0, NAMES.index("last")] == values[-1][0]


# The vector


def test_the_vector_holds_what_it_says():
    cells, _ = waves(30, 0)
    processor = fitted(cells)
    assert processor.state["dilations"] == [1, 2, 4]
    size = 2 * 3 * 84
    assert processor.specs()["vector"].shape == (size + 2 * len(NAMES) + 1 + 2,)
    vector = processor.load(cells[3])["vector"]
    assert vector.dtype == np.float32
    assert ((vector[:size] >= 0) & (vector[:size] <= 1)).all()
    standard = (cells[3] - processor.state["mean"]) / processor.state["std"]
    np.testing.assert_allclose(vector[size : size + len(NAMES)], figures(standard)[0], rtol=1e-4, atol=1e-4)
    assert vector[-3] == pytest.approx(np.corrcoef(cells[3].T)[0, 1], abs=1e-5)
    assert vector[-2:].tolist() == pytest.approx([np.log(len(cells[3])), 0])
    # Biases are quantiles of the responses, spread evenly: on average half of the steps exceed them.
    shares = np.stack([processor.load(cell)["vector"][:size] for cell in cells])
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.std() > 0.2
    assert sum(array.nbytes for array in processor.state.values() if isinstance(array, np.ndarray)) < 10_000


def test_shares_follow_biases_and_subsets():
    processor = fitted(waves(10, 0)[0], dilations=1, differences=False, figures=0)
    cell = waves(1, 5)[0][0]
    row = 11
    standard = (cell - processor.state["mean"]) / processor.state["std"]
    mixed = standard[:, processor.state["subsets"][row]].sum(1)
    response = np.correlate(np.pad(mixed, 4, mode="edge"), KERNELS[row], "valid")
    expected = (response > processor.state["biases"][row, 0]).mean()
    assert processor.load(cell)["vector"][row] == pytest.approx(expected, abs=0.02)
    assert processor.state["subsets"].sum(1).min() == 1
    assert processor.state["subsets"].sum(1).max() == 2


@pytest.mark.parametrize("fields", [{}, {"figures": 0}])
def test_shape_is_told_apart_where_spectra_agree(fields):
    (cells, label), (other, truth) = waves(60, 0), waves(40, 1)
    processor = fitted(cells, **fields)
    train, test = processor(cells)["vector"], processor(other)["vector"]
    scale = np.maximum(train.std(0), 1e-3)
    train, test = ((x - train.mean(0)) / scale for x in (train, test))
    weights = train.T @ np.linalg.solve(train @ train.T + 100 * np.eye(len(train)), 2 * label - 1)  # ridge regression
    assert ((test @ weights > 0) == truth).mean() > 0.95


def test_level_is_told_apart_by_figures_alone():
    rng = np.random.default_rng(0)
    level = rng.uniform(-1, 1, 200)
    cells = [rng.normal(size=(20 + at % 7, 1)) + np.linspace(0, a, 20 + at % 7)[:, None] for at, a in enumerate(level)]
    vectors = fitted(cells, dilations=1)(cells)["vector"]
    slope = vectors[:, 2 * 84 + NAMES.index("slope")]
    assert np.corrcoef(slope, level)[0, 1] > 0.5
    shares = vectors[:, : 2 * 84]
    assert abs(np.corrcoef(shares.mean(1), level)[0, 1]) < 0.4


def test_many_channels_keep_the_first_figures():
    rng = np.random.default_rng(0)
    cells = [rng.normal(size=(10, 300)) for _ in range(8)]
    processor = fitted(cells)
    assert processor.specs()["vector"].shape == (168 + 300 * 3 + 2,)
    assert processor.state["subsets"].sum(1).max() <= 9
    assert processor.load(cells[0])["vector"].shape == (168 + 900 + 2,)


# What is unusual


def test_missing_samples_and_cells():
    cells, _ = waves(12, 0)
    gappy = cells[0].copy()
    gappy[5:9, 0] = np.nan
    processor = fitted([gappy, *cells[1:], None, "[broken"])
    assert processor.load(gappy)["vector"][-1] == pytest.approx(4 / gappy.size)
    assert np.isfinite(processor.load(gappy)["vector"]).all()
    gappy[:, 0] = np.nan
    vector = processor.load(gappy)["vector"]
    first = processor.state["biases"].size
    assert np.isnan(vector[first : first + len(NAMES)]).all()
    assert np.isfinite(vector[first + len(NAMES) :]).all()
    batch = processor([cells[1], None])["vector"]
    assert np.isnan(batch[1]).all()
    assert np.isfinite(batch[0]).all()
    with pytest.raises(BadCell, match="3 channels"):
        processor.load(np.zeros((4, 3)))


def test_one_point_and_long_series():
    cells, _ = waves(12, 0)
    processor = fitted(cells, max_length=64)
    assert np.isfinite(processor.load([[1.0, 2.0]])["vector"]).all()
    long = np.concatenate([np.full((500, 2), 9.0), cells[0][:64]])
    tail = np.concatenate([np.full((14, 2), 9.0), cells[0][:50]])[-64:]
    np.testing.assert_array_equal(processor.load(long[:-14])["vector"], processor.load(tail)["vector"])
    averaged = fitted(cells, max_length=64, longer="resample")
    twice = np.repeat(cells[0][:64], 2, axis=0)
    np.testing.assert_allclose(
        averaged.load(twice)["vector"], averaged.load(cells[0][:64])["vector"], atol=0.02, rtol=1e-3
    )


def test_series_of_one_point_can_be_all_there_is():
    processor = fitted([[[1.0]], [[2.0]], [[4.0]]])
    vector = processor.load([[2.0]])["vector"]
    assert np.isfinite(vector).all()
    assert vector[2 * 84] == pytest.approx((2 - 7 / 3) / np.std([1, 2, 4]))


def test_the_same_series_give_the_same_vector():
    cells, _ = waves(20, 0)
    first, second = fitted(cells), fitted(cells)
    np.testing.assert_array_equal(first(cells)["vector"], second(cells)["vector"])
    again = Rocket(first.config, first.state)
    np.testing.assert_array_equal(again(cells)["vector"], first(cells)["vector"])
