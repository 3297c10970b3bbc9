"""How the ONNX file is made and compared; imported only when something is exported."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import torch
from onnx_ir.passes.common import DeduplicateHashedInitializersPass

from automm.api import Graph, PluginError, VerificationError

PREFIX = "out_"
BATCHES = (1, 2, 5)
LOGGERS = ("torch.onnx", "torch.onnx._internal.exporter._registration", "onnxscript", "onnx_ir")


def prepared(graph: Graph) -> Graph:
    """The graph on the CPU, 32 bit, with an example whose free sizes are all different and at least two.

    Sizes of 1, and different dimensions of one size, would be taken for constants or for one another.
    """
    module = graph.module
    tensors = [*module.parameters(), *module.buffers()]
    if any(t.device.type != "cpu" or (t.is_floating_point() and t.dtype != torch.float32) for t in tensors):
        module = copy.deepcopy(module).cpu().float()
    example = {name: tensor.detach().cpu() for name, tensor in graph.example.items()}
    rows = {axes[0] for axes in graph.dynamic.values() if 0 in axes}
    taken: set[int] = set()
    sizes = {}
    for name, size in _sizes(example, graph.dynamic).items():
        size = 2 if name in rows else max(size, 2)
        while size in taken:
            size += 1
        taken.add(size)
        sizes[name] = size
    return Graph(module.eval(), resized(example, graph.dynamic, sizes), graph.dynamic)


def _sizes(example: Mapping[str, torch.Tensor], dynamic: Mapping[str, Mapping[int, str]]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for array, axes in dynamic.items():
        if array not in example:
            raise PluginError(f"dynamic sizes are given for {array!r}, which is not in the example batch")
        for axis, name in axes.items():
            size = example[array].shape[axis]
            if sizes.setdefault(name, size) != size:
                raise PluginError(f"{array!r} has size {size} in dimension {name!r}, other arrays have {sizes[name]}")
    return sizes


def resized(
    example: Mapping[str, torch.Tensor], dynamic: Mapping[str, Mapping[int, str]], sizes: Mapping[str, int]
) -> dict[str, torch.Tensor]:
    """The example with other dynamic sizes: cut, or repeated from the start."""
    batch = {}
    for array, tensor in example.items():
        for axis, name in dynamic.get(array, {}).items():
            if name in sizes:
                tensor = tensor.index_select(axis, torch.arange(sizes[name]) % tensor.shape[axis])
        batch[array] = tensor.contiguous()
    return batch


def export(graph: Graph, path: Path, opset: int) -> None:
    """Writes the file and has it checked by `onnx.checker`."""
    names = sorted({name for axes in graph.dynamic.values() for name in axes.values()})
    dims = {name: torch.export.Dim(re.sub(r"\W", "_", name)) for name in names}
    dynamic = {
        array: {axis: dims[name] for axis, name in graph.dynamic.get(array, {}).items()} for array in graph.example
    }
    with torch.no_grad():
        answers = list(graph.module(dict(graph.example)))
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph.module,
                (),
                kwargs={"batch": graph.example},
                dynamic_shapes={"batch": dynamic},
                input_names=list(graph.example),
                output_names=[PREFIX + name for name in answers],
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as problem:
        raise PluginError(f"the model cannot be exported to ONNX: {_reason(problem)}") from problem
    _once(program.model)
    model = program.model_proto
    _free(model, graph.dynamic)
    _anonymous(model)
    onnx.checker.check_model(model)
    if model.ByteSize() >= 2**31:
        raise PluginError("the model is larger than 2 GiB, which one ONNX file cannot hold")
    path.write_bytes(model.SerializeToString(deterministic=True))


def _once(model: ir.Model) -> None:
    """Holds equal weights once: every input that the same checkpoint reads brings its own."""
    for value in model.graph.initializers.values():
        array = value.const_value.numpy()  # type: ignore[union-attr]
        if not array.flags.c_contiguous:  # the pass cannot read it
            value.const_value = ir.tensor(np.ascontiguousarray(array), name=value.name)
    with quiet():
        DeduplicateHashedInitializersPass()(model)


def _free(model: onnx.ModelProto, dynamic: Mapping[str, Mapping[int, str]]) -> None:
    """Refuses a graph in which a size that varies became a constant; the exporter does that without a word."""
    for item in model.graph.input:
        sizes = item.type.tensor_type.shape.dim
        for axis, name in dynamic.get(item.name, {}).items():
            if not sizes[axis].dim_param:
                raise PluginError(
                    f"the model cannot be exported to ONNX: its code fixes the size {name!r} of {item.name!r} to "
                    f"{sizes[axis].dim_value}; look for an operation or a branch that depends on that size"
                )


def _reason(problem: BaseException) -> str:
    """The innermost cause, without the exporter's advice how to report a bug."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    return f"{type(problem).__name__}: {str(problem)[:1000]}"


def _anonymous(model: onnx.ModelProto) -> None:
    """Takes out stack traces and source paths that the exporter leaves in the file."""
    parts = [model, model.graph, *model.functions]
    parts += [node for part in (model.graph, *model.functions) for node in part.node]
    parts += [*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer]
    for part in parts:
        part.doc_string = ""
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]


def check_parity(graph: Graph, path: Path, tolerance: float) -> None:
    """Compares model and file at batch sizes 1, 2 and 5, and at a shorter and a longer length of every other dimension.

    Raises:
        VerificationError: Naming the answer, the sizes and the deviation.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    inputs = [item.name for item in session.get_inputs()]
    if unknown := set(inputs) - set(graph.example):
        raise VerificationError(f"the graph takes {sorted(unknown)}, which are not in the batch")
    outputs = [item.name.removeprefix(PREFIX) for item in session.get_outputs()]
    first = _sizes(graph.example, graph.dynamic)
    rows = {axes[0] for axes in graph.dynamic.values() if 0 in axes}
    for batch_size, change in zip(BATCHES, (0, -1, 3), strict=True):
        sizes = {name: batch_size if name in rows else max(1, size + change) for name, size in first.items()}
        batch = resized(graph.example, graph.dynamic, sizes)
        with torch.no_grad():
            expected = {name: tensor.numpy() for name, tensor in graph.module(dict(batch)).items()}
        try:
            answers = session.run(None, {name: batch[name].numpy() for name in inputs})
        except Exception as problem:  # ONNX Runtime's exceptions share no base class
            raise VerificationError(f"the ONNX graph fails at sizes {sizes}: {str(problem)[:500]}") from problem
        found = dict(zip(outputs, answers, strict=True))
        if found.keys() != expected.keys():
            raise VerificationError(f"the graph answers {sorted(found)}, the model {sorted(expected)}")
        for name, array in expected.items():
            same = found[name].shape == array.shape
            if not same or not np.allclose(found[name], array, rtol=tolerance, atol=tolerance, equal_nan=True):
                off = float(np.abs(found[name] - array).max()) if same else f"shape {found[name].shape}"
                raise VerificationError(
                    f"the ONNX graph's {name!r} deviates from the model at sizes {sizes}: {off}, allowed {tolerance}"
                )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps what the exporter prints, logs and warns about while it works normally off the screen."""
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", r"# The axis name: .* will not be used", UserWarning)
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
