"""What cells mean, what is refused, and which columns are claimed."""

import json
from pathlib import Path

import numpy as np
import pytest
from automm_tracks.figures import NAMES, Figures
from automm_tracks.modality import Track
from automm_tracks.reading import read_way, steps_of, turns_of
from automm_tracks.steps import Steps

from automm.api import BadCell, ColumnProfile

WKT = "LINESTRING (13.0 52.0, 13.0 52.001, 13.001 52.001)"
GEOJSON = json.dumps({"type": "LineString", "coordinates": [[13.0, 52.0], [13.0, 52.001], [13.001, 52.001]]})
POINTS = [(52.0, 13.0, "10:00:00"), (52.001, 13.0, "10:00:20"), (52.001, 13.001, "10:00:40")]
TRKPTS = "".join(f'<trkpt lat="{a}" lon="{o}"><time>2026-05-04T{t}Z</time></trkpt>' for a, o, t in POINTS)
GPX = f'<gpx xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>{TRKPTS}</trkseg></trk></gpx>'.encode()


@pytest.mark.parametrize("cell", [WKT, GEOJSON, GPX], ids=["wkt", "geojson", "gpx"])
def test_formats_give_the_same_way(cell):
    steps, _ = steps_of(read_way(cell))
    # A thousandth of a degree is 111.2 m of latitude, and cos 52° of that in longitude.
    assert steps == pytest.approx(np.array([[0, 111.19], [68.46, 0]]), abs=0.02)
    assert turns_of(steps) == pytest.approx([-np.pi / 2])  # to the right


def test_times_of_gpx_give_speeds():
    figures = dict(zip(NAMES, Figures(Figures.Config()).load(GPX)["vector"], strict=True))
    assert np.expm1(figures["duration"]) == pytest.approx(40, rel=1e-5)
    assert np.expm1(figures["speed_mean"]) == pytest.approx(179.66 / 40, rel=1e-3)
    assert figures["corner_share"] == 1
    without = dict(zip(NAMES, Figures(Figures.Config()).load(WKT)["vector"], strict=True))
    assert np.isnan([without[name] for name in NAMES[-8:]]).all()
    assert not np.isnan([without[name] for name in NAMES[:-8]]).any()


def test_path_of_a_file(tmp_path):
    (tmp_path / "a.gpx").write_bytes(GPX)
    assert len(read_way(tmp_path / "a.gpx").places) == 3


def test_a_step_over_the_date_line_is_short():
    steps, _ = steps_of(read_way("LINESTRING (179.999 0, -179.999 0)"))
    assert steps[0, 0] == pytest.approx(222.4, abs=0.1)


def test_long_tracks_are_thinned_evenly():
    text = f"LINESTRING ({', '.join(f'{at / 1e4:.4f} 0' for at in range(1000))})"
    steps = Steps(Steps.Config(points=10)).load(text)["steps"]
    assert steps.shape == (9, 4)
    assert np.expm1(steps[:, 0] * 5) == pytest.approx([111 * 11.119] * 9, rel=1e-3)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("LINESTRING (13.0 52.0)", "2 to 1,000,000 points"),
        ("LINESTRING (52.0 131.0, 52.0 132.0)", "begin with longitude"),
        ("LINESTRING (a b, c d)", "no pair of numbers"),
        ("a walk", "not GeoJSON or WKT"),
        ('{"type": "Point", "coordinates": [1, 2]}', "no LineString"),
        (b"<gpx><trk>", "damaged GPX"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><gpx/>', "DOCTYPE"),
        (Path("nowhere.gpx"), "file not found"),
    ],
)
def test_bad_cells_say_why(cell, reason):
    with pytest.raises(BadCell, match=reason):
        read_way(cell)


def test_columns_of_tracks_are_claimed():
    assert Track.claim(ColumnProfile("way", "string", 10, sample=(WKT, GEOJSON))).confidence > 0.9
    assert Track.claim(ColumnProfile("way", "string", 10, extensions={".gpx": 1.0}, sample=("a.gpx",))).confidence > 0.9
    assert Track.claim(ColumnProfile("note", "string", 10, sample=("a walk", "{}"))) is None
