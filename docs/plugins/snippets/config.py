from typing import Annotated

import pydantic
from pydantic import Field

from automm.api import Config, Tune


class Settings(Config):
    """Settings of a component.

    Attributes:
        layers: How many layers there are.
    """

    layers: Annotated[int, Field(ge=1, le=8), Tune(1, 4)] = 2
    dropout: Annotated[float, Field(ge=0, lt=1), Tune(0.0, 0.5)] = 0.1
    """Share of the features dropped in training."""  # a field may also be described below it


assert Settings().tunes() == {"layers": Tune(1, 4), "dropout": Tune(0.0, 0.5)}
assert Settings.model_fields["layers"].description == "How many layers there are."
try:
    refused = Settings(layers=9) and ""
except pydantic.ValidationError as problem:
    refused = problem.errors()[0]["msg"]
assert refused == "Input should be less than or equal to 8"
