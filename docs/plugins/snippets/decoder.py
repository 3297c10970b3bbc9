from typing import Annotated

import numpy as np
from pydantic import Field

from automm.api import Decoder


class Stars(Decoder):
    """A number as stars."""

    op = "acme.stars"
    name = "acme.stars"

    class Config(Decoder.Config):
        """Settings."""

        most: Annotated[int, Field(ge=1)] = 5
        """Most stars."""

    def columns(self):
        return {"prediction": "string"}

    def decode(self, answers):
        counts = answers["number"].round().clip(0, self.config.most).astype(int)
        return {"prediction": ["*" * count for count in counts]}


found = Stars(Stars.Config()).decode({"number": np.array([3.2, 99.0])})  # answers: name → [batch, …]
assert found == {"prediction": ["***", "*****"]}
