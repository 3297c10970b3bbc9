"""The pages: what they hold, that they need nothing from elsewhere, and that they work in a browser."""

from __future__ import annotations

import html.parser
import json
import re

import jsonschema
import pytest
from PIL import Image

from serve.browser import CHROMIUM, Browser
from serve.conftest import encoded
from serve.packages import NAMES, picture
from serve.servers import Served


@pytest.fixture(scope="module")
def shown(package, colder, tmp_path_factory):
    """Two models, one of them with a name that is HTML, and with examples."""
    folder = tmp_path_factory.mktemp("shown")
    with Served(folder, package, f"cold={colder}", "--examples", "--drain", 0) as server:
        yield server


def test_the_document_describes_what_is_accepted_and_answered(shown):
    document = shown.client.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    assert list(document["paths"])[:3] == ["/predict", "/models/cold/predict", "/models/weather/predict"]
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations if "operationId" in operation]
    assert len(names) == len(set(names))

    def check(name, value):
        schema = {"$ref": f"#/components/schemas/weather.{name}", "components": document["components"]}
        return jsonschema.Draft202012Validator(schema).is_valid(value)

    row = encoded()
    assert check("Rows", [row, encoded(title=None, weight="12.5", photo=None)])
    assert check("Rows", row)
    assert check("Rows", {"rows": [row]})
    assert not check("Rows", [])
    assert not check("Rows", [row | {"photo": "http://host/x.png"}])
    assert not check("Rows", [row | {"weight": {"a": 1}}])
    assert not check("Rows", [{"title": "sun"}])
    answer = shown.client.post("/predict", json=[row, row | {"weight": "heavy"}]).json()
    assert check("Answer", answer)
    assert set(document["components"]["schemas"]["weather.Result"]["properties"]) == set(answer["predictions"][0])
    answered = set(re.findall(r"\d{3}", " ".join(document["paths"]["/predict"]["post"]["responses"])))
    assert answered >= {"200", "400", "413", "415", "422", "429", "504"}


class References(html.parser.HTMLParser):
    """Everything that a page would load, and its scripts."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loaded += [value for name, value in attributes if name in ("src", "srcset", "action", "data")]
        self.loaded += [value for name, value in attributes if name == "href" and tag == "link"]


@pytest.mark.parametrize("path", ["/", "/docs", "/?model=cold"])
def test_pages_load_nothing_and_escape_everything(shown, path):
    page = shown.client.get(path)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    found = References(page.text)
    assert found.loaded == ["data:,"]
    assert NAMES[2] not in page.text
    assert "alert(1)" in page.text, "it is there as text"
    assert found.tags.count("script") == (0 if path == "/docs" else 2)
    assert page.headers["x-frame-options"] == "DENY"


def test_examples_are_training_rows_and_shown_only_on_request(served, shown):
    def examples(server):
        text = server.client.get("/").text
        return json.loads(re.search(r'id="model">(.*?)</script>', text, re.S)[1])["examples"]

    assert examples(served) == []
    rows = examples(shown)
    assert [row["title"] for row in rows] == ["sun and beach", "ice maybe"]
    assert rows[1]["weight"] is None
    assert shown.client.post("/predict", json=rows).status_code == 200


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def test_a_prediction_in_the_browser(shown, browser, tmp_path):
    (tmp_path / "grey.png").write_bytes(picture(90, 64))
    for width, height in ((1200, 900), (390, 844)):
        browser.open(shown.url, width, height)
        assert browser.run("document.getElementById('fields').children.length") == 4
        assert browser.run("document.documentElement.scrollWidth <= innerWidth"), f"wider than {width} pixels"
        browser.run("document.querySelector('textarea').value = 'maybe maybe maybe'")
        browser.choose("input[type=file]", tmp_path / "grey.png")
        browser.until("document.querySelector('.drop img')?.naturalWidth === 64")
        browser.run("document.getElementById('predict').click()")
        browser.until("!!document.querySelector('.prediction')")
        assert browser.run("document.querySelector('.prediction').textContent") == NAMES[2]
        bars = browser.run("[...document.querySelectorAll('.bars li')].map((bar) => bar.innerText.split('\\n'))")
        assert bars[0][0] == NAMES[2]
        assert {bar[0] for bar in bars} == set(NAMES)
        shares = [float(bar[1].removesuffix(" %")) for bar in bars]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(100, abs=0.3)
        browser.screenshot(tmp_path / f"{width}.png")
        pixels = Image.open(tmp_path / f"{width}.png")
        assert pixels.width == width
        assert len(pixels.convert("RGB").getcolors(2**24)) > 50
    assert browser.run("document.querySelectorAll('script').length") == 2
    assert browser.complaints == []


def test_refusals_examples_and_clearing_in_the_browser(shown, browser):
    browser.complaints.clear()
    browser.open(f"{shown.url}/?model=cold")
    browser.run("document.querySelector('input[inputmode=decimal]').value = '<b>heavy</b>'")
    browser.run("document.getElementById('predict').click()")
    browser.until("!!document.querySelector('.bad')")
    assert "'<b>heavy</b>' is not a number" in browser.run("document.querySelector('.bad').textContent")
    assert browser.run("document.querySelector('.bad b')") is None
    browser.run("document.getElementById('example').click()")
    assert browser.run("document.querySelector('textarea').value") == "sun and beach"
    browser.until("document.querySelector('.drop img')?.naturalWidth === 8")
    browser.run("document.getElementById('predict').click()")
    browser.until("!!document.querySelector('.prediction')")
    browser.run("document.querySelector('button[type=reset]').click()")
    assert browser.run("document.querySelector('textarea').value") == ""
    assert browser.run("document.querySelector('.drop img')") is None
    # An answer of 422 is noted by the browser; nothing else may be.
    assert [text for text in browser.complaints if "422" not in text] == []
