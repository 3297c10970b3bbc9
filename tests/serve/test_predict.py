"""`/predict`: forms of requests and answers, refusals, and what stands around them."""

from __future__ import annotations

import asyncio
import gzip
import json

import numpy as np
import pytest

from automm.runtime.predictor import load
from serve.conftest import encoded
from serve.packages import NAMES, picture, row


@pytest.fixture(scope="module")
def expected(package):
    """What the predictor itself says of complete rows."""
    predictor = load(package, threads=1)
    return lambda rows: predictor.predict(rows).rows


def same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            if isinstance(value, float):
                assert one[name] == pytest.approx(value, abs=1e-6)
            else:
                assert one[name] == value


def test_one_row_several_rows_and_rows_by_name(ask, expected):
    titles = ["sun beach", "ice", None, "maybe maybe snow"]
    wanted = expected([row(title) for title in titles])
    assert wanted[0]["prediction"] == "warm"
    assert wanted[1]["prediction"] == "cold"
    rows = [encoded(title=title) for title in titles]

    async def check(client):
        one = await client.predict(rows[0])
        assert one.status_code == 200
        assert one.json()["model"] == "weather"
        assert one.json()["version"] == "1"
        same(one.json()["predictions"], wanted[:1])
        same((await client.predict(rows)).json()["predictions"], wanted)
        same((await client.predict({"rows": rows}, "/models/weather/predict")).json()["predictions"], wanted)
        same((await client.predict(rows, "/models/weather/versions/1/predict")).json()["predictions"], wanted)

    ask(check)


def test_forms_with_files(ask, expected):
    wanted = expected([row("ice", weight="2.5", photo=picture(10))])

    async def check(client):
        cells = {"title": "ice", "weight": "2.5", "colour": "red", "note": "not read"}
        files = {"photo": ("x.png", picture(10), "image/png")}
        same((await client.http.post("/predict", data=cells, files=files)).json()["predictions"], wanted)
        nothing = await client.http.post("/predict", data=cells, files={"photo": ("", b"", "image/png")})
        same(nothing.json()["predictions"], expected([row("ice", weight="2.5", photo=None)]))
        twice = await client.http.post("/predict", files=[("photo", picture()), ("photo", picture())])
        assert (twice.status_code, "twice" in twice.json()["error"]) == (400, True)
        damaged = await client.http.post(
            "/predict", content=b"--x\r\n", headers={"content-type": "multipart/form-data; boundary=y"}
        )
        assert damaged.status_code == 400

    ask(check)


def test_a_bad_row_is_refused_by_name_and_its_neighbours_are_not(ask, expected):
    rows = [encoded(title="sun"), encoded(weight="heavy"), encoded(title="ice"), encoded(photo="http://host/x.png")]

    async def check(client):
        answer = await client.predict(rows)
        assert answer.status_code == 200
        found = answer.json()["predictions"]
        assert [one["prediction"] for one in found] == ["warm", None, "cold", None]
        assert "column 'weight': 'heavy' is not a number" in found[1]["error"]
        assert "http addresses are not read" in found[3]["error"]
        same([found[0], found[2]], expected([row("sun"), row("ice")]))
        none = await client.predict([rows[1]])
        assert none.status_code == 422
        assert "weight" in none.json()["error"]
        assert none.json()["predictions"][0]["prediction"] is None
        both = await client.predict([rows[1], encoded(photo={"file": "x"})])
        assert both.status_code == 422
        assert "none of 2 rows" in both.json()["error"]
        assert '{"base64"' in both.json()["predictions"][1]["error"]

    ask(check)


def test_columns_left_out(ask, post):
    async def check(client):
        absent = await client.predict([{"title": "sun"}])
        assert absent.status_code == 422
        assert "3 columns" in absent.json()["error"]
        assert "'weight', 'colour', 'photo'" in absent.json()["error"]
        assert (await client.predict([{"title": "sun"}], "/predict?allow_missing=true")).status_code == 200
        # A column that some row has is known; the others miss a cell.
        assert (await client.predict([encoded(), {"title": "sun"}])).status_code == 200

    ask(check)
    assert post([{"title": "sun"}], settings={"allow_missing": True})[0] == 200


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"[", 400, "not strict JSON (line 1, column 2)"),
        (b'[{"title": NaN}]', 400, "not strict JSON"),
        (b'[{"weight": 1e999}]', 400, "not strict JSON"),
        (b"[1, 2]", 400, "send one row as an object"),
        (b'"sun"', 400, "send one row"),
        (b"[]", 422, "no rows"),
        (b"\xff\xfe{}", 400, "not strict JSON"),
    ],
)
def test_malformed_bodies(post, body, status, words):
    found = post(content=body, headers={"content-type": "application/json"})
    assert found[0] == status
    assert words in found[1]["error"]


def test_content_types_and_encodings(ask):
    body = json.dumps([encoded()]).encode()

    async def check(client):
        async def send(content, **headers):
            found = await client.http.post("/predict", content=content, headers=headers)
            return found.status_code, found.json().get("error", "")

        headers = {"content-type": "application/json; charset=utf-8"}
        assert (await send(body, **headers))[0] == 200
        assert (await send(gzip.compress(body), **headers, **{"content-encoding": "gzip"}))[0] == 200
        status, error = await send(body, **headers, **{"content-encoding": "br"})
        assert (status, "'br'" in error) == (415, True)
        status, error = await send(gzip.compress(body)[:-9], **headers, **{"content-encoding": "gzip"})
        assert (status, "cut off" in error) == (400, True)
        for kind in ("text/plain", "application/x-www-form-urlencoded", "image/png", ""):
            status, error = await send(body, **{"content-type": kind})
            assert (status, "send application/json or multipart/form-data" in error) == (415, True), kind

    ask(check)


def test_unknown_paths_models_methods(ask):
    async def check(client):
        for path, status in {
            "/nothing": 404,
            "/models/sea/predict": 404,
            "/models/weather/versions/7/predict": 404,
        }.items():
            found = await client.predict([encoded()], path)
            assert found.status_code == status, path
            assert found.json()["error"]
        wrong = await client.http.get("/predict")
        assert wrong.status_code == 405
        assert wrong.json()["error"] == "Method Not Allowed"

    ask(check)


def test_every_answer_is_labelled_and_nothing_is_cached(ask):
    async def check(client):
        found = await client.http.get("/v2", headers={"x-request-id": "abc-1"})
        assert found.headers["x-request-id"] == "abc-1"
        assert found.headers["cache-control"] == "no-store"
        assert found.headers["x-content-type-options"] == "nosniff"
        other = await client.http.get("/v2", headers={"x-request-id": "a b\t<c>"})
        assert len(other.headers["x-request-id"]) == 16

    ask(check)


def test_batched_answers_equal_single_ones(ask, expected):
    """Texts of different lengths are padded together; nobody's answer depends on neighbours."""
    rng = np.random.default_rng(0)
    words = ["snow", "sun", "maybe", "heat", "stone"]
    titles = [" ".join(rng.choice(words, rng.integers(1, 40))) for _ in range(40)]
    wanted = expected([row(title, photo=picture(at)) for at, title in enumerate(titles)])
    single = [expected([row(title, photo=picture(at))])[0] for at, title in enumerate(titles)]
    same(wanted, single)

    async def check(client):
        bodies = [[encoded(title=title, photo=picture(at))] for at, title in enumerate(titles)]
        answers = await asyncio.gather(*[client.predict(body) for body in bodies])
        same([answer.json()["predictions"][0] for answer in answers], single)
        text = client.app.metrics.text().decode()
        runs = float(next(line for line in text.splitlines() if "batch_rows_count" in line).split()[-1])
        assert runs < 20, "requests shared runs"

    ask(check)


def test_all_names_of_the_classes_come_back(post):
    assert [name for name in post([encoded()])[1]["predictions"][0] if name.startswith("probability_")] == [
        f"probability_{name}" for name in NAMES
    ]
