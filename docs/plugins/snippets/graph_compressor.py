import numpy as np
import onnx
from onnx import helper, numpy_helper

from automm.api import GraphCompressor, NotCompressible


class Idle(GraphCompressor):
    """Drops operations that do nothing."""

    def compress(self, graph, rows):
        model = onnx.load_model_from_string(graph)
        idle = [node for node in model.graph.node if node.op_type == "Identity"]
        if not idle:
            raise NotCompressible("no operation is idle")
        renamed = {node.output[0]: node.input[0] for node in idle}
        for node in idle:
            model.graph.node.remove(node)
        for node in model.graph.node:
            node.input[:] = [renamed.get(name, name) for name in node.input]
        return model.SerializeToString()


weight = numpy_helper.from_array(np.eye(3, dtype=np.float32), "weight")
ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 3]) for name in ("x", "out_y")]
nodes = [helper.make_node("Identity", ["x"], ["same"]), helper.make_node("MatMul", ["same", "weight"], ["out_y"])]
graph = helper.make_model(helper.make_graph(nodes, "model", ends[:1], ends[1:], [weight]))
smaller = onnx.load_model_from_string(Idle(Idle.Config()).compress(graph.SerializeToString(), []))
assert [node.op_type for node in smaller.graph.node] == ["MatMul"]
