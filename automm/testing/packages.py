"""Small packages made without torch and without training: a linear model over what processors give."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from automm.core.arrays import ArraySpec
from automm.core.decoder import Decoder
from automm.core.kinds import Exporter, Graph, Task
from automm.core.processor import BadCell, Processor, read_media
from automm.core.profile import InputInfo, TargetInfo
from automm.package.content import PackageContent, PackageInput
from automm.package.write import write_package
from automm.runtime import ops

NAMES = ("low", "high")


class Words(Processor):
    """Text → the length of every word; their number varies."""

    op = "kit.words"

    def specs(self) -> dict[str, ArraySpec]:
        """Lengths of the words."""
        return {"lengths": ArraySpec("int64", ("time",))}

    def load(self, cell: Any) -> dict[str, np.ndarray]:
        """One cell."""
        return {"lengths": np.array([len(word) for word in str(cell).split()] or [0])}


class Numbers(Processor):
    """Number columns, less their means."""

    op = "kit.numbers"

    def fit(self, chunks: Iterable[Mapping[str, Sequence[Any]]]) -> None:
        """Learns the means."""
        table = next(iter(chunks))
        self.state = {"mean": np.array([[float(cell) for cell in column] for column in table.values()]).mean(1)}

    def specs(self) -> dict[str, ArraySpec]:
        """One number per column."""
        return {"numbers": ArraySpec("float32", (2,))}

    def __call__(self, cells: Any) -> dict[str, np.ndarray]:
        """All rows; what is missing is the mean."""
        table = np.array([[np.nan if cell is None else float(cell) for cell in column] for column in cells.values()])
        return {"numbers": np.nan_to_num(table.T - self.state["mean"]).astype(np.float32)}


class Levels(Processor):
    """A file's first four bytes."""

    op = "kit.levels"
    media = True

    def specs(self) -> dict[str, ArraySpec]:
        """8-bit levels."""
        return {"levels": ArraySpec("uint8", (4,))}

    def load(self, cell: Path | bytes) -> dict[str, np.ndarray]:
        """One file.

        Raises:
            BadCell: If it is shorter.
        """
        data = read_media(cell, 1000)
        if len(data) < 4:
            raise BadCell("shorter than 4 bytes")
        return {"levels": np.frombuffer(data[:4], np.uint8)}


class Choice(Decoder):
    """The likelier name, its probability, and the sum of the features."""

    op = "kit.choice"

    def columns(self) -> dict[str, str]:
        """The result columns."""
        return {"prediction": "string", "probability": "number", "total": "number"}

    def decode(self, answers: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        """Answers → results."""
        probabilities = answers["probabilities"]
        return {
            "prediction": [NAMES[at] for at in probabilities.argmax(1)],
            "probability": [float(value) for value in probabilities.max(1)],
            "total": [float(value) for value in answers["total"]],
        }


class TwoClasses(Task):
    """What a package needs of a task."""

    name = "classification"
    target_kind = "class"

    def target(self) -> TargetInfo:
        """Two classes."""
        return TargetInfo("class", 2, NAMES, (5, 5), 10)

    def decoder(self) -> Decoder:
        """The decoder above."""
        return Choice(Choice.Config())


class Linear(Exporter):
    """Writes a graph that is linear in the mean of every array of free size and in every number of the others.

    Args:
        inputs: The inputs of the package.
    """

    makes = "graph"

    def __init__(self, inputs: Sequence[PackageInput]) -> None:
        super().__init__(self.Config())
        self._inputs = inputs

    def export_graph(self, graph: Graph, path: Path) -> None:
        """Writes it with `onnx.helper`; answers `probabilities` [batch, 2] and `total` [batch]."""
        del graph
        from onnx import TensorProto, checker, helper, numpy_helper

        arrays = {f"{item.slug}.{name}": spec for item in self._inputs for name, spec in item.processor.specs().items()}
        arrays |= {f"{item.slug}.present": ArraySpec("bool", ()) for item in self._inputs}
        given, nodes, parts, width = [], [], [], 0
        constants = {"flat": np.array([0, -1]), "rest": np.array([1]), "zero": np.float32(0)}
        for at, (name, spec) in enumerate(arrays.items()):
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
            sizes = [f"size{at}" if isinstance(size, str) else size for size in spec.shape]
            given.append(helper.make_tensor_value_info(name, kind, ["batch", *sizes]))
            free = any(isinstance(size, str) for size in spec.shape)
            nodes += [
                helper.make_node("Cast", [name], [f"raw{at}"], to=TensorProto.FLOAT),
                helper.make_node("IsNaN", [f"raw{at}"], [f"nan{at}"]),
                helper.make_node("Where", [f"nan{at}", "zero", f"raw{at}"], [f"known{at}"]),
                helper.make_node("Unsqueeze", [f"known{at}", "rest"], [f"row{at}"])
                if not spec.shape
                else helper.make_node("Reshape", [f"known{at}", "flat"], [f"row{at}"]),
            ]
            if free:
                nodes.append(helper.make_node("ReduceMean", [f"row{at}", "rest"], [f"mean{at}"], keepdims=1))
            parts.append(f"mean{at}" if free else f"row{at}")
            width += 1 if free else math.prod(size for size in spec.shape if isinstance(size, int))
        constants["weights"] = np.random.default_rng(0).normal(0, 0.1, (width, 2)).astype(np.float32)
        nodes += [
            helper.make_node("Concat", parts, ["features"], axis=1),
            helper.make_node("MatMul", ["features", "weights"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["out_probabilities"], axis=1),
            helper.make_node("ReduceSum", ["features", "rest"], ["out_total"], keepdims=0),
        ]
        answers = [
            helper.make_tensor_value_info("out_probabilities", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("out_total", TensorProto.FLOAT, ["batch"]),
        ]
        stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
        made = helper.make_graph(nodes, "linear", given, answers, stored)
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        checker.check_model(model)
        path.write_bytes(model.SerializeToString(deterministic=True))


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Made-up rows of the package that `small_package` makes; media are bytes."""
    rng = np.random.default_rng(seed)
    words = ["warm", "wool", "coat", "light", "dress"]
    return [
        {
            "title": " ".join(rng.choice(words, rng.integers(1, 5))),
            "price": round(float(rng.uniform(1, 90)), 2),
            "weight": f"{rng.uniform(0.1, 2):.2f}",
            "photo": rng.integers(0, 256, 8).astype(np.uint8).tobytes(),
        }
        for _ in range(count)
    ]


def small_package(folder: Path) -> Path:
    """Writes a package of text, numbers and files whose operations only this process knows.

    Args:
        folder: Where it goes.
    """
    for operation in (Words, Numbers, Levels, Choice):
        ops.add(operation)
    numbers = Numbers(Numbers.Config())
    made = rows(8)
    numbers.fit([{name: [row[name] for row in made] for name in ("price", "weight")}])
    inputs = [
        PackageInput("title", InputInfo("title", "text", ("title",)), Words(Words.Config()), optional=True),
        PackageInput("numbers", InputInfo("numbers", "tabular", ("price", "weight"), {"price": "number"}), numbers),
        PackageInput("photo", InputInfo("photo", "image", ("photo",)), Levels(Levels.Config())),
    ]
    return linear_package(folder, inputs, TwoClasses(TwoClasses.Config()), made[:2])


def linear_package(
    folder: Path, inputs: Sequence[PackageInput], task: Task, golden: Sequence[Mapping[str, Any]]
) -> Path:
    """Writes a package with a linear model over fitted processors.

    Args:
        folder: Where it goes.
        inputs: Its inputs.
        task: A task of two classes.
        golden: Rows with which it is checked when it is loaded.
    """
    content = PackageContent(
        name="Small shop",
        task=task,
        target_columns=("season",),
        inputs=inputs,
        graph=Graph(module=None, example={}, dynamic={}),  # type: ignore[arg-type]
        exporter=Linear(inputs),
        golden_rows=golden,
        metrics={"valid": {"accuracy": 0.75}, "test": {"accuracy": 0.5, "log_loss": 0.625}},
        data_digest="0" * 64,
        task_owner=("automm", sys.modules["automm"].__version__),
    )
    return write_package(folder, content)
