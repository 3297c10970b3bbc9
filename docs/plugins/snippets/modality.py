import random
import re

from automm.api import Claim, ColumnProfile, Examples, InputInfo, Modality


class Colour(Modality):
    """Columns of colours such as #ff8800."""

    @classmethod
    def claim(cls, column):
        hits = sum(bool(re.fullmatch("#[0-9a-f]{6}", str(cell))) for cell in column.sample)
        share = hits / max(len(column.sample), 1)
        return Claim(share, f"{share:.0%} of the cells are colours") if share >= 0.5 else None

    @classmethod
    def examples(cls, count, seed):
        numbers = random.Random(seed)
        groups = tuple(row % 2 for row in range(count))  # dark and light colours
        cells = ["#" + "".join(f"{numbers.randrange(100) + 150 * group:02x}" for _ in "rgb") for group in groups]
        return Examples(InputInfo("paint", cls.name, ("paint",)), cells, groups)


paint = ColumnProfile("paint", "string", rows=3, nulls=1, sample=("#ff8800", "#000000"))
assert Colour.claim(paint) == Claim(1.0, "100% of the cells are colours")
assert Colour.claim(ColumnProfile("price", "number", rows=2, sample=(1, 2))) is None
