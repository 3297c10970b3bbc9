"""The format: packages of every released version are read, and what is written follows the schema and the page."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from automm.cli import package
from automm.errors import PackageError
from automm.package.schema import manifest_schema
from automm.runtime import manifest as parts
from automm.runtime import ops
from automm.runtime.package import open_package
from automm.runtime.predictor import load

ROOT = Path(__file__).parents[2]
FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = [f"v{number}" for number in range(1, parts.FORMAT_VERSION + 1)]
SCHEMA = ROOT / "docs" / "package.schema.json"


def manifest_of(path):
    return json.loads((path / parts.FILE).read_text("utf-8"))


@pytest.mark.parametrize("version", VERSIONS)
def test_packages_of_every_version_predict_as_they_did(version):
    stored = json.loads((FIXTURES / f"{version}.json").read_text("utf-8"))
    found = load(FIXTURES / version, threads=1).predict(stored["rows"])
    assert found.refused == {}
    assert found.columns["prediction"] == stored["columns"]["prediction"]
    assert set(found.columns["prediction"]) == {"cold", "warm"}
    for name in ("probability_cold", "probability_warm"):
        assert found.columns[name] == pytest.approx(stored["columns"][name], abs=1e-5)


def test_the_fixture_is_small():
    assert sum(path.stat().st_size for path in FIXTURES.rglob("*") if path.is_file()) < 64_000


def test_the_committed_schema_is_fresh():
    text = CliRunner().invoke(package.command, ["schema"], catch_exceptions=False).stdout
    fresh = json.loads(text) == json.loads(SCHEMA.read_text("utf-8"))
    assert fresh, "run: automm package schema -o docs/package.schema.json"
    assert json.loads(text) == manifest_schema()


@pytest.mark.parametrize("version", VERSIONS)
def test_fixtures_follow_the_schema(version):
    jsonschema.Draft202012Validator.check_schema(manifest_schema())
    jsonschema.validate(manifest_of(FIXTURES / version), manifest_schema())


def test_a_written_package_follows_the_schema_and_a_broken_one_does_not(made):
    manifest = manifest_of(made.path)
    jsonschema.validate(manifest, manifest_schema())
    for change in ({"format_version": 2}, {"extra": 1}, {"inputs": []}, {"limits": {"rows": 0}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**manifest, **change}, manifest_schema())


def test_the_page_describes_every_field():
    page = (ROOT / "docs" / "package.md").read_text("utf-8")
    described = set(re.findall(r"`([a-z_0-9]+)`", page))
    models = [item for item in vars(parts).values() if isinstance(item, type) and issubclass(item, parts._Part)]
    for model in models:
        assert set(model.model_fields) <= described, (model.__name__, set(model.model_fields) - described)


def test_the_page_lists_every_built_in_operation():
    page = (ROOT / "docs" / "package.md").read_text("utf-8")
    listed = {op: int(version) for op, version in re.findall(r"^\| `([a-z]+\.[a-z]+)` \| (\d+) \|", page, re.M)}
    own = {op for op in ops._points() if ops.distribution(op)[0] == ops.OWN}
    assert listed == {op: ops._points()[op][0].load().version for op in own}


def test_a_field_added_later_is_not_needed(tmp_path):
    path = Path(shutil.copytree(FIXTURES / "v1", tmp_path / "p"))
    manifest = manifest_of(path)
    del manifest["limits"]
    (path / parts.FILE).write_text(json.dumps(manifest))
    assert open_package(path).manifest.limits.rows == 1024


class _Point:
    """An entry point of a distribution."""

    def __init__(self, distribution, version, cls=None):
        self.dist = type("Distribution", (), {"name": distribution, "version": version})()
        self.cls = cls

    def load(self):
        return self.cls


class _Old:
    version = 1


class _New:
    version = 2


@pytest.fixture
def offered(monkeypatch):
    """Replaces what is installed."""

    def offer(**points):
        monkeypatch.setattr(ops, "_points", lambda: {name.replace("_", "."): found for name, found in points.items()})

    return offer


def test_third_party_operations_are_pinned_by_distribution_and_major_version(offered):
    offered(wordy_words=[_Point("wordy_ops", "2.7.1", _Old)])
    assert ops.find("wordy.words", 1, "wordy-ops", "2.0") is _Old
    with pytest.raises(PackageError, match=r"made with wordy-ops 1\.4 .*installed is 2\.7\.1; install wordy-ops 1\.\*"):
        ops.find("wordy.words", 1, "wordy-ops", "1.4")
    with pytest.raises(PackageError, match=r"offered here by wordy_ops and not by other; install other 2\.0"):
        ops.find("wordy.words", 1, "other", "2.0")
    with pytest.raises(
        PackageError, match=r"needs the operation 'wordy\.more', which is not installed here; install w 3\.0"
    ):
        ops.find("wordy.more", 1, "w", "3.0")


def test_nobody_else_offers_an_operation_of_ours(offered):
    offered(text_words=[_Point("evil", "0.1", _New), _Point("automm", "9.0", _Old)])
    assert ops.find("text.words", 1, "automm", "0.1.0") is _Old


def test_an_older_version_of_an_operation_is_found_beside_the_new_one(offered, monkeypatch):
    points = {"text.words": [_Point("automm", "1.0", _New)], "text.words@1": [_Point("automm", "1.0", _Old)]}
    monkeypatch.setattr(ops, "_points", lambda: points)
    assert ops.find("text.words", 2, "automm", "1.0") is _New
    assert ops.find("text.words", 1, "automm", "0.1") is _Old
    with pytest.raises(PackageError, match=r"needs version 3 of 'text\.words', installed is version 2"):
        ops.find("text.words", 3, "automm", "1.0")
