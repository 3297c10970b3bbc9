"""Checks of exporters that make graphs. What makes folders is tried with whole packages."""

from __future__ import annotations

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


CHECKS = (makes_is_known, graph_runs_at_every_size)
