"""Editing ONNX graphs: the weights by name, new nodes in place of old ones, and nothing left over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

FLOAT = onnx.TensorProto.FLOAT


class Editor:
    """A model that is being rewritten, node by node.

    Args:
        data: The ONNX model with its weights.

    Attributes:
        weights: Names of the weights in 32-bit floating point → tensor.
    """

    def __init__(self, data: bytes) -> None:
        self.model = onnx.load_model_from_string(data)
        del self.model.graph.value_info[:]  # shapes and types of what is about to change
        self.graph = self.model.graph
        self.weights = {item.name: item for item in self.graph.initializer if item.data_type == FLOAT}
        self._added: set[str] = set()

    def array(self, name: str) -> np.ndarray:
        """A weight's numbers."""
        return numpy_helper.to_array(self.weights[name])

    def users(self) -> dict[str, list[onnx.NodeProto]]:
        """Name of a weight → the nodes that read it."""
        found: dict[str, list[onnx.NodeProto]] = {name: [] for name in self.weights}
        for node in self.graph.node:
            for name in node.input:
                if name in found:
                    found[name].append(node)
        return found

    def add(self, name: str, array: np.ndarray) -> str:
        """Adds a constant, once; gives its name."""
        if name not in self._added:
            self._added.add(name)
            self.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def replace(self, nodes: Sequence[onnx.NodeProto]) -> None:
        """Takes other nodes, in their order."""
        kept = list(nodes)
        del self.graph.node[:]
        self.graph.node.extend(kept)

    def bytes(self) -> bytes:
        """The model without weights that nothing reads any more."""
        used = {name for node in _all(self.graph.node) for name in node.input}
        used |= {item.name for item in self.graph.output}
        kept = [item for item in self.graph.initializer if item.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)
        onnx.checker.check_model(self.model)
        return self.model.SerializeToString(deterministic=True)


def _all(nodes: Iterable[onnx.NodeProto]) -> Iterable[onnx.NodeProto]:
    """Nodes with those of their branches and loops."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _all(attribute.g.node)


def attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    """A number among a node's attributes."""
    for item in node.attribute:
        if item.name == name:
            return item.f if item.type == onnx.AttributeProto.FLOAT else item.i
    return default
