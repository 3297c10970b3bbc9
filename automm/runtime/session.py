"""An ONNX graph, ready to run on the CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import onnxruntime as ort

from automm.errors import PackageError

PREFIX = "out_"
TYPES = {f"tensor({name})": dtype for name, dtype in {"float": "float32", "double": "float64"}.items()} | {
    f"tensor({name})": name
    for name in ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16")
}
"""ONNX Runtime's names of types → NumPy's."""


class Session:
    """Runs one graph; safe to call from several threads.

    Args:
        data: The ONNX file. From bytes ONNX Runtime opens no other file: external data are refused.
        what: Name of the file, for messages.
        threads: Threads inside one call; by default one per core this process may use.

    Attributes:
        inputs: Names of the arrays it takes. Exporters may drop what the model never reads.
        types: Input → dtype and sizes, batch first; a size that is not a number is free.
        outputs: Names of its outputs as they stand in the file.

    Raises:
        PackageError: If the file is not a graph that ONNX Runtime loads.
    """

    def __init__(self, data: bytes, what: str, threads: int | None = None) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        # Threads that spin while they wait take the core from whatever else runs, a server's event loop for one.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as problem:  # ONNX Runtime's exceptions share no base class
            raise PackageError(f"{what}: ONNX Runtime cannot load the graph: {str(problem)[:300]}") from None
        self.what = what
        self.inputs = tuple(item.name for item in self._session.get_inputs())
        self.types = {
            item.name: (TYPES.get(item.type, item.type), tuple(item.shape)) for item in self._session.get_inputs()
        }
        self.outputs = tuple(item.name for item in self._session.get_outputs())
        self._answers = [name.removeprefix(PREFIX) for name in self.outputs]

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the graph on a batch.

        Args:
            arrays: At least the arrays in `inputs`, [batch, …] each; others are left aside.

        Returns:
            Answer name, without the prefix `out_` → [batch, …].

        Raises:
            PackageError: If an array is missing or the graph fails on them.
        """
        try:
            found = self._session.run(None, {name: arrays[name] for name in self.inputs})
        except KeyError as missing:
            raise PackageError(f"{self.what}: the graph takes {missing}, which no input gives") from None
        except Exception as problem:  # ONNX Runtime's exceptions share no base class
            raise PackageError(f"{self.what}: the graph failed: {str(problem)[:300]}") from problem
        return dict(zip(self._answers, found, strict=True))
