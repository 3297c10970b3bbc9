"""Reading a cell: GeoJSON, WKT or GPX → positions and times."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from automm.api import BadCell, parse_date, read_media

LARGEST_FILE = 20_000_000
MOST_POINTS = 1_000_000
EARTH = 6_371_008.8
"""Mean radius in metres."""

WKT = re.compile(r"\s*LINESTRING\s*(?:Z|M|ZM)?\s*\((?P<points>[^()]*)\)\s*", re.I)


class Way(NamedTuple):
    """A track.

    Attributes:
        places: Float64 [points, 2]: latitude and longitude in degrees; at least two points.
        seconds: Float64 [points]: seconds since 1970; NaN where no time is known.
    """

    places: np.ndarray
    seconds: np.ndarray


def is_inline(cell: str) -> bool:
    """Whether a string is the track itself and not the path of a file."""
    text = cell.lstrip()[:11].upper()
    return text.startswith(("{", "LINESTRING"))


def read_way(cell: Any) -> Way:
    """The track of a cell.

    Args:
        cell: GeoJSON or WKT as text, or a GPX file as path or bytes.

    Raises:
        BadCell: If it is none of these, is damaged, over a limit, or has fewer than two points.
    """
    if isinstance(cell, Path | bytes | bytearray):
        way = _read_gpx(read_media(cell, LARGEST_FILE))
    elif isinstance(cell, dict):
        way = _read_geojson(cell)
    elif isinstance(cell, str) and len(cell) <= LARGEST_FILE:
        way = _read_text(cell)
    else:
        raise BadCell("a track is GeoJSON, WKT, or the path of a .gpx file")
    points = len(way.places)
    if not 2 <= points <= MOST_POINTS:
        raise BadCell(f"a track has 2 to {MOST_POINTS:,} points, this one has {points:,}")
    latitude, longitude = np.abs(way.places).T
    if not (np.isfinite(way.places).all() and latitude.max() <= 90 and longitude.max() <= 180):
        raise BadCell(
            "latitudes lie within ±90 and longitudes within ±180 degrees; GeoJSON and WKT begin with longitude"
        )
    return way


def _read_text(text: str) -> Way:
    if found := WKT.fullmatch(text):
        return _from_pairs([point.split() for point in found["points"].split(",")])
    try:
        return _read_geojson(json.loads(text))
    except (ValueError, RecursionError):
        raise BadCell(f"not GeoJSON or WKT: {text[:40]!r}") from None


def _read_geojson(found: Any) -> Way:
    times: Any = None
    if isinstance(found, dict) and found.get("type") == "Feature":
        properties = found.get("properties")
        times = properties.get("coordTimes") if isinstance(properties, dict) else None
        found = found.get("geometry")
    if not (
        isinstance(found, dict) and found.get("type") == "LineString" and isinstance(found.get("coordinates"), list)
    ):
        raise BadCell("the GeoJSON is no LineString, nor a Feature of one")
    return _from_pairs(found["coordinates"], times)


def _from_pairs(pairs: list[Any], times: Any = None) -> Way:
    """Points of longitude, latitude and perhaps more."""
    try:
        places = np.array([(float(pair[1]), float(pair[0])) for pair in pairs]).reshape(-1, 2)
    except (IndexError, KeyError, TypeError, ValueError):
        raise BadCell("a point of the track is no pair of numbers") from None
    known = isinstance(times, list) and len(times) == len(pairs)
    return Way(places, np.array([_seconds(time) for time in times]) if known else np.full(len(places), np.nan))


def _read_gpx(data: bytes) -> Way:
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:  # entities could blow up a small file
        raise BadCell("a GPX file has no DOCTYPE")
    try:
        root = ElementTree.fromstring(data)
        points = [point for point in root.iter() if point.tag.rpartition("}")[2] in ("trkpt", "rtept")]
        places = np.array([(float(point.attrib["lat"]), float(point.attrib["lon"])) for point in points]).reshape(-1, 2)
    except (ElementTree.ParseError, KeyError, ValueError) as problem:
        raise BadCell(f"damaged GPX file: {type(problem).__name__} {problem}") from None
    return Way(places, np.array([_seconds(point.findtext("{*}time")) for point in points]))


def _seconds(time: Any) -> float:
    moment = parse_date(time) if isinstance(time, str) else None
    return moment.timestamp() if moment else np.nan


def steps_of(way: Way) -> tuple[np.ndarray, np.ndarray]:
    """East and north of every step in metres, [points - 1, 2], and how long it took in seconds, [points - 1].

    Distances are those of a plane that touches the globe at the step: exact to a thousandth below 100 km.
    """
    radians = np.radians(way.places)
    north, east = np.diff(radians, axis=0).T
    east = (east + np.pi) % (2 * np.pi) - np.pi  # across the date line
    middle = (radians[1:, 0] + radians[:-1, 0]) / 2
    return EARTH * np.stack([east * np.cos(middle), north], 1), np.diff(way.seconds)


def turns_of(steps: np.ndarray) -> np.ndarray:
    """Angle between neighbouring steps in radians, [steps - 1]; left is positive, and 0 where a step has no length."""
    before, after = steps[:-1], steps[1:]
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return np.arctan2(cross, (before * after).sum(1))
