"""The pages of the documentation and their code blocks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGE_FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = {path.name: path for path in PAGE_FILES}


class Block(NamedTuple):
    """A code block."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def text(page: str) -> str:
    """A page's text."""
    return PAGES[page].read_text(encoding="utf-8")


def blocks(language: str, *pages: str) -> list[Block]:
    """All code blocks of a language, of some pages or of all."""
    found = []
    for page in pages or PAGES:
        content = text(page)
        for match in re.finditer(r"^```(\w+)\n(.*?)^```$", content, re.S | re.M):
            if match[1] == language:
                found.append(Block(page, content[: match.start()].count("\n") + 1, language, match[2]))
    return found


def commands(block: Block) -> list[str]:
    """The single commands of a shell block, without comments."""
    lines = [line.partition(" #")[0] for line in block.text.splitlines()]
    return [part.strip() for line in lines for part in line.split("&&") if part.strip()]


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    _, _, below = f"\n{text(page)}".partition(f"\n{heading}\n")
    assert below, f"{page} has no heading {heading!r}"
    lines = re.search(r"(?:^\|.*\|\n)+", below, re.M)[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def names(cell: str) -> list[str]:
    """What stands in code marks."""
    return re.findall(r"`([^`]+)`", cell)
