import numpy as np
import pytest
import torch
from automm_fusion import FUSIONS, Aligned, Bottleneck, Gated, GraphNetwork, Mult, Transformer
from torch import nn

from automm.api import Context, Features, InputInfo

ALL = [cls for cls in FUSIONS if cls is not Aligned]  # what gives a joint vector
WIDTHS = {"title text": 6, "photo": 4, "table": 3}


def features(rows, seed=0, missing=None):
    """Three inputs of 5, 3 and 1 tokens; `missing` is [rows, 3], True where an input is missing."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {}
    for at, ((name, width), time) in enumerate(zip(WIDTHS.items(), (5, 3, 1), strict=True)):
        lengths = torch.randint(1, time + 1, (rows,), generator=generator)
        mask = torch.arange(time)[None] < lengths[:, None]
        if missing is not None:
            mask &= ~missing[:, at, None]
        inputs[name] = Features(torch.randn(rows, time, width, generator=generator) * mask[:, :, None], mask)
    return inputs


def make(cls, widths=WIDTHS, **config):
    torch.manual_seed(0)
    return cls(cls.Config(**{"hidden": 16, **config}), widths).eval()


def vector(module, inputs):
    """What a head sees in the end, [batch, width]."""
    joint = module(inputs)
    return (joint.tokens * module.weigh(joint)[:, :, None]).sum(1) if module.decisions else joint.mean()


EVERY_SUBSET = torch.tensor([[bool(n & bit) for bit in (1, 2, 4)] for n in range(8)])


@pytest.mark.parametrize("cls", ALL)
def test_any_subset_may_be_missing(cls):
    module = make(cls)
    joint = module(features(8, missing=EVERY_SUBSET))
    assert joint.tokens.shape == (8, module.decisions or 1, module.width)
    assert joint.present.all()
    assert joint.tokens.isfinite().all()
    nothing = module(features(2, seed=3, missing=torch.ones(2, 3, dtype=torch.bool))).mean()
    torch.testing.assert_close(nothing[0], nothing[1])  # depends on no token
    torch.testing.assert_close(nothing[0], joint.mean()[7])


@pytest.mark.parametrize("cls", ALL)
def test_learned_embeddings_stand_for_missing_inputs_in_eval_mode(cls):
    module, inputs = make(cls), features(8, missing=EVERY_SUBSET)
    before = vector(module, inputs)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("missing"):
                parameter.normal_()
    changed = (vector(module, inputs) - before).abs().amax(1) > 1e-4
    # Late fusion gives a missing input no vote, and a gate that sees one input gives it all the weight.
    unchanged = {"late": {0, 1, 2, 3, 4, 5, 6}, "gated": {0, 3, 5, 6}}.get(cls.name, {0})
    assert set((~changed).nonzero()[:, 0].tolist()) == unchanged


@pytest.mark.parametrize("cls", ALL)
def test_tokens_of_a_missing_input_do_not_matter(cls):
    module, inputs = make(cls), features(8, missing=EVERY_SUBSET)
    noisy = {n: Features(f.tokens + 9.0 * ~f.mask[:, :, None], f.mask) for n, f in inputs.items()}
    torch.testing.assert_close(vector(module, noisy), vector(module, inputs))


@pytest.mark.parametrize("cls", ALL)
def test_order_of_the_mapping_does_not_matter(cls):
    module, inputs = make(cls), features(4)
    torch.testing.assert_close(module(dict(reversed(inputs.items()))).tokens, module(inputs).tokens)


@pytest.mark.parametrize("cls", ALL)
def test_settings_shape_the_module(cls):
    def size(**config):
        return sum(p.numel() for p in make(cls, **config).parameters())

    assert size(layers=3) > size(layers=2)
    assert make(cls, hidden=32).width == 32
    module, inputs = make(cls, dropout=0.5).train(), features(4)
    assert not torch.equal(module(inputs).tokens, module(inputs).tokens)
    still = make(cls, dropout=0.0, modality_dropout=0.0).train()
    assert torch.equal(still(inputs).tokens, still(inputs).tokens)


@pytest.mark.parametrize("cls", ALL)
def test_single_input_is_small(cls):
    module = make(cls, {"photo": 4}, layers=2)
    assert vector(module, {"photo": features(3)["photo"]}).shape == (3, 16)
    assert sum(p.numel() for p in module.parameters()) < 8000


@pytest.mark.parametrize("cls", FUSIONS)
def test_what_joins_inputs_needs_two(cls):
    def reason(inputs):
        info = InputInfo("cell", "any", ("cell",))
        return cls.unsuited(Context("classification", (info,) * inputs, 100), cls.Config())

    alone = {"concat", "transformer", "attention", "hard_attention"}
    assert reason(2) is None
    assert reason(1) == (None if cls.name in alone else "it needs at least two inputs, there is one")


@pytest.mark.parametrize("cls", [Transformer, Mult, Bottleneck, GraphNetwork])
def test_hidden_must_be_a_multiple_of_heads(cls):
    with pytest.raises(ValueError, match=r"hidden \(64\) must be a multiple of heads \(6\)"):
        cls.Config(hidden=64, heads=6)


@pytest.mark.parametrize(("inputs", "name"), [(1, "concat"), (2, "hybrid"), (3, "hybrid")])
def test_the_default_fits_the_number_of_inputs(inputs, name):
    context = Context("classification", (InputInfo("cell", "any", ("cell",)),) * inputs, 100)
    suited = [cls for cls in ALL if cls.unsuited(context, cls.Config()) is None]
    assert max(suited, key=lambda cls: cls.preference).name == name


def test_gates_over_present_inputs_sum_to_one():
    module = make(Gated, layers=0)
    module.mlp = nn.Identity()
    for project in module.vectors.project:  # every input says tanh(x) = c, so a weighted mean of present inputs says c
        project[1].weight.data.zero_()  # the norm's scale
        project[1].bias.data.fill_(0.5)
    joint = module(features(8, missing=EVERY_SUBSET)).tokens[:, 0]
    torch.testing.assert_close(joint[:7], torch.full((7, 16), float(np.tanh(0.5))))
    torch.testing.assert_close(joint[7], module.vectors.missing.detach().tanh().mean(0))


def test_two_gates_are_the_gated_multimodal_unit():
    module = make(Gated, {"a": 4, "b": 4}, layers=0)
    module.mlp = nn.Identity()
    a, b = torch.randn(5, 4), torch.randn(5, 4)
    joint = module({"a": Features.vector(a), "b": Features.vector(b)}).tokens[:, 0]
    u, v = module.vectors.project[0](a), module.vectors.project[1](b)
    scores = module.gate(torch.cat([u, v], 1))
    z = torch.sigmoid(scores[:, :16] - scores[:, 16:])
    torch.testing.assert_close(joint, z * u.tanh() + (1 - z) * v.tanh())


def test_transformer_gives_tokens_where_the_task_needs_them():
    module, inputs = make(Transformer), features(8, missing=EVERY_SUBSET)
    module.needs = "tokens"
    joint = module(inputs)
    assert joint.tokens.shape == (8, 5 + 3 + 1, 16)
    torch.testing.assert_close(joint.mask, torch.cat([f.mask for f in inputs.values()], 1))
    assert joint.tokens.isfinite().all()


@pytest.mark.parametrize("cls", ALL)
def test_modality_dropout_hides_one_present_input_of_a_share_of_the_rows(cls):
    torch.manual_seed(0)
    module = make(cls, modality_dropout=0.4).train()
    missing = torch.zeros(3000, 3, dtype=torch.bool)
    missing[1000:2000, 0] = True  # two inputs left
    missing[2000:, :2] = True  # one input left
    inputs = features(3000, missing=missing)
    before = torch.stack([f.present for f in inputs.values()], 1)
    after = torch.stack([f.present for f in module.hide(inputs).values()], 1)
    lost = before.sum(1) - after.sum(1)
    assert not (after & ~before).any()
    for part in (slice(1000), slice(1000, 2000)):
        assert set(lost[part].tolist()) == {0, 1}
        assert lost[part].double().mean().item() == pytest.approx(0.4, abs=0.05)
    assert not lost[2000:].any()
    shares = (before & ~after)[:1000].double().mean(0)
    assert shares.tolist() == pytest.approx([0.4 / 3] * 3, abs=0.04)
    hidden = torch.stack([f.present for f in module.eval().hide(inputs).values()], 1)
    assert torch.equal(hidden, before)


@pytest.mark.parametrize("cls", ALL)
def test_bfloat16_autocast(cls):
    module = make(cls).train()
    with torch.autocast("cpu", torch.bfloat16):
        joint = module(features(8, missing=EVERY_SUBSET)).tokens
    assert joint.isfinite().all()
    joint.float().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())
