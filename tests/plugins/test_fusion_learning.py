import pytest
import torch
from automm_fusion import FUSIONS, Aligned, Late
from torch import nn

from automm.api import Features

JOINING = [cls for cls in FUSIONS if cls is not Aligned]
WIDTHS = {"a": 6, "b": 4}
ROWS = 256
TRAIN, NEW = slice(128), slice(128, ROWS)


def rows(inputs, part, missing=()):
    return {
        name: Features(f.tokens[part], torch.zeros_like(f.mask[part]) if name in missing else f.mask[part])
        for name, f in inputs.items()
    }


def trained(cls, inputs, y, **config):
    """A function from inputs to the class that a fusion with a linear head predicts, after a short training."""
    torch.manual_seed(0)
    module = cls(cls.Config(**{"hidden": 32, "modality_dropout": 0.0, **config}), WIDTHS).train()
    head = nn.Linear(32, 2)

    def output(new):
        joint = module(new)
        return head((joint.tokens * module.weigh(joint)[:, :, None]).sum(1) if module.decisions else joint.mean())

    optimizer = torch.optim.Adam([*module.parameters(), *head.parameters()], 5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(output(rows(inputs, TRAIN)), y[TRAIN]).backward()
        optimizer.step()
    module.eval()
    return lambda new: output(new).argmax(1)


def share(found, y):
    return float((found == y[NEW]).double().mean())


@pytest.mark.parametrize("cls", JOINING)
def test_learns_what_only_two_inputs_together_tell(cls):
    torch.manual_seed(0)
    bits = torch.randint(0, 2, (ROWS, 2))
    y = bits[:, 0] ^ bits[:, 1]
    inputs = {
        name: Features.vector(torch.randn(ROWS, width) * 0.3 + bits[:, [at]])
        for at, (name, width) in enumerate(WIDTHS.items())
    }
    accuracy = share(trained(cls, inputs, y)(rows(inputs, NEW)), y)
    # Decisions made apart cannot tell; everything else must.
    assert (accuracy < 0.7) if cls is Late else (accuracy > 0.9)


@pytest.mark.parametrize("cls", JOINING)
def test_modality_dropout_prepares_for_a_missing_input(cls):
    """Both inputs tell the class, `a` in a simple way: alone it stops a network from listening to `b`."""
    torch.manual_seed(0)
    bits = torch.randint(0, 2, (ROWS, 2))
    y = bits[:, 0] ^ bits[:, 1]
    inputs = {
        "a": Features.vector(torch.randn(ROWS, 6) * 0.3 + 2.0 * y[:, None]),
        "b": Features.vector(torch.randn(ROWS, 4) * 0.2 + bits.repeat(1, 2)),
    }
    without, prepared = (trained(cls, inputs, y, modality_dropout=dropout) for dropout in (0.0, 0.5))
    assert share(prepared(rows(inputs, NEW)), y) > 0.95
    only_b = rows(inputs, NEW, missing=("a",))
    assert share(prepared(only_b), y) > 0.9
    if cls is Late:  # each input's network is asked anyway
        assert share(without(only_b), y) > 0.9
    else:
        assert share(without(only_b), y) < 0.7
