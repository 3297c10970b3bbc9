"""Histograms, figures and projections: a shift is found, no shift is not."""

from __future__ import annotations

import numpy as np
import pytest

from automm.api import ArraySpec, InputInfo, Processor
from automm.core.figures import Figure, of_arrays, of_cells, of_files, of_text
from automm.runtime.drift import Reference, compare
from automm.runtime.histograms import BINS, Seen, histogram
from automm.runtime.projections import Watched, learn_scale, pooled, projections


def seen(reference, *contents):
    """Counts contents against the histogram of a reference."""
    counted = Seen(histogram("input", "x", "value", reference))
    for content in contents:
        counted.add(content)
    return counted


def numbers(values):
    return Figure("number", [None if np.isnan(value) else float(value) for value in values])


def names(values):
    return Figure("category", list(values))


def test_bins_hold_equally_many_rows():
    found = histogram("input", "x", "value", numbers(np.random.default_rng(0).lognormal(size=2000)))
    assert len(found.counts) == BINS
    assert min(found.counts) == max(found.counts) == 200
    assert found.labels[0].startswith("≤")
    assert found.labels[-2].startswith(">")


def test_few_different_numbers_get_a_bin_each():
    found = histogram("input", "x", "value", numbers(np.array([0, 0, 0, 1, 2, 2, np.nan])))
    assert found.edges == (0.5, 1.5)
    assert found.counts == (3, 1, 2)
    assert found.missing == 1
    assert found.mean == pytest.approx(5 / 6)


def test_an_edge_lies_between_two_values():
    counted = seen(numbers(np.arange(100)), numbers([9.0, 10.0, -1e9, 1e9]))
    assert counted.reference.edges[0] == 9.5
    assert counted.counts.tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_rounding_moves_nothing_over_an_edge(size):
    random = np.random.default_rng(0)
    values = size * random.normal(size=30)[random.integers(0, 30, 400)]
    again = values * (1 + 1e-8 * random.normal(size=400))
    known = histogram("input", "x", "value", numbers(np.concatenate([values, again])))
    assert len(known.counts) <= BINS
    for content in (values, again):
        counted = Seen(known)
        counted.add(numbers(content))
        assert (2 * counted.counts).tolist() == list(known.counts)


def test_an_outlier_costs_no_bins():
    values = np.concatenate([np.random.default_rng(0).normal(size=1000), [1e12]])
    assert len(histogram("input", "x", "value", numbers(values)).counts) == BINS


def test_names_beyond_the_known_ones():
    counted = seen(names("aabbc"), names(["a", "d", None, "d"]))
    assert counted.reference.names == ("a", "b", "c")
    assert counted.counts.tolist() == [1, 0, 0, 2]
    assert counted.missing == 1
    assert counted.others == {"d": 2}


def test_lists_count_every_item():
    found = histogram("input", "x", "items", names([["a", "b"], ["a"], [], None]))
    assert dict(zip(found.names, found.counts, strict=False)) == {"a": 2, "b": 1}
    assert found.missing == 1


@pytest.mark.parametrize("rows", [60, 300, 2000])
def test_no_shift_is_hardly_ever_found(rows):
    random = np.random.default_rng(rows)
    reference = numbers(random.normal(size=1000)), names(random.choice(list("abcde"), 1000))
    alarms = 0
    for _ in range(40):
        counted = [
            seen(reference[0], numbers(random.normal(size=rows))),
            seen(reference[1], names(random.choice(list("abcde"), rows))),
        ]
        alarms += any(found.status != "stable" for found in compare(counted))
    assert alarms <= 2


def test_shifts_are_found_and_named():
    random = np.random.default_rng(0)
    reference = numbers(random.normal(10, 2, 1000))
    (higher,) = compare([seen(reference, numbers(random.normal(12, 2, 200)))])
    assert higher.status == "drift"
    assert higher.psi > 0.5
    assert higher.ks > 0.3
    assert higher.p < 1e-6
    before, after = (float(part) for part in higher.words.removeprefix("mean ").split(" → "))
    assert before == pytest.approx(10, abs=0.2)
    assert after == pytest.approx(12, abs=0.4)
    (fewer,) = compare(
        [seen(reference, numbers(np.where(random.random(300) < 0.4, np.nan, random.normal(10, 2, 300))))]
    )
    assert fewer.status == "drift"
    assert "missing 0% → 4" in fewer.words or "missing 0% → 3" in fewer.words
    (strange,) = compare([seen(names("ab" * 300), names("abt" * 50))])
    assert strange.status == "drift"
    assert "others 0% → 33% ('t')" in strange.words


def test_the_threshold_divides_moderate_from_drift():
    random = np.random.default_rng(1)
    counted = seen(numbers(random.normal(size=4000)), numbers(random.normal(0.4, 1, 4000)))
    (found,) = compare([counted])
    assert 0.1 < found.psi < 0.2
    assert found.status == "moderate"
    assert compare([counted], 0.12)[0].status == "drift"


def test_few_rows_tell_nothing():
    (found,) = compare([seen(numbers(np.arange(500)), numbers(np.full(20, 1e6)))])
    assert found.status == "unknown"


def test_text_figures():
    found = of_text(["Room 12!", None, ""])
    assert {name: content.values[0] for name, content in found.items()} == pytest.approx(
        {"characters": 8, "words": 2, "capitals": 1 / 8, "digits": 2 / 8, "signs": 1 / 8, "beyond ASCII": 0}
    )
    assert all(content.values[1:] == [None, None] for content in found.values())


def test_figures_by_what_cells_are(tmp_path):
    assert of_cells([1, 2.5, None])["value"].values == [1.0, 2.5, None]
    found = of_cells([[1, 3], None, [None, 5, 7]])
    assert found["length"].values == [2, None, 3]
    assert found["mean"].values == [2, None, 6]
    assert found["deviation"].values == [1, None, 1]
    (tmp_path / "a.bin").write_bytes(b"12345")
    assert of_files([tmp_path / "a.bin", b"123", None])["bytes"].values == [5, 3, None]


SPECS = {
    "wave": ArraySpec("float32", ("time",)),
    "ids": ArraySpec("int64", ("time",)),
    "mask": ArraySpec("bool", ("time",)),
    "pixels": ArraySpec("uint8", (2, 2)),
    "vector": ArraySpec("float32", (3,)),
}


class Everything(Processor):
    """Gives an array of every kind."""

    op = "test.everything"

    def specs(self):
        return SPECS

    def load(self, cell):
        raise AssertionError


def arrays(padding: int):
    """Two rows, with more or less padding."""
    pad = lambda rows: np.stack([np.pad(np.array(row), (0, 3 + padding - len(row))) for row in rows])  # noqa: E731
    return {
        "wave": pad([[1.0, 3.0], [2.0, 2.0, 5.0]]).astype(np.float32),
        "ids": pad([[7, 9], [4, 7, 7]]),
        "mask": pad([[1, 1], [1, 1, 1]]).astype(bool),
        "pixels": np.array([[[10, 30], [10, 30]], [[5, 5], [5, 5]]], np.uint8),
        "vector": np.array([[1.0, np.nan, 2.0], [0.0, 4.0, 2.0]], np.float32),
    }


def test_figures_of_arrays_do_not_depend_on_padding():
    few, many = of_arrays(arrays(0), SPECS), of_arrays(arrays(9), SPECS)
    assert few == many
    assert few["wave mean"].values == [2.0, 3.0]
    assert few["ids length"].values == [2.0, 3.0]
    assert few["pixels mean"].values == [20.0, 5.0]
    assert few["pixels deviation"].values == [10.0, 0.0]
    assert not any(name.startswith(("mask", "vector")) for name in few)


def test_projections_do_not_depend_on_padding_and_stay_the_same():
    item = Watched("photo", "photo", ("photo",), Everything(Everything.Config()))
    vectors = [pooled(item, {f"photo.{name}": a for name, a in arrays(padding).items()}) for padding in (0, 9)]
    np.testing.assert_array_equal(*vectors)
    scale = learn_scale(vectors[0])
    found = projections("photo", vectors[0], np.array([True, False]), scale)
    assert list(found) == [f"component {at}" for at in range(1, 9)]
    first = [content.values[0] for content in found.values()]
    assert all(content.values[1] is None for content in found.values())
    # The signs come from a hash: packages of years ago must find the same components.
    signs = np.sign(first).astype(int).tolist()
    assert signs == [1, -1, 1, 1, -1, -1, -1, 1]


def test_a_shift_of_what_the_model_reads_is_found():
    random = np.random.default_rng(0)
    before = random.normal(size=(1000, 40)).astype(np.float32)
    scale = learn_scale(before)
    on = np.ones(1000, bool)
    known = projections("x", before, on, scale)
    for after, status in ((random.normal(size=(400, 40)), "stable"), (random.normal(0.5, 1, (400, 40)), "drift")):
        found = projections("x", after.astype(np.float32), on[:400], scale)
        assert compare([seen(known[name], found[name]) for name in known])[0].status == status


def test_tabular_columns_are_watched_by_type():
    from automm_tabular.processor import Table

    info = InputInfo("t", "tabular", ("n", "c", "d", "l"))
    types = {"n": "number", "c": "category", "d": "date", "l": "list"}
    table = Table(Table.Config(columns=info.columns, types=types))
    cells = {"n": ["1,200", None], "c": ["3.0", "x"], "d": ["1971-01-01", None], "l": ["a|b", None]}
    table.fit([cells])
    found = {name: table.figures(name, values, {}) for name, values in cells.items()}
    assert found["n"]["value"] == Figure("number", [1200.0, None])
    assert found["c"]["value"] == Figure("category", ["3", "x"])
    assert found["d"]["year"].values[0] == pytest.approx(365 / 365.2425)
    assert found["l"]["items"] == Figure("category", [["a", "b"], None])


def test_reference_survives_its_file():
    known = histogram("input", "<script>", "value", numbers(np.arange(50)))
    reference = Reference(rows=50, scales={}, histograms=(known,))
    assert Reference.model_validate_json(reference.dump()) == reference
    with pytest.raises(ValueError, match="do not fit"):
        Reference.model_validate_json(reference.dump().replace(b'"counts": [5', b'"counts": [5, 5'))
