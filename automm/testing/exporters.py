"""Checks of exporters: those that make graphs get a small graph, those that make folders a small package."""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from automm.api import nn, torch
from automm.core.kinds import Graph
from automm.testing.subject import Subject

if TYPE_CHECKING:
    from torch import Tensor


def makes_is_known(subject: Subject) -> None:
    """`makes` is "graph" or "folder"."""
    assert subject.cls.makes in ("graph", "folder"), f"makes is {subject.cls.makes!r}"


def graph_runs_at_every_size(subject: Subject) -> None:
    """A small graph is written, and ONNX Runtime computes it at other sizes, under the promised names."""
    if subject.cls.makes != "graph":
        return
    import onnxruntime as ort

    class Small(nn.Module):
        def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            mask = batch["text.mask"].float()
            return {"total": (batch["text.values"] * mask).sum(1), "length": mask.sum(1)}

    def batch(rows: int, time: int) -> dict[str, Tensor]:
        values = torch.arange(rows * time).reshape(rows, time).float()
        return {"text.values": values, "text.mask": values % 3 > 0}

    dynamic = {name: {0: "batch", 1: "text_time"} for name in ("text.values", "text.mask")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            subject.cls(subject.config).export_graph(Graph(Small().eval(), batch(3, 5), dynamic), path)
        assert [file.name for file in Path(folder).iterdir()] == ["graph.onnx"], "a graph is one file"
        session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = {item.name for item in session.get_inputs()} | {item.name for item in session.get_outputs()}
    assert names == {"text.values", "text.mask", "out_total", "out_length"}, f"inputs and outputs are {sorted(names)}"
    for rows, time in ((1, 1), (4, 7)):
        example = batch(rows, time)
        total, length = session.run(["out_total", "out_length"], {k: v.numpy() for k, v in example.items()})
        expected = Small()(example)
        np.testing.assert_allclose(total, expected["total"].numpy(), rtol=1e-5)
        np.testing.assert_allclose(length, expected["length"].numpy(), rtol=1e-5)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Lives as long as the process."""
    return tempfile.TemporaryDirectory(prefix="automm-kit-")


@functools.cache
def _package() -> Path:
    """The package that exporters are tried with; made once."""
    from automm.testing.packages import small_package

    return small_package(Path(_folder().name) / "package")


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if not path.is_dir())
    for path in files:
        assert path.is_file() and not path.is_symlink(), f"{path.name} is not a plain file"
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def folder_is_whole_and_repeatable(subject: Subject) -> None:
    """A package is written as plain files, the same ones twice, and is itself left as it is."""
    if subject.cls.makes != "folder":
        return
    before, written = _digests(_package()), []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            subject.cls(subject.config).export_package(_package(), Path(folder))
            written.append(_digests(Path(folder)))
    assert written[0], "the folder is empty"
    differing = sorted(name for name in {*written[0], *written[1]} if written[0].get(name) != written[1].get(name))
    assert not differing, f"two exports of one package differ in {', '.join(differing)}"
    assert _digests(_package()) == before, "the package was changed"


def folder_predicts_as_the_package(subject: Subject) -> None:
    """What `load` gives answers as the package does: complete rows, rows with missing cells, and refused ones."""
    if subject.cls.makes != "folder":
        return
    from automm.runtime.predictor import load
    from automm.testing.packages import rows

    asked = rows(5, seed=1)
    asked += [{**asked[0], "title": None}, {**asked[1], "photo": b"x"}, {**asked[2], "weight": None}]
    expected = load(_package()).predict(asked).rows
    assert [bool(row["error"]) for row in expected] == [False] * 6 + [True, False]
    exporter = subject.cls(subject.config)
    with tempfile.TemporaryDirectory() as folder:
        exporter.export_package(_package(), Path(folder))
        predict = exporter.load(Path(folder))
        if predict is None:
            return
        found = predict(asked)
    assert len(found) == len(asked), f"{len(found)} results for {len(asked)} rows"
    for at, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.keys() == other.keys(), f"row {at}: columns {sorted(one)}, the package gives {sorted(other)}"
        for name, value in other.items():
            same = np.isclose(one[name], value, rtol=1e-3, atol=1e-3) if type(value) is float else one[name] == value
            assert same, f"row {at}: {name} is {json.dumps(one[name])}, the package gives {json.dumps(value)}"


CHECKS = (makes_is_known, graph_runs_at_every_size, folder_is_whole_and_repeatable, folder_predicts_as_the_package)
