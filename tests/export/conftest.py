"""A package of text, numbers, a category and pictures, by automm's own operations; and its exports."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from automm_export import Docker, Huggingface, Kserve, Kubernetes, Mlflow, Triton
from automm_image.pixels import Pixels
from automm_tabular.processor import Table
from automm_tasks.decoders import Classes
from automm_text.ngrams import Ngrams
from PIL import Image

from automm.api import InputInfo
from automm.package.content import PackageInput
from automm.testing.packages import NAMES, TwoClasses, linear_package

EXPORTERS = {cls.name: cls for cls in (Docker, Kubernetes, Kserve, Triton, Mlflow, Huggingface)}
COLUMNS = ("title", "price", "colour", "photo")


class Seasons(TwoClasses):
    """Two classes with the built-in decoder."""

    name = "classification"

    def decoder(self):
        return Classes(Classes.Config(names=NAMES))


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def shop_rows(count: int, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    return [
        {
            "title": " ".join(rng.choice(["warm wool coat", "light dress", "rain boots", "sun hat"], 2)),
            "price": int(rng.integers(1, 90)),
            "colour": str(rng.choice(["red", "blue"])),
            "photo": picture(seed + at),
        }
        for at in range(count)
    ]


@pytest.fixture(scope="session")
def shop(tmp_path_factory) -> Path:
    rows = shop_rows(12)
    types = {"price": "number", "colour": "category"}
    text, image = Ngrams(Ngrams.Config(min_count=1, space=8)), Pixels(Pixels.Config(size=8))
    table = Table(Table.Config(columns=tuple(types), types=types))
    text.fit([[row["title"] for row in rows]])
    table.fit([{name: [row[name] for row in rows] for name in types}])
    image.fit([[row["photo"] for row in rows]])
    inputs = [
        PackageInput("title", InputInfo("title", "text", ("title",)), text),
        PackageInput("tabular", InputInfo("tabular", "tabular", tuple(types), types), table),
        PackageInput("photo", InputInfo("photo", "image", ("photo",)), image, optional=True),
    ]
    return linear_package(tmp_path_factory.mktemp("shop") / "package", inputs, Seasons(Seasons.Config()), rows[:2])


@pytest.fixture
def export(shop, tmp_path):
    """Exports the package: `export("docker", base=…)` → folder."""

    def made(name: str, package: Path = shop, **settings) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        cls = EXPORTERS[name]
        cls(cls.Config(**settings)).export_package(package, folder)
        return folder

    return made
