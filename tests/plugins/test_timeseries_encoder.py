"""InceptionTime: learning, independence of padding, and agreement with its exported graph."""

import numpy as np
import pytest
import torch
from automm_timeseries.inception_time import InceptionTime
from automm_timeseries.modality import Series
from automm_timeseries.values import Values
from torch import nn

from automm.api import InputInfo, collate

INFO = InputInfo("log", "series", ("log",))


def build(cells, **fields):
    config = InceptionTime.Config(**{"filters": 4, "kernel": 9, "depth": 3, **fields})
    processor = InceptionTime.processor(config, INFO)
    processor.fit([cells])
    torch.manual_seed(0)
    return InceptionTime(config, processor), processor


def bursts(count: int, seed: int) -> tuple[list, torch.Tensor]:
    """Two-channel noise of varying length with a burst somewhere; its frequency is the class (equal energy)."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 2
    cells = []
    for kind in label:
        values = rng.normal(0, 0.5, (rng.integers(30, 50), 2))
        start = rng.integers(0, 14)
        values[start : start + 16, 1] += 1.5 * np.sin(np.arange(16) * (0.8 if kind else 1.6))
        cells.append(values.tolist())
    return cells, torch.from_numpy(label)


def tensors(arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def accuracy_after(encoder, processor, train, test, epochs) -> float:
    arrays, label = tensors(processor(train[0])), train[1]
    head = nn.Linear(encoder.width, 2)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=5e-3)
    encoder.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(label)).split(16):
            output = head(encoder({name: array[rows] for name, array in arrays.items()}).mean())
            optimizer.zero_grad()
            nn.functional.cross_entropy(output, label[rows]).backward()
            optimizer.step()
    encoder.eval()
    with torch.no_grad():
        output = head(encoder(tensors(processor(test[0]))).mean())
    return (output.argmax(1) == test[1]).float().mean().item()


@pytest.mark.parametrize("fields", [{}, {"tokens": True}, {"statistics": False}])
def test_learns_the_frequency_of_a_burst(fields):
    train, test = bursts(128, 0), bursts(80, 1)
    encoder, processor = build(train[0], **fields)
    assert accuracy_after(encoder, processor, train, test, epochs=8) > 0.9


def test_statistics_alone_tell_levels_apart():
    rng = np.random.default_rng(0)

    def levels(count):
        label = np.arange(count) % 2
        return [(rng.normal(0, 1, 20) + 2 * kind).tolist() for kind in label], torch.from_numpy(label)

    train, test = levels(80), levels(40)
    encoder, processor = build(train[0], depth=1)
    assert accuracy_after(encoder, processor, train, test, epochs=6) > 0.95


@pytest.mark.parametrize("tokens", [False, True])
def test_padding_and_neighbours_do_not_matter(tokens):
    cells, _ = bursts(6, 0)
    cells = [*cells, [[1.0, 2.0]], [[0.0, 1.0], [3.0, 1.0]]]
    encoder, processor = build(cells, tokens=tokens, depth=4)
    encoder.eval()
    batch = encoder(tensors(processor(cells)))
    for at, cell in enumerate(cells):
        alone = encoder(tensors(processor([cell])))
        length = alone.tokens.shape[1]
        torch.testing.assert_close(batch.tokens[at, :length], alone.tokens[0], atol=1e-5, rtol=1e-5)
        assert batch.mask[at].sum() == length == (len(cell) if tokens else 1)
        assert not batch.tokens[at, length:].any()


def test_what_padding_holds_does_not_matter():
    cells, _ = bursts(3, 0)
    encoder, processor = build(cells)
    arrays = tensors(processor(cells))
    encoder.eval()
    expected = encoder(arrays).tokens
    values = torch.where(arrays["mask"][..., None], arrays["values"], 7.0)
    torch.testing.assert_close(encoder({**arrays, "values": values}).tokens, expected)


@pytest.mark.parametrize("tokens", [False, True])
def test_a_missing_series_gives_finite_features_and_gradients(tokens):
    cells, _ = bursts(2, 0)
    encoder, processor = build(cells, tokens=tokens)
    features = encoder(tensors(processor([cells[0], None])))
    features.tokens.sum().backward()
    assert features.tokens.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())
    lone = encoder(tensors(processor([None])))
    assert lone.tokens.isfinite().all()


def test_the_order_of_time_matters():
    cells, _ = bursts(4, 0)
    encoder, processor = build(cells)
    encoder.eval()
    forward, backward = (encoder(tensors(processor(c))).tokens for c in (cells, [cell[::-1] for cell in cells]))
    assert (forward - backward).abs().amax((1, 2)).min() > 1e-3


def test_configuration_reaches_the_processor():
    config = InceptionTime.Config(max_length=7, longer="resample", clock="keep")
    processor = InceptionTime.processor(config, INFO)
    assert isinstance(processor, Values)
    assert (processor.config.max_length, processor.config.longer, processor.config.clock) == (7, "resample", "keep")
    assert InceptionTime.modality == Series.name


def test_layers_hold_every_parameter_once():
    encoder, _ = build(bursts(2, 0)[0], depth=6)
    held = [p for layer in encoder.layers() for p in layer.parameters()]
    assert len(encoder.layers()) == 7
    assert len(held) == len({id(p) for p in held}) == len(list(encoder.parameters()))


@pytest.mark.filterwarnings("ignore:# The axis name:UserWarning")
def test_graph_of_tokens_agrees(tmp_path):
    import onnxruntime

    cells, _ = bursts(6, 0)
    encoder, processor = build(cells, tokens=True, statistics=False)

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = encoder

        def forward(self, batch):
            features = self.encoder({"values": batch["log.values"], "mask": batch["log.mask"]})
            return features.tokens, features.mask

    batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
    example = {f"log.{name}": array for name, array in tensors(processor(cells[:3])).items()}
    program = torch.onnx.export(
        Graph().eval(),
        (),
        kwargs={"batch": example},
        dynamic_shapes={"batch": {name: {0: batch, 1: time} for name in example}},
        input_names=list(example),
        output_names=["out_tokens", "out_mask"],
        dynamo=True,
        verbose=False,
    )
    path = tmp_path / "graph.onnx"
    program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for rows in (cells, cells[:1], [[[1.0, 2.0]], None], [cells[0] * 4, cells[1]], [[[0.5, 1.0]]]):
        arrays = collate(processor.items(rows), processor.specs())
        tokens, mask = session.run(None, {f"log.{name}": array for name, array in arrays.items()})
        with torch.no_grad():
            expected = encoder(tensors(arrays))
        np.testing.assert_allclose(tokens, expected.tokens.numpy(), atol=1e-4, rtol=1e-4)
        np.testing.assert_array_equal(mask, expected.mask.numpy())
