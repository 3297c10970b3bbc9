"""Which columns are text."""

from __future__ import annotations

import random

from automm.api import Claim, ColumnProfile, Examples, InputInfo, Modality

OPENINGS = ("The hotel", "Our room", "Breakfast", "The service", "Everything")
PRAISE = ("lovely", "excellent", "friendly", "spotless")
BLAME = ("dirty", "awful", "noisy", "broken")


class Text(Modality):
    """Free text in any language: sentences, reviews, titles."""

    @classmethod
    def claim(cls, column: ColumnProfile) -> Claim | None:
        """How surely the column is text; see `Modality.claim`.

        Words decide, and how often whole cells repeat: names of categories are short and repeat, titles are short and
        do not. CJK characters count as words, so a Chinese name has two to four of them.
        """
        if column.storage != "string" or not column.filled:
            return None
        other = (column.number_share, column.date_share, column.boolean_share, column.list_share, column.exists_share)
        if max(other) >= 0.5 or sum(column.extensions.values()) >= 0.5:
            return None
        share = column.distinct / column.filled
        facts = f"{column.mean_words:.0f} words on average, {share:.0%} of the cells distinct"
        if column.mean_words >= 5 and column.distinct > 20:
            return Claim(0.95, facts)
        if column.mean_words >= 5:
            return Claim(0.5, f"{facts}, but few different cells")
        if column.mean_words >= 1.5 and share > 0.5:
            return Claim(0.75, facts)
        if column.mean_words >= 1.5 and share > 0.2:
            return Claim(0.5, f"{facts}: short and often repeated")
        return Claim(0.1, f"{facts}: rather names than text")

    @classmethod
    def examples(cls, count: int, seed: int) -> Examples:
        """Short reviews of varied length; group 1 is praise."""
        draw = random.Random(seed)
        groups = tuple(row % 2 for row in range(count))
        cells = []
        for group in groups:
            words = draw.choices(PRAISE if group else BLAME, k=draw.randint(1, 4))
            cells.append(f"{draw.choice(OPENINGS)} was {' and '.join(words)}.")
        return Examples(InputInfo("review", cls.name, ("review",)), cells, groups)
