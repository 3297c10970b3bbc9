"""A small package: text of varying length, two numbers, a media file; one linear model over them."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automm.api import Graph, InputInfo, TargetInfo, Task
from automm.package.content import PackageContent, PackageInput
from automm.package.write import write_package
from automm.runtime import ops

OPS = Path(__file__).parent / "fake_ops.py"
NAMES = ("cold", "warm")


def _load_ops() -> Any:
    ops.add_file(OPS)
    return sys.modules["automm_local_fake_ops"]


class FakeTask(Task):
    """Two classes; only what a package needs of a task."""

    name = "fake_classes"
    target_kind = "class"

    def target(self) -> TargetInfo:
        return TargetInfo("class", 2, NAMES, (5, 5), 10)

    def decoder(self) -> Any:
        pick = sys.modules["automm_local_fake_ops"].Pick
        return pick(pick.Config(names=NAMES))


def _rows(folder: Path, count: int = 12) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    words = ["snow", "ice", "sun", "beach", "rain", "wind"]
    rows = []
    for at in range(count):
        (folder / f"{at}.bin").write_bytes(bytes(rng.integers(0, 256, 4).tolist()))
        text = " ".join(rng.choice(words, rng.integers(1, 6)))
        rows.append({"title": text, "a": f"{rng.normal():.3f}", "b": float(rng.normal()), "photo": f"{at}.bin"})
    return rows


def _module() -> Any:
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(10, 4)
            self.out = nn.Linear(4 + 2 + 4, 2)

        def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            mask = batch["title.mask"][:, :, None].float()
            text = (self.words(batch["title.ids"]) * mask).sum(1) / mask.sum(1).clamp(min=1)
            text = text * batch["title.present"][:, None]
            photo = batch["photo.pixels"].float() / 255 * batch["photo.present"][:, None]
            joint = torch.cat([text, batch["numbers.numbers"], photo], 1)
            return {"probability": self.out(joint).softmax(1)}

    torch.manual_seed(0)
    return Model().eval()


class Made:
    """A written package with everything it was made from."""

    def __init__(self, folder: Path) -> None:
        import torch
        from automm_export import Onnx

        fakes = _load_ops()
        self.media = folder / "data"
        self.media.mkdir()
        self.rows = _rows(self.media)
        words = fakes.Words(fakes.Words.Config())
        words.fit([[row["title"] for row in self.rows]])
        numbers = fakes.Columns(fakes.Columns.Config(columns=("a", "b")))
        numbers.fit([{name: [row[name] for row in self.rows] for name in ("a", "b")}])
        levels = fakes.Levels(fakes.Levels.Config())
        self.processors = {"title": words, "numbers": numbers, "photo": levels}
        arrays = self.arrays(self.rows)
        dynamic = {name: {0: "batch"} for name in arrays}
        dynamic["title.ids"] = dynamic["title.mask"] = {0: "batch", 1: "title.time"}
        example = {name: torch.from_numpy(array[:3]) for name, array in arrays.items()}
        self.module = _module()
        self.content = PackageContent(
            name="weather",
            task=FakeTask(FakeTask.Config(), {"names": list(NAMES)}),
            target_columns=("season",),
            inputs=[
                PackageInput("title", InputInfo("title", "text", ("title",)), words, optional=True),
                PackageInput("numbers", InputInfo("numbers", "tabular", ("a", "b"), {"a": "number"}), numbers),
                PackageInput("photo", InputInfo("photo", "image", ("photo",)), levels),
            ],
            graph=Graph(self.module, example, dynamic),
            exporter=Onnx(Onnx.Config()),
            golden_rows=self.rows[:2],
            folder=self.media,
            metrics={"valid": {"accuracy": 0.75, "roc_auc": float("nan")}, "test": {"accuracy": 0.5}},
            recipe="task: classification\n",
            plan={"fusion": "concat"},
            data_digest="abc",
            seed=7,
            task_owner=("automm", "0.1.0"),
        )
        self.path = write_package(folder / "package", self.content)

    def arrays(self, rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        """What the processors make of complete rows."""
        found = {}
        cells: dict[str, Any] = {
            "title": [row["title"] for row in rows],
            "numbers": {name: [row[name] for row in rows] for name in ("a", "b")},
            "photo": [self.media / row["photo"] for row in rows],
        }
        for slug, processor in self.processors.items():
            for name, array in processor(cells[slug]).items():
                found[f"{slug}.{name}"] = array
            found[f"{slug}.present"] = np.ones(len(rows), bool)
        return found

    def expected(self, rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        """The torch model's answers."""
        import torch

        with torch.no_grad():
            batch = {name: torch.from_numpy(array) for name, array in self.arrays(rows).items()}
            return {name: answer.numpy() for name, answer in self.module(batch).items()}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    pytest.importorskip("torch")
    assert importlib.util.find_spec("onnx")
    return Made(tmp_path_factory.mktemp("made"))


@pytest.fixture
def copied(made: Made, tmp_path: Path) -> Path:
    """A copy of the package that a test may damage."""
    return Path(shutil.copytree(made.path, tmp_path / "package"))
