"""The ONNX exporter: names, sizes, what is refused, silence."""

from __future__ import annotations

import onnx
import pytest
from automm_export import Onnx

from automm.api import Graph, PluginError, VerificationError

torch = pytest.importorskip("torch")


class Wide(torch.nn.Module):
    """Two lengths, an unused input, and names with dots."""

    def __init__(self):
        super().__init__()
        self.out = torch.nn.Linear(3, 2)

    def forward(self, batch):
        a = (batch["a.x"] * batch["a.mask"][:, :, None]).sum(1)
        return {"number": self.out(a), "length": batch["b.y"].sum(1)}


def graph(module, **changes):
    example = {
        "unused.present": torch.ones(2, dtype=torch.bool),
        "b.y": torch.arange(2.0).reshape(2, 1),
        "a.x": torch.randn(2, 2, 3),
        "a.mask": torch.ones(2, 2, dtype=torch.bool),
    }
    dynamic = {
        "unused.present": {0: "batch"},
        "a.x": {0: "batch", 1: "a.time"},
        "a.mask": {0: "batch", 1: "a.time"},
        "b.y": {0: "batch", 1: "b.time"},
    }
    return Graph(module.eval(), {**example, **changes.pop("example", {})}, {**dynamic, **changes})


def test_example_of_equal_sizes_and_length_one_gives_a_free_graph(tmp_path, capfd, recwarn):
    """Batch and one length are both 2, the other length is 1: none of them may become a constant."""
    Onnx(Onnx.Config()).export_graph(graph(Wide()), tmp_path / "g.onnx")
    model = onnx.load(tmp_path / "g.onnx")
    sizes = {i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    assert set(sizes) >= {"a.x", "a.mask", "b.y"}
    assert sizes["a.x"][2] == 3
    assert all(isinstance(size, str) for name in sizes for size in sizes[name][:2])
    assert sizes["a.x"][1] != sizes["b.y"][1]
    assert {o.name for o in model.graph.output} == {"out_number", "out_length"}
    assert model.opset_import[0].version == 18
    out, err = capfd.readouterr()
    assert out == ""
    assert "[torch.onnx]" not in err
    assert not [w for w in recwarn if "LeafSpec" in str(w.message) or "axis name" in str(w.message)]


def test_half_precision_module_is_exported_in_32_bit_and_left_as_it_was(tmp_path):
    module = Wide().bfloat16()
    Onnx(Onnx.Config()).export_graph(graph(module), tmp_path / "g.onnx")
    assert module.out.weight.dtype == torch.bfloat16
    kinds = {i.data_type for i in onnx.load(tmp_path / "g.onnx").graph.initializer}
    assert onnx.TensorProto.BFLOAT16 not in kinds


class Branching(torch.nn.Module):
    def forward(self, batch):
        x = batch["b.y"]
        return {"y": x * 2 if x.sum() > 0 else x}


def test_model_that_cannot_be_traced_gets_a_reason(tmp_path):
    with pytest.raises(PluginError, match=r"cannot be exported to ONNX: .*data-dependent"):
        Onnx(Onnx.Config()).export_graph(graph(Branching()), tmp_path / "g.onnx")
    assert not (tmp_path / "g.onnx").exists()


class Pooling(torch.nn.Module):
    """max_pool1d fixes the length in the exported graph."""

    def forward(self, batch):
        return {"y": torch.nn.functional.max_pool1d(batch["a.x"].mT, 3, 1, 1).mean((1, 2))}


def test_size_that_the_model_fixes_is_named(tmp_path):
    with pytest.raises(PluginError, match=r"fixes the size 'a\.time' of 'a\.x' to 3"):
        Onnx(Onnx.Config()).export_graph(graph(Pooling()), tmp_path / "g.onnx")
    assert not (tmp_path / "g.onnx").exists()


def test_graph_that_deviates_is_refused(tmp_path):
    from automm_export import _onnx

    prepared = _onnx.prepared(graph(Wide()))
    _onnx.export(prepared, tmp_path / "g.onnx", 18)
    with torch.no_grad():
        prepared.module.out.bias += 0.1
    with pytest.raises(VerificationError, match="'number' deviates from the model at sizes"):
        _onnx.check_parity(prepared, tmp_path / "g.onnx", 1e-3)


def test_sizes_that_contradict_each_other_are_named(tmp_path):
    with pytest.raises(PluginError, match=r"'b\.y' has size 1 in dimension 'a\.time', other arrays have 2"):
        bad = graph(Wide(), **{"b.y": {0: "batch", 1: "a.time"}})
        dynamic = {name: bad.dynamic[name] for name in ("a.x", "a.mask", "b.y")}
        Onnx(Onnx.Config()).export_graph(Graph(bad.module, bad.example, dynamic), tmp_path / "g.onnx")
