"""What a package reads and answers, as requests see it: one column each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from automm.core.processor import Processor
from automm.runtime.media import takes_columns
from automm.runtime.package import Package


@dataclass(frozen=True)
class Column:
    """A column that the model reads.

    Attributes:
        name: Its name in requests.
        input: The input it belongs to.
        modality: The input's modality, for people.
        type: Finer type ("number", "category", …), or "".
        media: Whether its cells are files, sent as bytes.
        inline: Whether a JSON list may stand in place of the file.
        limits: What the processor refuses: name → bound.
    """

    name: str
    input: str
    modality: str
    type: str
    media: bool
    inline: bool
    limits: dict[str, float]

    @property
    def numeric(self) -> bool:
        """Whether its cells are numbers."""
        return self.type == "number"


@dataclass(frozen=True)
class Schema:
    """All of them.

    Attributes:
        columns: Column name → what it is, in the package's order.
        results: Result column → its type ("string", "number", "boolean", "list").
    """

    columns: dict[str, Column]
    results: dict[str, str]


def schema(package: Package) -> Schema:
    """What an opened package reads and answers. A column that two inputs read is a file if one of them reads files."""
    found: dict[str, Column] = {}
    for part, item in zip(package.manifest.inputs, package.inputs, strict=True):
        processor = item.processor
        media = processor.media and (len(item.columns) == 1 or takes_columns(processor))
        for name in item.columns:
            if name in found and not media:
                continue
            kind = part.types.get(name, "")
            # A limit on text says nothing about a number or a category.
            limits = {limit: bound for limit, bound in part.limits.items() if not (kind and limit == "characters")}
            found[name] = Column(name, part.name, part.modality, kind, media, media and _lists(processor), limits)
    return Schema(found, dict(package.decoder.columns()))


def _lists(processor: Processor) -> bool:
    return processor.inline("[0]")


def example(schema: Schema) -> dict[str, Any]:
    """A row of the right form with made-up cells, for documentation."""
    row: dict[str, Any] = {}
    for column in schema.columns.values():
        if column.inline:
            row[column.name] = [0.1, 0.2, 0.3]
        elif column.media:
            row[column.name] = {"base64": "…"}
        else:
            row[column.name] = 1.5 if column.numeric else "text"
    return row
