"""A small package without torch: real processors (text, table, picture) and a graph written by hand.

The class is told by the words: warm words, cold words, neither. Padding, empty texts and missing pictures count.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from automm_compress import Int8
from automm_image.pixels import Pixels
from automm_tabular.processor import Table
from automm_tasks.decoders import Classes
from automm_text.tokens import Tokens
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from automm.api import Graph, InputInfo, TargetInfo, Task
from automm.package.content import PackageContent, PackageInput
from automm.package.write import write_package

NAMES = ("cold", "warm", "<script>alert(1)</script>")
WORDS = ["[PAD]", "[UNK]", "snow", "ice", "frost", "sun", "beach", "heat", "maybe"]
COLUMNS = ("title", "weight", "colour", "photo")


class Seasons(Task):
    """Three classes; only what a package needs of a task."""

    name = "seasons"
    target_kind = "class"

    def target(self) -> TargetInfo:
        return TargetInfo("class", 3, NAMES, (5, 5, 5), 15)

    def decoder(self) -> Any:
        return Classes(Classes.Config(names=NAMES))


class File:
    """An exporter that writes a finished graph."""

    def __init__(self, graph: onnx.ModelProto) -> None:
        self._graph = graph

    def export_graph(self, graph: Graph, path: Path) -> None:
        onnx.save(self._graph, str(path))


def picture(level: int = 128, size: int = 8, form: str = "PNG") -> bytes:
    """A grey picture as a file's bytes."""
    file = io.BytesIO()
    Image.new("RGB", (size, size), (level, level, level)).save(file, form)
    return file.getvalue()


def row(title: str | None = "sun and beach", **cells: Any) -> dict[str, Any]:
    """A complete row for the runtime; media as bytes."""
    return {"title": title, "weight": 1.5, "colour": "red", "photo": picture(), **cells}


def _graph(shift: float) -> onnx.ModelProto:
    words = np.zeros((len(WORDS), 3), np.float32)
    words[2:5, 0] = words[5:8, 1] = 1
    words[8, 2] = 2
    tail = np.random.default_rng(0).normal(size=(3 + 2 + 3, 3)).astype(np.float32) * 0.1
    tail[:3] = np.eye(3)
    constants = {"words": words, "tail": tail, "bias": np.array([0.2 + shift, 0.1, 0], np.float32)}
    axes = {"last": np.array([2]), "time": np.array([1]), "space": np.array([1, 2])}
    nodes = [
        ("Gather", ["words", "title.input_ids"], "each"),
        ("Cast", ["title.attention_mask"], "mask", {"to": TensorProto.FLOAT}),
        ("Unsqueeze", ["mask", "last"], "masks"),
        ("Mul", ["each", "masks"], "kept"),
        ("ReduceSum", ["kept", "time"], "text", {"keepdims": 0}),
        ("Cast", ["photo.pixels"], "levels", {"to": TensorProto.FLOAT}),
        ("ReduceMean", ["levels", "space"], "grey", {"keepdims": 0}),
        ("Div", ["grey", "scale"], "share"),
        ("Concat", ["text", "table.number", "table.number_missing", "share"], "joint", {"axis": 1}),
        ("Gemm", ["joint", "tail", "bias"], "logits"),
        ("Softmax", ["logits"], "out_probabilities", {"axis": 1}),
    ]
    constants["scale"] = np.array([255], np.float32)
    given = {
        "title.input_ids": (TensorProto.INT64, ["batch", "time"]),
        "title.attention_mask": (TensorProto.INT64, ["batch", "time"]),
        "table.number": (TensorProto.FLOAT, ["batch", 1]),
        "table.number_missing": (TensorProto.FLOAT, ["batch", 1]),
        "photo.pixels": (TensorProto.UINT8, ["batch", 8, 8, 3]),
    }
    made = helper.make_graph(
        [helper.make_node(op, inputs, [output], **(rest[0] if rest else {})) for op, inputs, output, *rest in nodes],
        "main",
        [helper.make_tensor_value_info(name, *spec) for name, spec in given.items()],
        [helper.make_tensor_value_info("out_probabilities", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(value, name) for name, value in (constants | axes).items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def build(folder: Path, *, name: str = "weather", shift: float = 0.0, whole: bool = False) -> Path:
    """Writes the package.

    Args:
        folder: Where.
        name: Its name.
        shift: Makes another version, whose first class is more or less probable.
        whole: Multiplies matrices in whole numbers of 8 bits, as `compress: int8` does.
    """
    graph = _graph(shift)
    if whole:
        smaller = Int8(Int8.Config(smallest=1)).compress(graph.SerializeToString(), [])
        graph = onnx.load_model_from_string(smaller)
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    text = Tokens(Tokens.Config(max_length=64), {"tokenizer": tokenizer.to_str()})
    types = {"weight": "number", "colour": "category"}
    numbers = Table(Table.Config(columns=tuple(types), types=types))
    numbers.fit([{"weight": ["1", "2", "3", "4"], "colour": ["red", "red", "blue", "blue"]}])
    pixels = Pixels(Pixels.Config(size=8, max_pixels=10_000))
    content = PackageContent(
        name=name,
        task=Seasons(Seasons.Config()),
        target_columns=("season",),
        inputs=[
            PackageInput("title", InputInfo("title", "text", ("title",)), text, optional=True),
            PackageInput("table", InputInfo("table", "tabular", tuple(types), types), numbers),
            PackageInput("photo", InputInfo("photo", "image", ("photo",)), pixels),
        ],
        graph=Graph(None, {}, {}),
        exporter=File(graph),
        golden_rows=[row(), row("ice maybe", weight=None, photo=picture(20))],
    )
    return write_package(folder, content)
