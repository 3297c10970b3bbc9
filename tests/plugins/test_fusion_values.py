"""What each fusion computes, against the formula written out."""

import pytest
import torch
from automm_fusion import Aligned, Attention, Bottleneck, GraphNetwork, HardAttention, Hybrid, Late, LowRank, Mult
from torch import nn

from automm.api import Features
from automm.model.assemble import Decisions

WIDTHS = {"text": 5, "photo": 4, "table": 3}
LENGTHS = {"text": 4, "photo": 2, "table": 1}


def features(rows=6, seed=0, missing=None):
    """`missing` is bool [rows, 3]."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {}
    for at, (name, width) in enumerate(WIDTHS.items()):
        mask = torch.ones(rows, LENGTHS[name], dtype=torch.bool)
        if missing is not None:
            mask &= ~missing[:, at, None]
        inputs[name] = Features(torch.randn(rows, LENGTHS[name], width, generator=generator) * mask[:, :, None], mask)
    return inputs


def make(cls, **config):
    torch.manual_seed(0)
    return cls(cls.Config(**{"hidden": 16, **config}), WIDTHS).eval()


MISSING = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]).bool()


def test_late_fusion_is_the_mean_of_the_heads_of_what_is_present():
    module, inputs = make(Late), features(missing=MISSING)
    heads = [nn.Sequential(Mean(), nn.Linear(16, 2)) for _ in WIDTHS]
    joint = module(inputs)
    found = Decisions(heads)(joint, module.weigh(joint))
    each = []
    for at, (name, head) in enumerate(zip(WIDTHS, heads, strict=True)):
        decision = module.networks[at](module.vectors.project[at](inputs[name].mean()))
        each.append(head(Features.vector(decision)))
    present = ~MISSING[:5]
    for row in range(5):
        votes = [each[at][row] for at in range(3) if present[row, at]]
        torch.testing.assert_close(found[row], torch.stack(votes).mean(0))


class Mean(nn.Module):
    def forward(self, joint):
        return joint.mean()


def test_learned_weights_are_a_softmax_over_what_is_present():
    module, inputs = make(Late, weights="learned"), features(missing=MISSING)
    joint = module(inputs)
    torch.testing.assert_close(module.weigh(joint)[0], torch.full((3,), 1 / 3))
    with torch.no_grad():
        module.score.score.copy_(torch.tensor([0.0, 1.0, 2.0]).log1p())  # log of 1, 2, 3
    expected = torch.tensor([[1, 2, 3], [0, 2, 3], [0, 0, 3], [1, 0, 3], [1, 2, 0], [1, 2, 3]]).float()
    torch.testing.assert_close(module.weigh(joint), expected / expected.sum(1, keepdim=True))


def test_confidence_differs_from_row_to_row():
    module, inputs = make(Late, weights="confidence"), features()
    with torch.no_grad():
        module.score.score.normal_()
    joint = module(inputs)
    expected = torch.einsum("bmh,mh->bm", joint.tokens, module.score.score).softmax(1)
    torch.testing.assert_close(module.weigh(joint), expected)
    assert expected.std(0).min() > 0.05


@pytest.mark.parametrize("early", ["concat", "transformer"])
def test_hybrid_adds_the_joint_decision(early):
    module, inputs = make(Hybrid, early=early), features(missing=MISSING)
    assert module.decisions == 4
    joint = module(inputs)
    torch.testing.assert_close(joint.mask, torch.cat([~MISSING, torch.ones(6, 1, dtype=torch.bool)], 1))
    torch.testing.assert_close(joint.tokens[:, 3:], module.early(inputs).tokens)
    assert module.weigh(joint)[:, 3].tolist() == pytest.approx([1 / 4, 1 / 3, 1 / 2, 1 / 3, 1 / 3, 1])


def test_hybrid_hides_the_same_input_from_early_and_late():
    torch.manual_seed(0)
    module, inputs = make(Hybrid, modality_dropout=1.0, dropout=0.0).train(), features(64)
    seen = []
    module.early.register_forward_pre_hook(
        lambda _, arguments: seen.append(torch.stack([f.present for f in arguments[0].values()], 1))
    )
    joint = module(inputs)
    torch.testing.assert_close(joint.mask[:, :3], seen[0])
    assert (seen[0].sum(1) == 2).all()


def test_low_rank_is_the_full_tensor_times_the_outer_product():
    module = make(LowRank, rank=3)
    vectors = torch.randn(5, 3, 16)
    ones = torch.ones(5, 1)
    a, b, c = (torch.cat([vectors[:, at], ones], 1) for at in range(3))
    weight = torch.einsum("rio,rjo,rko->ijko", *module.factors)  # [17, 17, 17, 16]
    outer = torch.einsum("bi,bj,bk->bijk", a, b, c)
    expected = torch.einsum("bijk,ijko->bo", outer, weight) + module.bias
    torch.testing.assert_close(module.product(vectors), expected, rtol=1e-4, atol=1e-4)


def test_soft_attention_starts_with_equal_shares_of_the_inputs():
    module = make(Attention, heads=2)
    module.score[2].weight.data.zero_()
    module.mlp = nn.Identity()
    inputs = features()
    read = module.read(inputs)
    expected = torch.stack([f.tokens.mean(1) for f in read]).mean(0)
    torch.testing.assert_close(module(inputs).tokens[:, 0], expected)


def test_hard_attention_is_the_mean_of_exactly_the_best_tokens():
    module = make(HardAttention, k=2)
    minus = -torch.inf
    scores = torch.tensor([[0.1, 3.0, -1.0, 2.0], [5.0, minus, 4.0, 6.0], [minus, minus, 0.0, minus]])[:, :, None]
    expected = torch.tensor([[0, 0.5, 0, 0.5], [0.5, 0, 0, 0.5], [0, 0, 1.0, 0]])[:, :, None]
    assert torch.equal(module.weights(scores), expected)


def test_hard_attention_has_the_gradient_of_soft_attention():
    module = make(HardAttention, k=1)
    soft = torch.randn(3, 5, 2, requires_grad=True)
    hard = soft.detach().clone().requires_grad_()
    value = torch.randn(3, 5, 2)
    (soft.softmax(1) * value).sum().backward()
    (module.weights(hard) * value).sum().backward()
    torch.testing.assert_close(hard.grad, soft.grad)


def test_fewer_tokens_than_k_are_all_seen():
    module = make(HardAttention, k=16)
    found = module.weights(torch.randn(2, 3, 4))
    torch.testing.assert_close(found, torch.full((2, 3, 4), 1 / 3))


def test_cross_modal_attention_has_one_stack_per_ordered_pair():
    module = make(Mult, layers=2)
    assert set(module.pairs) == {"0_to_1", "0_to_2", "1_to_0", "1_to_2", "2_to_0", "2_to_1"}
    read = module.read(features())
    text = module.listen(1, 0, read)
    assert text.tokens.shape == read[0].tokens.shape
    # One token as context: attention gives its value, whatever the query.
    block = module.pairs["2_to_1"][0]
    value = block.attention.key_value(block.attention.norm(read[2].tokens)).chunk(2, 2)[1]
    expected = read[1].tokens + block.attention.out(value)
    torch.testing.assert_close(block.attention(read[1].tokens, read[2]), expected)


def test_inputs_exchange_through_the_bottleneck_only():
    module, inputs = make(Bottleneck, before=1), features()
    module.mlp = nn.Identity()  # class tokens side by side
    other = {**inputs, "photo": features(seed=1)["photo"]}

    def text():
        return module(inputs).tokens[:, 0, :16], module(other).tokens[:, 0, :16]

    with_bottleneck = text()
    assert (with_bottleneck[0] - with_bottleneck[1]).abs().max() > 1e-3
    for blocks in module.blocks[:-1]:  # what the photo writes never gets to be read
        for block in blocks:
            block.register_forward_hook(lambda _, arguments, out: Features(still(out.tokens, arguments[0]), out.mask))

    def still(tokens, before):
        """The bottleneck as it was, if there is one in front."""
        size = 4 if before.tokens.shape[1] in {4 + 1 + n for n in LENGTHS.values()} else 0
        return torch.cat([before.tokens[:, :size], tokens[:, size:]], 1)

    without = text()
    torch.testing.assert_close(without[0], without[1])


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_graph_pooling_leaves_padding_out(pooling):
    from automm_fusion._graph import Pooling

    torch.manual_seed(0)
    pool = Pooling(pooling, 4)
    tokens, mask = torch.randn(3, 5, 4), torch.arange(5) < torch.tensor([[5], [2], [1]])
    found = pool(Features(tokens, mask))
    for row in range(3):
        real = tokens[row][mask[row]]
        expected = {
            "mean": real.mean(0),
            "max": real.amax(0),
            "attention": (pool.pool.gate_nn(real).softmax(0) * real).sum(0) if pooling == "attention" else None,
        }[pooling]
        torch.testing.assert_close(found[row], expected)


@pytest.mark.parametrize("inputs", [1, 2])
@pytest.mark.parametrize("aggregation", ["mean", "max"])
def test_messages_come_from_the_real_tokens_of_the_other_input(inputs, aggregation):
    from automm_fusion._graph import Relation

    torch.manual_seed(0)
    relation = Relation(4, aggregation, 2, 0.0).eval()
    mask = torch.tensor([[True, True, False], [True, False, False]])
    nodes = [Features(torch.randn(2, 3, 4), mask), Features(torch.randn(2, 2, 4), torch.ones(2, 2, dtype=torch.bool))]
    nodes = nodes[:inputs]
    for at, found in enumerate(relation(nodes)):
        source = nodes[1 - at] if inputs == 2 else nodes[0]
        for row in range(2):
            real = source.tokens[row][source.mask[row]]
            heard = real.mean(0) if aggregation == "mean" else real.amax(0)
            expected = relation.conv.lin_rel(heard) + relation.conv.lin_root(nodes[at].tokens[row])
            torch.testing.assert_close(found[row], expected)


def test_the_lean_maximum_is_that_of_the_library():
    from automm_fusion._graph import DenseGraphConv, Relation

    torch.manual_seed(0)
    relation, library = Relation(4, "max", 2, 0.0), DenseGraphConv(4, 4, aggr="max")
    library.load_state_dict(relation.conv.state_dict())
    a, b = (
        Features(torch.randn(2, 3, 4), torch.ones(2, 3).bool()),
        Features(torch.randn(2, 2, 4), torch.ones(2, 2).bool()),
    )
    across = torch.tensor([[0, 0, 0, 1, 1]] * 3 + [[1, 1, 1, 0, 0]] * 2).float()
    expected = library(torch.cat([a.tokens, b.tokens], 1), across.expand(2, 5, 5))
    torch.testing.assert_close(torch.cat(relation([a, b]), 1), expected)


def test_graph_edges_have_one_type_per_input_and_pair():
    module = make(GraphNetwork, layers=1)
    assert module.layers[0].pairs == [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]
    assert len(module.layers[0].relations) == 6


def test_aligned_vectors_are_units_in_one_space():
    module, inputs = make(Aligned), features(missing=MISSING)
    joint = module(inputs)
    assert joint.tokens.shape == (6, 3, 16)
    torch.testing.assert_close(joint.mask, ~MISSING)
    torch.testing.assert_close(joint.tokens.norm(dim=2), torch.ones(6, 3))
    alone = module({**inputs, "photo": features(seed=1)["photo"]}).tokens
    torch.testing.assert_close(alone[:, [0, 2]], joint.tokens[:, [0, 2]])  # an input's vector is its own affair
