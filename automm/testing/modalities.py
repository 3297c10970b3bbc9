"""Checks of modalities."""

from __future__ import annotations

from collections.abc import Mapping

from automm.core.profile import Claim, ColumnProfile
from automm.testing.subject import ROWS, Subject

COLUMNS = (
    ColumnProfile("empty", "string", 100, nulls=100),
    ColumnProfile("none", "string", 0),
    ColumnProfile("price", "number", 100, 5, 90, number_share=1.0, minimum=0.5, maximum=99.0, sample=(1.5, 2.5)),
    ColumnProfile("colour", "string", 100, 0, 3, mean_chars=4, max_chars=5, mean_words=1, top=(("red", 50),)),
    ColumnProfile("review", "string", 100, 0, 100, mean_chars=200, max_chars=900, mean_words=40, sample=("Good.",)),
    ColumnProfile("file", "string", 100, 0, 99, extensions={".png": 1.0}, exists_share=1.0, sample=("a.png",)),
    ColumnProfile("log", "string", 100, 0, 99, extensions={".csv": 1.0}, exists_share=1.0, sample=("a.csv",)),
    ColumnProfile("wave", "list", 100, 0, 99, list_share=1.0, sample=([1.0, 2.0, 3.0],)),
    ColumnProfile("raw", "binary", 100, 0, 99, sample=(b"\0",)),
)


def claims_are_sane(subject: Subject) -> None:
    """Claims are None or a confidence between 0 and 1 with a reason; nobody claims an empty column."""
    for column in COLUMNS:
        _sane(subject.cls.claim(column), column.name)
        assert column.filled or subject.cls.claim(column) is None, f"an empty column is claimed: {column}"
    family = [ColumnProfile(f"t_{i}", "number", 100, 0, 90, number_share=1.0, sample=(1.0, 2.0)) for i in range(16)]
    _sane(subject.cls.claim_family("t_", family), "t_0 … t_15")


def _sane(claim: Claim | None, column: str) -> None:
    if claim is not None:
        assert 0 <= claim.confidence <= 1, f"column {column!r}: confidence {claim.confidence}"
        assert claim.reason.strip(), f"column {column!r}: a claim needs a reason"


def types_are_names(subject: Subject) -> None:
    """Finer types are lower-case words, and claims give none but these."""
    for name in subject.cls.types:
        assert name.isidentifier() and name == name.lower(), f"type {name!r}"
    for column in COLUMNS:
        claim = subject.cls.claim(column)
        known = claim is None or claim.type is None or claim.type in subject.cls.types
        assert known, f"the claim's type {claim and claim.type!r} is not among types"


def examples_fit_the_modality(subject: Subject) -> None:
    """Examples have as many rows as asked for, of two groups, and follow the seed."""
    examples = subject.cls.examples(ROWS, 0)
    assert examples is not None, "write `examples`, so that encoders of this modality can be checked"
    assert examples.info.modality == subject.cls.name, f"info.modality is {examples.info.modality!r}"
    columns = list(examples.cells.values()) if subject.cls.many_columns else [examples.cells]
    if subject.cls.many_columns:
        assert isinstance(examples.cells, Mapping), "a modality of many columns gives column → cells"
        assert list(examples.cells) == list(examples.info.columns), "info.columns must be the columns of the cells"
    assert all(len(cells) == ROWS for cells in columns), f"asked for {ROWS} rows, got {[len(c) for c in columns]}"
    assert len(examples.groups) == ROWS and set(examples.groups) == {0, 1}, "groups must hold 0 and 1, one per row"
    assert repr(subject.cls.examples(ROWS, 0)) == repr(examples), "the same seed must give the same examples"
    assert repr(subject.cls.examples(ROWS, 1).cells) != repr(examples.cells), "another seed must give other examples"


CHECKS = (claims_are_sane, types_are_names, examples_fit_the_modality)
