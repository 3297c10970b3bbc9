"""FT-Transformer, TabM and the layer on fixed descriptors."""

import random

import pytest
import torch
from automm_tabular.ft_transformer import FtTransformer
from automm_tabular.tabm import Tabm
from automm_tabular.tabular_vector import TabularVector

from automm.api import Context, InputInfo

TYPES = {"age": "number", "genres": "list", "city": "category", "since": "date", "member": "boolean"}
INFO = InputInfo("tabular", "tabular", tuple(TYPES), TYPES)


def people(rows, seed=0):
    dice = random.Random(seed)
    return {
        "age": [str(dice.randint(18, 80)) for _ in range(rows)],
        "genres": ["|".join(dice.sample(["crime", "drama", "war"], dice.randint(1, 2))) for _ in range(rows)],
        "city": [dice.choice(["Bonn", "Köln", "上海"]) for _ in range(rows)],
        "since": [f"20{dice.randint(10, 24)}-0{dice.randint(1, 9)}-15" for _ in range(rows)],
        "member": [dice.choice(["yes", "no"]) for _ in range(rows)],
    }


def made(cls, cells, **fields):
    config = cls.Config(**fields)
    processor = cls.processor(config, INFO)
    processor.fit([cells])
    torch.manual_seed(0)
    return cls(config, processor), {name: torch.from_numpy(array) for name, array in processor(cells).items()}


@pytest.mark.parametrize(
    ("cls", "fields"),
    [
        (FtTransformer, {"width": 32, "heads": 4, "layers": 1}),
        (Tabm, {"members": 4, "hidden": 32, "width": 32, "layers": 1}),
        (TabularVector, {"width": 64}),
    ],
)
def test_learns_a_signal_across_types(cls, fields):
    cells = people(900)
    # An item of the list counts for members only, an age only for the others: no column shows it alone.
    wanted = torch.tensor(
        [
            float("war" in genres if member == "yes" else int(age) > 45)
            for genres, age, member in zip(cells["genres"], cells["age"], cells["member"], strict=True)
        ]
    )
    encoder, arrays = made(cls, cells, **fields)
    head = torch.nn.Sequential(torch.nn.Linear(encoder.width, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=5e-3)
    for _ in range(10):
        for batch in torch.randperm(700).split(50):
            output = head(encoder({name: array[batch] for name, array in arrays.items()}).mean())[:, 0]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(output, wanted[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    encoder.eval()
    with torch.no_grad():
        output = head(encoder({name: array[700:] for name, array in arrays.items()}).mean())[:, 0]
    assert ((output > 0) == (wanted[700:] > 0.5)).float().mean() > 0.85


def test_the_transformer_gives_a_token_per_column():
    encoder, arrays = made(FtTransformer, people(20), width=16, heads=2, tokens=True)
    tokens, mask = encoder.eval()(arrays)
    assert tokens.shape == (20, 1 + 6, 16)  # two for the date
    assert mask.all()
    short, _ = made(FtTransformer, people(20), width=16, heads=2)
    short.load_state_dict(encoder.state_dict())
    assert torch.allclose(short.eval()(arrays).tokens, tokens[:, :1], atol=1e-5)


def test_members_of_the_ensemble_differ_and_the_features_are_their_mean():
    encoder, arrays = made(Tabm, people(20), members=4, hidden=16, width=8)
    encoder.eval()
    members = encoder.project(encoder.backbone(encoder.view(encoder.columns(arrays).flatten(1))))
    assert members.shape == (20, 4, 8)
    assert members.std(1).mean() > 0.05
    assert torch.allclose(encoder(arrays).tokens[:, 0], encoder.norm(members.mean(1)), atol=1e-6)


def test_the_vector_is_extracted_with_nan_and_completed_without():
    cells = people(20)
    cells["age"][3] = None
    encoder, arrays = made(TabularVector, cells, width=16)
    assert encoder.extract(arrays).mean()[3].isnan().any()
    assert encoder(arrays).tokens.isfinite().all()


def test_attention_over_very_many_columns_is_unsuited():
    def reason(columns):
        info = InputInfo("tabular", "tabular", tuple(f"c{i}" for i in range(columns)))
        return FtTransformer.unsuited(Context("classification", (info,), 1000), FtTransformer.Config())

    assert reason(300) is None
    assert reason(301) == "attention over 301 columns, more than 300, takes too long"


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="width: 30 cannot be divided among 8 heads"):
        FtTransformer.Config(width=30)
