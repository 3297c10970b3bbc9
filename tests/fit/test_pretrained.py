"""A local checkpoint beside the recipe: frozen and partly trained, then served without transformers."""

from __future__ import annotations

import pytest
from tiny_checkpoints import tiny_bert

from fit.commands import run
from fit.conftest import summary, write_recipe

WORDS = [
    *("room", "was", "and", "the", "bed", "view", "food", "as", "expected"),
    *("great", "lovely", "perfect", "broken", "awful", "dirty"),
]


@pytest.fixture
def tiny(project):
    """A small random BERT with its tokeniser."""
    tiny_bert(project / "tiny", WORDS)
    return project


def test_checkpoint_path_starts_at_the_recipe(tiny, tmp_path_factory):
    recipe = write_recipe(
        tiny,
        "model: {encoders: {review: {name: hf_text, checkpoint: ./tiny, pooling: mean, adapt: [none, last_1]}}}\n"
        "search: {trials: 2, ensemble: false}\n",
    )
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = run("fit", recipe, "--out", tiny / "run", cwd=elsewhere)
    assert done.code == 0, done.err
    found = summary(tiny / "run")
    assert found["trials"] == {"complete": 2}
    assert found["test"]["accuracy"] > 0.6
    out = run("predict", tiny / "run" / "package", tiny / "test.csv", "-o", tiny / "out.csv", cwd=elsewhere)
    assert out.code == 0, out.err


def test_absent_checkpoint_is_named(tiny):
    recipe = write_recipe(tiny, "model: {encoders: {review: {name: hf_text, checkpoint: ./tinny}}}\n")
    done = run("fit", recipe, "--out", "run", cwd=tiny)
    assert done.code == 3
    assert "./tinny does not exist" in done.err
