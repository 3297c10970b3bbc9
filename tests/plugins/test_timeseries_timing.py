"""Series with uneven steps, and tables in JSON and Parquet with dates."""

import io
import json

import numpy as np
import pyarrow as pa
import pytest
from automm_timeseries import timing
from automm_timeseries.rocket import Rocket
from automm_timeseries.values import Values
from pyarrow import parquet

from automm.api import BadCell, DataError


def fitted(cells, **fields) -> Values:
    processor = Values(Values.Config(**fields))
    processor.fit([cells])
    return processor


def table(times, values, name="time") -> bytes:
    return (f"{name},v\n" + "\n".join(f"{t},{v}" for t, v in zip(times, values, strict=True))).encode()


UNEVEN = [table([0, 10, 20, 50], [0, 1, 2, 5]), table([0, 10, 20, 30], [1, 2, 3, 4])]


def physical(processor: Values, cell) -> np.ndarray:
    """The value channel in its own units."""
    values = processor.load(cell)["values"]
    return values[:, -1] * processor.state["std"][-1] + processor.state["mean"][-1]


# The parts


def test_interval_and_evenness():
    assert timing.interval(np.array([0, 1, 1, 2, 9.0])) == 1
    assert timing.interval(np.array([3.0])) == 1
    assert not timing.is_uneven(np.array([0, 1.01, 2, 3]))
    assert timing.is_uneven(np.array([0, 1, 2, 4.0]))


def test_gaps_are_logarithms_of_distances():
    expected = [0, 0, np.log(3), -5, 5]
    np.testing.assert_allclose(timing.gaps(np.array([7, 9, 15, 15, 1e6]), 2.0), expected)


def test_grid_by_hand():
    time, values = np.array([0, 1, 1.5, 5]), np.array([[0, 1], [10, np.nan], [15, 1], [50, 1]])
    found = timing.to_grid(values, time, 1.0, 10, last=True)
    # Step 3 is 1.5 from its nearest sample; the gap of the second channel at step 1 has one near.
    np.testing.assert_allclose(found[:, 0], [0, 10, 20, np.nan, 40, 50])
    np.testing.assert_allclose(found[:, 1], [1, 1, 1, np.nan, 1, 1])
    np.testing.assert_allclose(timing.to_grid(values, time, 1.0, 2, last=True)[:, 0], [40, 50])
    np.testing.assert_allclose(timing.to_grid(values, time, 1.0, 3, last=False)[:, 0], [0, 25, 50])
    np.testing.assert_allclose(timing.to_grid(values[:1], time[:1], 1.0, 3, last=True), [[0, 1]])


def test_a_grid_over_an_endless_pause_stays_small():
    found = timing.to_grid(np.ones((2, 1)), np.array([0, 1e15]), 1e-3, 50, last=True)
    assert found.shape == (50, 1)


# In the processor


def test_uneven_steps_become_a_channel():
    processor = fitted(UNEVEN)
    assert (processor.state["timing"], processor.state["axis"], processor.state["interval"]) == ("gaps", "time", 10)
    values = processor.load(UNEVEN[0])["values"]
    assert processor.specs()["values"].shape == ("time", 3)
    np.testing.assert_allclose(values[:, 2], [0, 0, 0, np.log(3)], rtol=1e-6)
    np.testing.assert_allclose(fitted(UNEVEN, max_length=2).load(UNEVEN[0])["values"][:, 2], [0, np.log(3)], rtol=1e-6)


def test_even_steps_and_series_without_time_stay_as_they_are():
    even = [table(range(5), range(5)), table(range(3), range(3))]
    assert fitted(even).state["timing"] == "steps"
    assert fitted(even).load(even[0])["values"].shape == (5, 2)
    assert fitted([[1, 2, 3]]).state["timing"] == "steps"
    assert fitted(UNEVEN, timing="steps").load(UNEVEN[0])["values"].shape == (4, 2)


def test_uneven_steps_become_a_grid():
    processor = fitted(UNEVEN, timing="grid")
    np.testing.assert_allclose(physical(processor, UNEVEN[0]), [0, 1, 2, 3, 4, 5], atol=1e-5)
    np.testing.assert_allclose(physical(processor, table([0, 5, 12, 20], [0, 0.5, 1.2, 2])), [0, 1, 2], atol=1e-5)
    short = fitted(UNEVEN, timing="grid", max_length=3)
    np.testing.assert_allclose(physical(short, UNEVEN[0]), [3, 4, 5], atol=1e-5)
    whole = fitted(UNEVEN, timing="grid", max_length=3, longer="resample")
    np.testing.assert_allclose(physical(whole, UNEVEN[0]), [0, 2.5, 5], atol=1e-5)


def test_grid_points_without_a_sample_are_flagged():
    gap = table([0, 10, 20, 60], [0, 1, None, 6]).replace(b"None", b"")
    processor = fitted([gap, UNEVEN[1]], timing="grid")
    found = processor.load(gap)["values"]
    assert processor.channels == 3
    np.testing.assert_allclose(found[:, 2], [0, 0, 0, 0.5, 1, 0, 0], atol=1e-6)  # the clock counts as a channel
    np.testing.assert_allclose(
        found[:, 1] * processor.state["std"][1] + processor.state["mean"][1], range(7), atol=1e-5
    )


def days(numbers, form="2024-03-{:02d}") -> list[str]:
    return [form.format(number) for number in numbers]


def test_dates_are_a_time_axis_in_any_order():
    ahead = table(days([1, 2, 3, 6]), [0, 1, 2, 5], "when")
    back = table(days([6, 3, 2, 1]), [5, 2, 1, 0], "when")
    other = table(days([1, 2, 3, 4]), [1, 2, 3, 4], "when")
    processor = fitted([ahead, other])
    assert (processor.state["axis"], processor.state["interval"]) == ("when", 86400)
    assert processor.state["columns"] == ["v"]
    np.testing.assert_allclose(processor.load(ahead)["values"][:, 1], [0, 0, 0, np.log(3)], rtol=1e-6)
    np.testing.assert_array_equal(processor.load(back)["values"], processor.load(ahead)["values"])
    stamps = [table(days([1, 2, 3, 6], "2024-03-{:02d}T12:00:00Z"), [0, 1, 2, 5], "when")]
    np.testing.assert_array_equal(processor.load(stamps[0])["values"], processor.load(ahead)["values"])
    grid = fitted([ahead, other], timing="grid")
    assert grid.load(ahead)["values"].shape == (6, 1)
    np.testing.assert_allclose(
        grid.load(ahead)["values"][:, 0] * grid.state["std"][0] + grid.state["mean"][0], range(6), atol=1e-5
    )


def test_a_constant_date_is_no_time_axis():
    cells = [table(days([1, 1, 1]), [0, 2, 1], "born"), table(days([2, 2]), [1, 2], "born")]
    processor = fitted(cells)
    assert (processor.state["timing"], processor.state["axis"]) == ("steps", "")


def test_parquet_dates():
    moments = pa.array(np.array(days([1, 2, 3, 6]), "datetime64[ms]"))
    stream = io.BytesIO()
    parquet.write_table(pa.table({"when": moments, "v": [0.0, 1, 2, 5], "word": ["a", "b", "c", "d"]}), stream)
    text = table(days([1, 2, 3, 6]), [0, 1, 2, 5], "when")
    processor = fitted([text])
    np.testing.assert_array_equal(processor.load(stream.getvalue())["values"], processor.load(text)["values"])


def test_json_tables():
    columns = {"time": [0, 10, 20, 50], "v": [0, "1", 2, 5], "word": ["x", "y", "z", None]}
    records = [{"time": t, "v": v} for t, v in zip(columns["time"], columns["v"], strict=True)]
    processor = fitted(UNEVEN)
    expected = processor.load(UNEVEN[0])["values"]
    np.testing.assert_array_equal(processor.load(json.dumps(columns).encode())["values"], expected)
    np.testing.assert_array_equal(processor.load(json.dumps(records))["values"], expected)
    gap = json.dumps([{"time": 0, "v": 1}, {"time": 10}, {"time": 20, "v": 3}])
    np.testing.assert_array_equal(fitted([gap]).load(gap)["values"][:, -1], [0, 0.5, 0])


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ('{"time": [1, 2], "v": [1]}', "columns of the series have 1 to 2 samples"),
        ('{"time": 3}', "not a list of numbers"),
        ("{}", "not a list of numbers"),
        (b'{"word": ["a", "b"]}', "no column of numbers"),
        (b'[{"time": 1}, 3]', "not a number"),
        ('{"time": [], "v": []}', "no samples"),
        (b'{"time": [[1, 2], [3, 4]]}', "no column of numbers"),
        ([[0, 1], [2, 3]], "no time column 'time'"),
        (b"time,v\n0,1\n,2\n5,3\n", "time column 'time' has a gap at sample 1"),
    ],
)
def test_unusable_tables_are_named(cell, message):
    with pytest.raises(BadCell, match=message):
        fitted(UNEVEN).load(cell)


def test_timing_without_time_is_refused():
    for choice in ("gaps", "grid"):
        with pytest.raises(DataError, match=f"timing: {choice} needs series that are tables"):
            fitted([[1, 2, 3], [4, 5]], timing=choice)


def test_older_state_reads_rows_as_equal_steps():
    state = {"columns": [], "missing": False, "mean": np.zeros(1), "std": np.ones(1)}
    np.testing.assert_array_equal(Values(Values.Config(), state).load([1, 2])["values"], [[1], [2]])


def test_rocket_describes_the_gaps():
    rng = np.random.default_rng(0)
    cells = [table(np.cumsum(rng.uniform(1, 3, 30)).round(3), rng.normal(size=30).round(3)) for _ in range(8)]
    processor = Rocket(Rocket.Config(figures=0))
    processor.fit([cells])
    assert processor.state["subsets"].shape[1] == 3
    regular = table(np.arange(30), rng.normal(size=30).round(3))
    assert processor.load(regular)["vector"].shape == processor.load(cells[0])["vector"].shape
