"""Checks of compressors, on a small network with wide layers, a stack of equal blocks and one input of free length."""

from __future__ import annotations

import copy
import functools
import json
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from automm.api import nn, torch
from automm.core.compressor import NotCompressible
from automm.core.kinds import Graph
from automm.testing import modules
from automm.testing.subject import Subject, installed

if TYPE_CHECKING:
    from torch import Tensor

WIDTH = 192
CLASSES = 3


@functools.cache
def _network() -> Any:
    """Tokens [batch, time, 8] → probabilities; fitted to a made-up rule, so that its weights say something."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.inner(x)  # type: ignore[no-any-return]

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(8, WIDTH)
            self.blocks = nn.ModuleList([Block() for _ in range(4)])
            self.head = nn.Linear(WIDTH, CLASSES)

        def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            x = self.embed(batch["words.values"])
            for block in self.blocks:
                x = block(x)
            return {"probability": self.head(x.mean(1)).softmax(1)}

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network()
        optimizer = torch.optim.Adam(network.parameters(), 1e-3)
        for step in range(30):
            batch = _batch(32, 3, seed=step)
            target = batch["words.values"].mean(1)[:, :CLASSES].argmax(1)
            optimizer.zero_grad()
            nn.functional.nll_loss(network(batch)["probability"].log(), target).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network.eval()


def _batch(rows: int, time: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, time, 8, generator=generator)
    return {"words.values": values, "words.present": torch.ones(rows).bool()}


@functools.cache
def _graph() -> bytes:
    """The network as the installed exporter writes it."""
    makers: list[Any] = [
        entry.cls for entry in installed().all("exporter") if getattr(entry.cls, "makes", "") == "graph"
    ]
    dynamic = {"words.values": {0: "batch", 1: "words_time"}}
    example = {"words.values": _batch(4, 3)["words.values"]}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "graph.onnx"
        makers[0](makers[0].Config()).export_graph(Graph(_network(), example, dynamic), path)
        return path.read_bytes()


def _rows() -> list[dict[str, np.ndarray]]:
    return [{name: tensor.numpy() for name, tensor in _batch(1, 3, seed).items()} for seed in range(8)]


def _answers(graph: bytes, batch: dict[str, Tensor]) -> np.ndarray:
    import onnxruntime as ort

    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert [item.name for item in session.get_inputs()] == ["words.values"], "names of inputs must stay"
    assert [item.name for item in session.get_outputs()] == ["out_probability"], "names of outputs must stay"
    return np.asarray(session.run(None, {"words.values": batch["words.values"].numpy()})[0])


def smaller_graph_answers_alike(subject: Subject) -> None:
    """The graph gets smaller, keeps its names and free sizes, and answers nearly as before."""
    if subject.cls.stage != "graph":
        return
    made = subject.cls(subject.config).compress(_graph(), _rows())
    assert len(made) < len(_graph()), f"the graph went from {len(_graph()):,} to {len(made):,} bytes"
    for rows, time in ((1, 1), (5, 4)):
        batch = _batch(rows, time, seed=50)
        found, wanted = _answers(made, batch), _answers(_graph(), batch)
        assert found.shape == wanted.shape, f"answers {list(found.shape)} for {rows} rows"
        assert np.isfinite(found).all(), "answers must be finite"
        most = float(np.abs(found - wanted).max())
        assert most < 0.2, f"a probability moved by {most:.2f}: training cannot repair a compressed graph"


def smaller_model_can_recover(subject: Subject) -> None:
    """The model has fewer weights, answers in the same form at every size, and can be trained further."""
    if subject.cls.stage != "model":
        return
    model = _shrunk(subject)
    before, after = (sum(p.numel() for p in m.parameters()) for m in (_network(), model))
    assert after < before, f"the model has {after:,} weights, it had {before:,}"
    for rows, time in ((1, 1), (5, 4)):
        answers = model(_batch(rows, time))
        assert answers.keys() == {"probability"}, f"answers {sorted(answers)}"
        assert answers["probability"].shape == (rows, CLASSES), f"probability {list(answers['probability'].shape)}"
        modules.finite(answers["probability"], "answers must be finite")
    modules.gradients(model, model(_batch(5, 4))["probability"].square().sum(), "recovery")


def _shrunk(subject: Subject, config: Any = None) -> Any:
    model = copy.deepcopy(_network())
    subject.cls(config or subject.config).shrink(model, [_batch(16, 3, seed) for seed in range(4)])
    return model


MEMBERS = tuple(
    (
        weight,
        {
            "task": {"name": "classification", "config": {}},
            "encoders": {"words": {"name": name, "config": {"adapt": "full"}}},
            "fusion": {"name": "concat", "config": {}},
            "loss": {"name": "cross_entropy", "config": {}},
            "train": {"epochs": 3},
            "sampling": "none",
            "seed": 0,
        },
    )
    for weight, name in ((0.6, "large"), (0.4, "medium"))
)
"""Two networks that answer together, without regard to which components are installed."""


def student_is_a_configuration(subject: Subject) -> None:
    """The student is the configuration of a network, plain JSON, made without changing what it was given."""
    if subject.cls.stage != "student":
        return
    default = {**MEMBERS[0][1], "encoders": {"words": {"name": "small", "config": {"adapt": "full"}}}}
    given = copy.deepcopy((list(MEMBERS), default))
    found = subject.cls(subject.config).student(*given)
    assert given == (list(MEMBERS), default), "student must not change the configurations it is given"
    json.dumps(found, allow_nan=False)
    assert found.keys() == default.keys(), f"the configuration has {sorted(found)}, a network's has {sorted(default)}"


def says_why_not(subject: Subject) -> None:
    """Where there is nothing to make smaller it raises `NotCompressible` with the reason, and nothing else."""
    compressor = subject.cls(subject.config)
    tiny: Any = nn.Linear(2, 2)

    def attempt() -> None:
        if subject.cls.stage == "graph":
            compressor.compress(_nothing(), [])
        elif subject.cls.stage == "model":
            compressor.shrink(_plain(tiny), [{"words.values": torch.zeros(2, 2)}])
        else:
            compressor.student([(1.0, {**MEMBERS[0][1], "learner": {}})], copy.deepcopy(MEMBERS[0][1]))

    try:
        attempt()
    except NotCompressible as reason:
        assert str(reason).strip(), "NotCompressible needs a reason"


def _plain(layer: Any) -> Any:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"probability": self.layer(batch["words.values"]).softmax(1)}

    return Plain().eval()


def _nothing() -> bytes:
    """A graph without a weight."""
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("words.values", "out_x")]
    graph = helper.make_graph([helper.make_node("Relu", ["words.values"], ["out_x"])], "nothing", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def search_space_works(subject: Subject) -> None:
    """Both ends of the search space, and every choice, give a model, or a reason why not."""
    for config in subject.corners()[:2]:
        try:
            if subject.cls.stage == "graph":
                answers = _answers(subject.cls(config).compress(_graph(), _rows()), _batch(2, 3))
                assert np.isfinite(answers).all(), f"with {config!r}: NaN or infinity"
            elif subject.cls.stage == "model":
                modules.finite(_shrunk(subject, config)(_batch(2, 3))["probability"], f"with {config!r}")
            else:
                subject.cls(config).student(copy.deepcopy(list(MEMBERS)), copy.deepcopy(MEMBERS[0][1]))
        except NotCompressible:
            continue


def minds_its_own_business(subject: Subject) -> None:
    """Compressing prints nothing and leaves global random states alone."""
    compressor = subject.cls(subject.config)
    _network(), _graph()
    with modules.well_behaved("compressor"):
        if subject.cls.stage == "graph":
            compressor.compress(_graph(), _rows())
        elif subject.cls.stage == "model":
            _shrunk(subject)
        else:
            compressor.student(copy.deepcopy(list(MEMBERS)), copy.deepcopy(MEMBERS[0][1]))


CHECKS = (
    smaller_graph_answers_alike,
    smaller_model_can_recover,
    student_is_a_configuration,
    says_why_not,
    search_space_works,
    minds_its_own_business,
)
