"""Small components that recipes in these tests may name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pydantic
import pytest
from pydantic import Field

from automm.api import Encoder, Exporter, Fusion, Loss, Modality, Task, Tune
from automm.core.config import Config
from automm.plugin.registry import Owner, Registry
from automm.recipe.model import Recipe
from automm.recipe.parse import load_recipe_text
from automm.recipe.problems import InvalidRecipeError


class Words(Modality):
    @classmethod
    def claim(cls, column):
        return None


class Picture(Modality):
    @classmethod
    def claim(cls, column):
        return None


class Table(Modality):
    many_columns = True
    types = ("number", "category")

    @classmethod
    def claim(cls, column):
        return None


class _Encoder(Encoder, abstract=True):
    @classmethod
    def processor(cls, config, info):
        return None

    def __init__(self, config, processor):
        super().__init__(config, processor)

    def forward(self, arrays):
        return None


class Bag(_Encoder):
    modality = "words"

    class Config(Encoder.Config):
        checkpoint: str = "./bag"
        """Folder of the weights."""
        width: Annotated[int, Field(ge=1, le=1024)] = 64
        """Size of the vectors."""
        dropout: Annotated[float, Field(ge=0, lt=1), Tune(0.0, 0.5)] = 0.1
        """Share of features dropped."""
        kernels: tuple[int, ...] = (3, 5)
        """Sizes of the kernels."""
        pooling: Literal["mean", "max"] | None = "mean"
        """How tokens become one vector."""
        bits: Literal["8", "16"] = "16"
        """Stored precision."""
        lower: bool = True
        """Lower-case first."""


class Pixels(_Encoder):
    modality = "picture"


class Rows(_Encoder):
    modality = "table"


class _Fusion(Fusion, abstract=True):
    def __init__(self, config, widths):
        super().__init__(config, widths)

    def forward(self, inputs):
        return None


class Concat(_Fusion):
    """Side by side."""


class Gated(_Fusion):
    class Config(Fusion.Config):
        width: int = 8
        heads: int = 2

        @pydantic.model_validator(mode="after")
        def _divides(self):
            if self.width % self.heads:
                raise ValueError(f"heads {self.heads} must divide width {self.width}")
            return self


class Aligned(_Fusion):
    gives = frozenset({"aligned"})


class CrossEntropy(Loss):
    targets = frozenset({"class", "labels"})

    def forward(self, output, target):
        return None


class Reweighted(CrossEntropy):
    remedy = "weights"


class Huber(Loss):
    targets = frozenset({"number"})

    class Config(Loss.Config):
        delta: Annotated[float, Field(gt=0)]
        """Where the square ends."""

    def forward(self, output, target):
        return None


class _Task(Task, abstract=True):
    @classmethod
    def claim(cls, columns):
        return None

    def fit(self, cells): ...

    def encode(self, cells): ...

    def target(self): ...

    def head(self, width): ...

    def answer(self, output): ...

    def metrics(self): ...

    def decoder(self): ...


class Classes(_Task):
    target_kind = "class"

    class Config(Config):
        smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
        """Label smoothing."""

    @classmethod
    def metric_names(cls):
        return {"accuracy": True, "macro_f1": True}


class Amount(_Task):
    target_kind = "number"

    @classmethod
    def metric_names(cls):
        return {"rmse": False, "r2": True}


class Flat(Exporter):
    makes = "folder"

    def export_package(self, package, folder):
        raise AssertionError


class Onnx(Exporter):
    makes = "graph"

    def export_graph(self, graph, path):
        raise AssertionError


COMPONENTS = [
    *(Words, Picture, Table, Bag, Pixels, Rows, Concat, Gated, Aligned),
    *(CrossEntropy, Reweighted, Huber, Classes, Amount, Flat, Onnx),
]


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    for cls in COMPONENTS:
        registry.add(cls, Owner("fakes", "fakes", "1"))
    return registry


BASE = "data: goods.csv\ntarget: season\n"


@pytest.fixture
def parse(registry, tmp_path):
    """Text (with `data:` and `target:` before it unless it has them) → recipe."""

    def run(text: str, base: str = BASE) -> Recipe:
        return load_recipe_text(base + text, tmp_path / "recipe.yaml", registry)

    return run


@pytest.fixture
def problems(registry):
    """Text → its problems as `line:column key: message`."""

    def run(text: str, base: str = BASE) -> list[str]:
        with pytest.raises(InvalidRecipeError) as raised:
            load_recipe_text(base + text, Path("recipe.yaml"), registry)
        return [str(problem).removeprefix("recipe.yaml:") for problem in raised.value.problems]

    return run
