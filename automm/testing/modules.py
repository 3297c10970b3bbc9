"""What the checks of encoders, fusions and losses share."""

from __future__ import annotations

import contextlib
import copy
import random
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from automm.api import torch
from automm.core.features import Features
from automm.core.kinds import Graph
from automm.core.lazy import LazyModule
from automm.plugin.manners import watched
from automm.testing.subject import installed

if TYPE_CHECKING:
    from torch import Tensor, nn

dist: Any = LazyModule("torch.distributed")

COARSE = 0.25
"""Largest deviation of bfloat16 from 32 bit, relative to the size of the values."""
UNUSUAL = 7_918_734_611
"""A seed that no component sets."""
TOLERANCE = 1e-4
"""Largest deviation, absolute and relative, between two ways to compute the same."""


def same(found: Tensor, expected: Tensor, rule: str) -> None:
    """Asserts that two tensors agree in shape and values."""
    assert found.shape == expected.shape, f"{rule}: shape {list(found.shape)} instead of {list(expected.shape)}"
    found, expected = found.detach().double(), expected.detach().double()
    close = torch.isclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)
    assert bool(close.all()), f"{rule}: deviates by up to {float((found - expected).abs().max()):.3g}"


def same_features(found: Features, expected: Features, rule: str) -> None:
    """Asserts that the mean of the real tokens agrees, which is what does not depend on padding."""
    same(found.mean(), expected.mean(), rule)


def finite(tensor: Tensor, rule: str) -> None:
    """Asserts that there is no NaN and no infinity."""
    assert bool(tensor.isfinite().all()), f"{rule}: {int((~tensor.isfinite()).sum())} values are NaN or infinite"


def gradients(module: nn.Module, loss: Tensor, rule: str) -> None:
    """Asserts that every trained parameter gets a finite gradient."""
    module.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"{rule}: parameter {name} gets no gradient"
            finite(parameter.grad, f"{rule}: gradient of {name}")


def unchanged(inputs: Iterable[Tensor], run: Callable[[], Any], rule: str) -> None:
    """Asserts that a call leaves its inputs alone."""
    tensors = list(inputs)
    before = [tensor.clone() for tensor in tensors]
    run()
    kept = [torch.allclose(a, b, rtol=0, atol=0, equal_nan=True) for a, b in zip(before, tensors, strict=True)]
    assert all(kept), rule


def stored(module: nn.Module) -> dict[str, Tensor]:
    """The state as it comes back from a safetensors file: tensors by name, no pickle."""
    from safetensors.torch import load, save

    state = module.state_dict()
    strange = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    assert not strange, f"the state must be tensors only, {strange[0]} is {type(state[strange[0]]).__name__}"
    return load(save({name: tensor.detach().contiguous().clone() for name, tensor in state.items()}))


def copies(module: nn.Module, run: Callable[[Any], Tensor], remake: Callable[[], nn.Module]) -> None:
    """Asserts that a deep copy, and a new instance with the same stored state, give the same numbers."""
    expected = run(module)
    same(run(copy.deepcopy(module)), expected, "a deep copy must give the same numbers")
    other = remake()
    other.load_state_dict(stored(module))
    same(run(other.eval()), expected, "a new instance with this state_dict must give the same numbers")


def half_precision(module: nn.Module, run: Callable[[Any], Tensor], rule: str) -> None:
    """Asserts that under bfloat16 autocast on the CPU values and gradients are finite, and near those in 32 bit."""
    with torch.no_grad():
        exact = run(module.eval()).float()
        with torch.autocast("cpu", torch.bfloat16):
            rough = run(module).float()
    finite(rough, f"{rule}: values")
    deviation = float((rough - exact).norm() / exact.norm().clamp(min=1e-6))
    assert deviation < COARSE, f"{rule}: values deviate by {deviation:.0%} from those in 32 bit"
    with torch.autocast("cpu", torch.bfloat16):
        total = run(module.train()).float().square().mean()
    if total.requires_grad:
        gradients(module, total, rule)


def two_ranks(make: Callable[[], nn.Module], loss: Callable[[Any, range], Tensor], rows: int) -> None:
    """Asserts that two processes of a job, each on half of the rows, get the gradients that one gets on all rows.

    The ranks are threads here; they exchange their numbers through gloo as processes do.

    Args:
        make: Makes the module in eval mode; called once per rank.
        loss: The loss of some rows, added up.
        rows: Number of rows.
    """
    single = make()
    if not any(parameter.requires_grad for parameter in single.parameters()):
        return
    loss(single, range(rows)).backward()  # type: ignore[no-untyped-call]
    ranks = [make(), make()]
    halves = (range(rows // 2), range(rows // 2, rows))
    store = dist.HashStore()

    def work(rank: int) -> None:
        group = dist.ProcessGroupGloo(store, rank, 2, timedelta(seconds=30))
        with torch.no_grad():
            for tensor in ranks[rank].state_dict().values():
                group.broadcast(tensor, 0).wait()
        loss(ranks[rank], halves[rank]).backward()  # type: ignore[no-untyped-call]
        for parameter in ranks[rank].parameters():
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.contiguous()
                group.allreduce([parameter.grad]).wait()

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(work, rank) for rank in (0, 1)]:
            done.result()
    found = [dict(module.named_parameters()) for module in ranks]
    for name, parameter in single.named_parameters():
        if parameter.requires_grad:
            wanted = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for rank in found:
                same(rank[name].grad, wanted, f"two ranks must agree with one: gradient of {name}")  # type: ignore[arg-type]


@contextlib.contextmanager
def well_behaved(what: str) -> Iterator[None]:
    """Asserts that component code prints nothing and leaves the global random states alone."""
    python, legacy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(UNUSUAL)
        random.seed(UNUSUAL)
        np.random.seed(UNUSUAL % 2**32)
        try:
            with watched() as seen:
                yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)
    assert not seen.complaints, f"{what}: {'; '.join(seen.complaints)}"


def learns(
    parameters: Iterable[Tensor],
    loss: Callable[[], Tensor],
    rule: str,
    steps: int = 40,
    rates: tuple[float, ...] = (1e-3, 1e-2),
) -> None:
    """Asserts that Adam halves the loss at one of the rates: deep modules want a small one, shallow ones a large."""
    trained = list(parameters)
    start = [parameter.detach().clone() for parameter in trained]
    first = float(loss().detach())
    lasts = []
    for rate in rates:
        with torch.no_grad():
            for parameter, value in zip(trained, start, strict=True):
                parameter.copy_(value)
        optimizer = torch.optim.Adam(trained, rate)
        for _ in range(steps):
            optimizer.zero_grad()
            loss().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        lasts.append(float(loss().detach()))
        if lasts[-1] < first / 2:
            return
    raise AssertionError(f"{rule}: the loss went from {first:.4g} to {min(lasts):.4g} in {steps} steps")


def exports(
    module: nn.Module,
    batches: Iterable[dict[str, Tensor]],
    example: dict[str, Tensor],
    dynamic: Mapping[str, Mapping[int, str]],
) -> None:
    """Asserts that the graph exporter writes a file that ONNX Runtime computes alike, at every batch size and length.

    Args:
        module: `forward(batch) -> answers`, in eval mode.
        batches: Batches of other sizes than the example.
        example: The batch to export with.
        dynamic: Array → {axis: dimension name}.
    """
    import onnxruntime as ort

    makers = [entry.cls for entry in installed().all("exporter") if getattr(entry.cls, "makes", "") == "graph"]
    assert makers, "no installed exporter makes graphs"
    exporter: Any = makers[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = Graph(module, example, {name: dict(axes) for name, axes in dynamic.items()})
            exporter(exporter.Config()).export_graph(graph, path)
        session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    used = {item.name for item in session.get_inputs()}
    names = [item.name for item in session.get_outputs()]
    for batch in batches:
        with torch.no_grad():
            expected = module(dict(batch))
        answers = session.run(None, {name: tensor.numpy() for name, tensor in batch.items() if name in used})
        for name, array in zip(names, answers, strict=True):
            sizes = {name: list(tensor.shape) for name, tensor in batch.items()}
            wanted = expected[name.removeprefix("out_")]
            same(
                torch.from_numpy(np.asarray(array)), wanted, f"the exported graph must agree with the module at {sizes}"
            )
