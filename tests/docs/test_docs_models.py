"""The tables of models.md name every component that comes with automm, at its modality."""

from __future__ import annotations

import pytest

from automm.api import VectorEncoder
from automm.plugin.loader import load_plugins
from docs.pages import names, rows

REGISTRY = load_plugins().registry


def listed(heading: str) -> list[str]:
    """The names in the first column of the table below a heading."""
    return sorted(names(cells[0])[0] for cells in rows("models.md", heading))


@pytest.mark.parametrize("modality", REGISTRY.names("modality"))
def test_encoders(modality):
    entries = [entry for entry in REGISTRY.all("encoder") if entry.cls.modality == modality]
    assert listed(f"### {modality.capitalize()}") == sorted(entry.name for entry in entries)
    kinds = {names(cells[0])[0]: cells[1] for cells in rows("models.md", f"### {modality.capitalize()}")}
    for entry in entries:
        free, named = issubclass(entry.cls, VectorEncoder), "checkpoint" in entry.cls.Config.model_fields
        expected = "training-free" if free else "checkpoint" if named else "from scratch"
        assert kinds[entry.name] == ("any encoder of pictures" if entry.name == "frame_encoder" else expected)


def test_learners_and_fusions():
    assert listed("## Learners") == sorted(REGISTRY.names("learner"))
    assert listed("## Fusions") == sorted(REGISTRY.names("fusion"))


def test_defaults_are_called_so():
    for modality in REGISTRY.names("modality"):
        entries = [entry for entry in REGISTRY.all("encoder") if entry.cls.modality == modality]
        free = [entry for entry in entries if "checkpoint" not in entry.cls.Config.model_fields]
        default = max(free, key=lambda entry: entry.cls.preference).name
        said = {names(cells[0])[0]: cells[2] for cells in rows("models.md", f"### {modality.capitalize()}")}
        assert [name for name, text in said.items() if "the default" in text] == [default]
    fusion = max(
        (entry for entry in REGISTRY.all("fusion") if "vector" in entry.cls.gives), key=lambda e: e.cls.preference
    )
    said = {names(cells[0])[0]: cells[1] for cells in rows("models.md", "## Fusions")}
    assert [name for name, text in said.items() if "the default" in text] == [fusion.name]
