"""The documentation site: built without a warning, complete, its links lead somewhere, nothing is fetched."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

from docs.pages import ROOT

DOCS = ROOT / "docs"
PAGES = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")}
EXTERNAL = ("https://", "http://", "mailto:")


class Page(HTMLParser):
    """What a page refers to, and what can be referred to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors = {"", "top"}
        self.sidebar: list[str] = []
        self.captions = re.findall(r'<span class="caption-text">(.*?)</span>', text)
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if anchor := found.get("id"):
            self.anchors.add(anchor)
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
            if "reference internal" in (found.get("class") or ""):
                self.sidebar.append(found["href"])
        if tag in ("script", "img", "source", "iframe") and found.get("src"):
            self.loaded.append(found["src"])
        if tag == "link" and found.get("rel") in ("stylesheet", "icon", "preload", "preconnect", "dns-prefetch"):
            self.loaded.append(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Path of a page in the site → the page."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "site" / "build.py", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip(), done.stderr
    return folder, {
        path.relative_to(folder).as_posix(): Page(path.read_text("utf-8")) for path in folder.rglob("*.html")
    }


def test_every_page_is_built_and_in_the_navigation(site):
    _, pages = site
    assert {f"{page}.html" for page in PAGES} <= set(pages)
    listed = {urlsplit(link).path for link in pages["index.html"].sidebar}
    assert {f"{page}.html" for page in PAGES} - listed <= {"index.html"}


def test_navigation_has_analysts_first(site):
    _, pages = site
    captions = pages["index.html"].captions
    assert captions[:4] == ["For analysts", "Deploying", "For authors of plugins", "Inside"]
    order = [urlsplit(link).path for link in pages["index.html"].sidebar]
    wanted = ["quickstart.html", "recipe.html", "package.html", "plugins.html", "plugins/tutorial.html"]
    places = [order.index(page) for page in [*wanted, "architecture.html"]]
    assert places == sorted(places)


def test_links_and_anchors_lead_somewhere(site):
    folder, pages = site
    broken = []
    for name, page in pages.items():
        for link in page.links:
            if link.startswith(EXTERNAL) or "genindex" in name or "search" in name:
                continue
            parts = urlsplit(link)
            target = (folder / name).parent.joinpath(unquote(parts.path)).resolve() if parts.path else folder / name
            found = pages.get(target.relative_to(folder).as_posix())
            if not target.is_file() or (found and unquote(parts.fragment) not in found.anchors):
                broken.append(f"{name}: {link}")
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(site):
    folder, pages = site
    for name, page in pages.items():
        for source in page.loaded:
            assert not source.startswith((*EXTERNAL, "//")), f"{name}: {source}"
            assert (folder / name).parent.joinpath(urlsplit(source).path).resolve().is_file(), f"{name}: {source}"
    for sheet in folder.rglob("*.css"):
        assert not re.search(r"@import|url\(['\"]?(https?:)?//", sheet.read_text("utf-8")), sheet


def test_api_pages_show_docstrings(site):
    folder, pages = site
    assert {"automm.api.Fusion", "automm.api.Fusion.forward", "automm.api.Tune"} <= pages["reference/api.html"].anchors
    assert "automm.testing.parametrize" in pages["reference/testing.html"].anchors
    assert "automm.runtime.predictor.Predictor.predict" in pages["reference/python.html"].anchors
    text = " ".join(re.sub(r"<[^>]+>", "", (folder / "reference" / "api.html").read_text("utf-8")).split())
    assert "Any subset of the inputs may be missing in a row" in text


def test_the_build_is_strict(tmp_path):
    """A link to nowhere, or to no heading, fails the build."""
    made = runpy.run_path(str(DOCS / "site" / "build.py"))
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("# Index\n\n[nowhere](nowhere.md) and [no place](#place)\n", "utf-8")
    settings = 'extensions = ["myst_parser"]\nmyst_heading_anchors = 4\n'
    (docs / "conf.py").write_text(settings, "utf-8")
    arguments = made["arguments"](docs, docs, tmp_path / "out")
    done = subprocess.run([sys.executable, "-m", "sphinx", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr
    assert "place" in done.stderr


def test_every_page_has_a_place():
    """A page that no section names comes last and is not lost; none has two places."""
    navigation = runpy.run_path(str(DOCS / "site" / "conf.py"))["navigation"]
    pages = [page for found in navigation().values() for page in found]
    assert len(pages) == len(set(pages))
    assert {page for page in PAGES if not page.startswith("use-cases/")} | {"use-cases/index"} == {*pages, "index"}
