"""Text → terms: words, pairs of words, letters within words, and characters of scripts written without spaces."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

# Han, kana, Thai, Lao, Burmese and Khmer are written without spaces between words.
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_RUNS = re.compile(
    rf"(?P<chars>[{_SPACELESS}]+)|(?P<word>(?:(?![{_SPACELESS}])\w)+)|(?P<sign>[!?\u2600-\u27bf\U0001f300-\U0001faff])"
)
_MOST_LETTERS = 40  # longer "words" are links and codes; their letters say little


def terms(text: str) -> Iterator[str]:
    """The terms of a text, in order and with repeats.

    Words ("good"), pairs of neighbouring words ("not good"), letter n-grams of words ("#<goo"), characters with their
    pairs and triples in scripts without spaces, exclamation and question marks and emoji. Case and width are folded.
    """
    before = ""
    for run in _RUNS.finditer(unicodedata.normalize("NFKC", text).lower()):
        found = run.group()
        if run.lastgroup == "word":
            yield found
            if before:
                yield f"{before} {found}"
            yield from _letters(found)
            before = found
        elif run.lastgroup == "chars":
            before = ""
            for size in (1, 2, 3):
                yield from (found[at : at + size] for at in range(len(found) - size + 1))
        else:
            before = ""
            yield found


def is_letters(term: str) -> bool:
    """Whether the term is a letter n-gram of a word."""
    return len(term) > 1 and term[0] == "#"


@lru_cache(100_000)
def _letters(word: str) -> tuple[str, ...]:
    """Letter 3- and 4-grams with word boundaries, as in fastText (Bojanowski et al. 2017)."""
    if not 3 <= len(word) <= _MOST_LETTERS:
        return ()
    bounded = f"<{word}>"
    return tuple(f"#{bounded[at : at + size]}" for size in (3, 4) for at in range(len(bounded) - size + 1))
