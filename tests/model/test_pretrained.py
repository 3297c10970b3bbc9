"""Encoders over checkpoints: what every one of them inherits."""

import torch

from automm.api import Context, Features, PretrainedEncoder

MASK = torch.tensor([[True, True, False], [True, False, False]])
TOKENS = torch.tensor([[[1.0, 0.0], [3.0, 2.0], [9.0, 9.0]], [[5.0, 4.0], [9.0, 9.0], [9.0, 9.0]]])


class Reader(PretrainedEncoder):
    modality = "text"

    def __init__(self, config, **head):
        super().__init__(config, None)
        self.add_head(2, **head)


def test_it_needs_a_checkpoint_and_extracts_where_it_is_frozen():
    context = Context("classification", (), 100)
    assert Reader.unsuited(context, Reader.Config()) == "no checkpoint named"
    assert Reader.unsuited(context, Reader.Config(checkpoint="org/name")) is None
    assert Reader.pretrained(Reader.Config())
    assert [Reader.extracts(Reader.Config(adapt=adapt)) for adapt in ("none", "last_1", "full")] == [True, False, False]


def test_without_a_head_nothing_is_added():
    encoder = Reader(Reader.Config())
    tokens, mask = encoder.complete(Features(TOKENS, MASK))
    assert encoder.width == 2
    assert encoder.fresh() == []
    assert torch.equal(tokens, TOKENS)
    assert torch.equal(mask, MASK)


def test_attention_weighs_real_tokens_and_the_projection_widens():
    encoder = Reader(Reader.Config(), attention=True, project=3)
    assert encoder.width == 3
    assert encoder.fresh() == [encoder.attention, encoder.project]
    torch.nn.init.zeros_(encoder.attention.weight)  # equal weights: the mean of what is real
    tokens, mask = encoder.complete(Features(TOKENS, MASK))
    torch.testing.assert_close(tokens[:, 0], encoder.project(torch.tensor([[2.0, 1.0], [5.0, 4.0]])))
    assert mask.tolist() == [[True], [True]]
