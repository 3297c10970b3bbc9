"""Triton: a model repository with the package's graphs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from automm.api import Exporter, PluginError, load_package
from automm_export.contents import Contents, write

if TYPE_CHECKING:
    import onnxruntime as ort

TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
}
"""ONNX Runtime's name of a type → Triton's."""

README = """\
# {name} on Triton

```sh
docker run --rm -p 8000:8000 -v "$PWD/model_repository:/models:ro" nvcr.io/nvidia/tritonserver:{release}-py3 \\
    tritonserver --model-repository=/models
```

**What Triton runs is the graph only: arrays in, answers out.** Texts, pictures, tables and sound become arrays, and
answers become predictions, outside of it, with `automm` and the folder `package/` where the client runs:

```python
import automm
import tritonclient.http as triton

predictor = automm.load("package")
package = predictor.package
rows = [{row}]
table = {{column: [row.get(column) for row in rows] for column in package.columns}}
arrays, refused = package.arrays(table, len(rows), folder=None)  # media as bytes
assert not refused, refused

client = triton.InferenceServerClient("localhost:8000")
inputs = []
for spec in client.get_model_metadata("{model}")["inputs"]:
    array = arrays[spec["name"]]
    if array.ndim == 1:
        array = array[:, None]  # Triton wants a second axis where the graph has none
    inputs.append(triton.InferInput(spec["name"], list(array.shape), spec["datatype"]))
    inputs[-1].set_data_from_numpy(array)
found = client.infer("{model}", inputs)
answers = {{name.removeprefix("out_"): found.as_numpy(name) for name in {outputs}}}
predictions = package.decoder.decode({decoded})
```

Limits:

- Processors and decoders do not run on Triton; neither do automm's request limits, refusals by name, or `/predict`.
- Requests run together only if their free sizes (text length, for one) are equal; others run one after the other.
- Rows are limited to {batch} a request (`max_batch_size`).
- The graph runs in ONNX Runtime on the CPU; `instance_group` in `config.pbtxt` says where.

A package with everything inside is served by `automm serve`; see the formats `docker` and `kserve`.
"""


class Triton(Exporter):
    """Writes a Triton model repository with the graphs; the processors run at the client, with the package."""

    class Config(Exporter.Config):
        """Settings of the repository."""

        batch: Annotated[int, Field(ge=1, le=65536)] = 64
        """Most rows that run together (`max_batch_size`)."""
        delay: Annotated[int, Field(ge=0)] = 2000
        """Microseconds that a request may wait for others to run with."""
        instances: Annotated[int, Field(ge=1, le=128)] = 1
        """Copies of each graph that run side by side."""
        release: Annotated[str, Field(pattern=r"^[0-9]{2}\.[0-9]{2}$")] = "25.08"
        """Release of the Triton image in the README."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)

    def export_package(self, package: Path, folder: Path) -> None:
        """Writes `model_repository/`, the package for clients, and a README.

        Raises:
            PluginError: If a graph has a type or shape that Triton does not know.
        """
        contents = Contents(package)
        contents.copy(folder / "package")
        config = self.config
        for graph, part in contents.manifest.graphs.items():
            name = model_name(contents, graph)
            session = open_graph(folder / "package" / part.file)
            home = folder / "model_repository" / name
            (home / "1").mkdir(parents=True)
            (home / "1" / "model.onnx").write_bytes((folder / "package" / part.file).read_bytes())
            write(home / "config.pbtxt", pbtxt(name, session, config))
        columns = list(dict.fromkeys(column for part in contents.manifest.inputs for column in part.columns))
        outputs = contents.manifest.graphs["main"].outputs
        flat = {one.name for one in session.get_outputs() if len(one.shape) == 1}
        cut = ", ".join(
            f'"{name.removeprefix("out_")}": answers["{name.removeprefix("out_")}"]'
            + ("[:, 0]" if name in flat else "")
            for name in outputs
        )
        text = README.format(
            name=contents.manifest.name, model=contents.label, release=config.release, batch=config.batch,
            row="{" + ", ".join(f"{json.dumps(column, ensure_ascii=False)}: ..." for column in columns) + "}",
            outputs=list(outputs), decoded="{" + cut + "}",
        )  # fmt: skip
        write(folder / "README.md", text)

    def load(self, folder: Path) -> Callable[[Sequence[Mapping[str, Any]]], list[dict[str, Any]]]:
        """Predicts with the repository's graphs, and the package's processors and decoder around them."""
        contents = Contents(folder / "package")
        package = load_package(folder / "package").package
        sessions = {
            graph: open_graph(folder / "model_repository" / model_name(contents, graph) / "1" / "model.onnx")
            for graph in contents.manifest.graphs
        }

        def run(session: ort.InferenceSession) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
            names = [one.name.removeprefix("out_") for one in session.get_outputs()]
            taken = [one.name for one in session.get_inputs()]
            return lambda arrays: dict(
                zip(names, session.run(None, {name: arrays[name] for name in taken}), strict=True)
            )

        graphs = {graph: run(session) for graph, session in sessions.items()}

        def predict(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
            table = {column: [row.get(column) for row in rows] for column in package.columns}
            arrays, refused = package.arrays(table, len(rows), None)
            kept = [at for at in range(len(rows)) if at not in refused]
            found: list[dict[str, Any]] = [dict.fromkeys(package.decoder.columns()) for _ in rows]
            if kept:
                arrays = {name: array[kept] for name, array in arrays.items()}
                columns = package.decoder.decode(package.decoder.drive(graphs, arrays))
                for position, at in enumerate(kept):
                    found[at] = {name: values[position] for name, values in columns.items()}
            return [{**row, "error": refused.get(at)} for at, row in enumerate(found)]

        return predict


def model_name(contents: Contents, graph: str) -> str:
    """What Triton calls a graph."""
    return contents.label if graph == "main" else f"{contents.label}-{graph}"


def open_graph(path: Path) -> ort.InferenceSession:
    """The graph in ONNX Runtime, to look at or to run."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def pbtxt(name: str, session: ort.InferenceSession, config: Triton.Config) -> str:
    """The model's configuration in Triton's text format."""
    lines = [
        f"name: {json.dumps(name)}",
        'platform: "onnxruntime_onnx"',
        f"max_batch_size: {config.batch}",
        *(block for one in session.get_inputs() for block in _tensor("input", one)),
        *(block for one in session.get_outputs() for block in _tensor("output", one)),
        f"dynamic_batching {{ max_queue_delay_microseconds: {config.delay} }}",
        f"instance_group [ {{ kind: KIND_CPU count: {config.instances} }} ]",
    ]
    return "\n".join(lines) + "\n"


def _tensor(side: str, tensor: Any) -> list[str]:
    """An input or output. Triton adds the batch axis itself; a tensor of one value per row is told by `reshape`."""
    if tensor.type not in TYPES or not tensor.shape or not isinstance(tensor.shape[0], str):
        raise PluginError(
            f"Triton cannot take the {side} {tensor.name!r}: {tensor.type} of shape {tensor.shape}; it needs numbers "
            "with a free batch axis"
        )
    sizes = [size if isinstance(size, int) else -1 for size in tensor.shape[1:]]
    shape = f"dims: [ {', '.join(map(str, sizes))} ]" if sizes else "dims: [ 1 ] reshape { shape: [ ] }"
    return [f"{side} [ {{ name: {json.dumps(tensor.name)} data_type: {TYPES[tensor.type]} {shape} }} ]"]
