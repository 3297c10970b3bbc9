"""Text without a download: the modality, n-grams and the encoder that is trained from scratch."""

import json
import random
import time

import numpy as np
import pytest
from automm_text.modality import Text
from automm_text.ngram import NgramText
from automm_text.ngrams import Ngrams
from automm_text.terms import terms

from automm.api import BadCell, BadCells, ColumnProfile

GOOD = ["wonderful", "delightful", "superb", "charming"]
BAD = ["dreadful", "boring", "awful", "clumsy"]
FILLER = ["the", "film", "was", "about", "a", "man", "and", "his", "dog", "who", "went", "to", "town", "one", "day"]
CHINESE_FILLER = "酒店房间位置早餐服务前台交通价格设施晚上"


def reviews(rows, seed=0):
    dice = random.Random(seed)
    texts, labels = [], []
    for _ in range(rows):
        label = dice.random() < 0.5
        words = [dice.choice(FILLER) for _ in range(12)]
        words[dice.randrange(12)] = dice.choice(GOOD if label else BAD)
        texts.append(" ".join(words))
        labels.append(label)
    return texts, labels


def chinese_reviews(rows, seed=0):
    dice = random.Random(seed)
    texts, labels = [], []
    for _ in range(rows):
        label = dice.random() < 0.5
        characters = [dice.choice(CHINESE_FILLER) for _ in range(14)]
        characters.insert(dice.randrange(14), dice.choice(["很满意", "非常好"] if label else ["很失望", "太差了"]))
        texts.append("".join(characters) + "。")
        labels.append(label)
    return texts, labels


def fitted(texts, **config):
    processor = Ngrams(Ngrams.Config(**config))
    processor.fit([texts])
    return processor


@pytest.mark.parametrize(
    ("profile", "least", "most"),
    [
        (ColumnProfile("x", "string", 500, 0, 495, mean_words=40, mean_chars=220), 0.9, 1),
        (ColumnProfile("x", "string", 500, 0, 480, mean_words=60, mean_chars=62), 0.9, 1),  # Chinese
        (ColumnProfile("x", "string", 500, 0, 450, mean_words=2.5, mean_chars=15), 0.7, 0.9),
        (ColumnProfile("x", "string", 500, 0, 6, mean_words=1, mean_chars=8), 0, 0.2),
    ],
)
def test_claims(profile, least, most):
    claim = Text.claim(profile)
    assert least <= claim.confidence <= most
    assert "words on average" in claim.reason


@pytest.mark.parametrize(
    "facts",
    [
        {"number_share": 1.0},
        {"date_share": 1.0},
        {"list_share": 1.0},
        {"exists_share": 0.9},
        {"extensions": {".jpg": 0.9}},
        {"nulls": 100},
    ],
)
def test_no_claim_on_other_kinds_of_strings(facts):
    assert Text.claim(ColumnProfile("x", "string", 100, distinct=100, mean_words=9, **facts)) is None


def test_terms_of_english_and_chinese():
    assert list(terms("Not good!")) == [
        *["not", "#<no", "#not", "#ot>", "#<not", "#not>"],
        *["good", "not good", "#<go", "#goo", "#ood", "#od>", "#<goo", "#good", "#ood>"],
        "!",
    ]
    assert list(terms("很满意,OK")) == ["很", "满", "意", "很满", "满意", "很满意", "ok"]
    assert list(terms("ＡＢ 你")) == ["ab", "你"]
    assert list(terms(" .,; ")) == []


def test_weights_are_tf_idf_of_unit_length():
    processor = fitted(["aa bb bb", "aa", "aa bb", "aa"])
    assert processor.state["terms"] == ["aa", "aa bb", "bb"]  # "bb bb" occurs in one text only
    row = processor.load("aa bb bb")
    rare, common = np.log(5 / 3) + 1, 1.0
    expected = np.array([common, rare, (1 + np.log(2)) * rare])
    assert row["ids"].tolist() == [1, 2, 3]
    assert row["weights"] == pytest.approx(expected / np.linalg.norm(expected), rel=1e-5)


def test_missing_unseen_and_wrong_cells():
    processor = fitted(reviews(50)[0])
    arrays = processor([None, "zzz qqq", "the film", ""])
    assert arrays["ids"].dtype == np.int64
    assert arrays["weights"].dtype == np.float32
    for row in (0, 1, 3):
        assert (arrays["ids"][row] == 0).all()
        assert (arrays["weights"][row] == 0).all()
    assert (arrays["ids"][2] > 0).any()
    with pytest.raises(BadCells, match="text expected, got list"):
        processor(["fine", ["not", "text"]])
    assert processor.load(7)["ids"].tolist() == [0]


def test_half_a_character_is_no_obstacle():
    assert fitted(["ab \ud800 cd", "ab cd"]).load("\udfff ab")["ids"].tolist() != [0]


def test_a_batch_equals_one_by_one():
    texts = [*reviews(20)[0], *chinese_reviews(20)[0], None]
    processor = fitted(texts)
    whole = processor(texts)
    for at, text in enumerate(texts):
        row = processor([text])
        size = row["ids"].shape[1]
        for name in ("ids", "weights"):
            assert (whole[name][at, :size] == row[name][0]).all()
            assert (whole[name][at, size:] == 0).all()


def test_chunks_do_not_change_what_is_learned():
    texts = [*reviews(60)[0], None, *chinese_reviews(60)[0]]
    one, many = Ngrams(Ngrams.Config()), Ngrams(Ngrams.Config())
    one.fit([texts])
    many.fit([texts[at : at + 7] for at in range(0, len(texts), 7)])
    assert one.state["terms"] == many.state["terms"]
    assert (one.state["idf"] == many.state["idf"]).all()
    assert (one.state["_terms_to_space"] == many.state["_terms_to_space"]).all()


def test_few_or_no_texts():
    single = fitted(["one of a kind"])
    assert single.load("one of")["ids"].tolist() != [0]
    nothing = fitted([None, None])
    assert nothing.load("anything")["ids"].tolist() == [0]
    assert NgramText(NgramText.Config(), nothing).table.weight.shape == (1, 128)


def test_state_survives_json_and_npz_without_the_semantic_space(tmp_path):
    texts, _ = reviews(60)
    config = NgramText.Config(width=16)
    processor = NgramText.processor(config, None)
    processor.fit([texts])
    np.savez(tmp_path / "state.npz", idf=processor.state["idf"])
    terms_ = json.loads(json.dumps(processor.state["terms"], allow_nan=False))
    with np.load(tmp_path / "state.npz", allow_pickle=False) as arrays:
        again = Ngrams(processor.config, {"terms": terms_, "idf": arrays["idf"]})
    for name, array in processor(texts).items():
        assert (array == again(texts)[name]).all()
    # Shapes do not depend on the space: trained weights fit an encoder made from a package's state.
    NgramText(config, again).load_state_dict(NgramText(config, processor).state_dict())


def test_ten_megabytes_are_fast_and_rows_are_bounded():
    processor = fitted(reviews(50)[0], row_terms=20)
    for text in ("the film was superb " * 500_000, "x" * 10_000_000, "好" * 3_500_000, "\ufdfa" * 5_000_000):
        start = time.perf_counter()
        assert len(processor.load(text)["ids"]) <= 20
        assert time.perf_counter() - start < 2


def test_the_space_is_a_truncated_svd():
    texts, _ = reviews(80)
    processor = fitted(texts, space=8)
    matrix = np.zeros((80, processor.size))
    for row, item in zip(matrix, processor.items(texts), strict=True):
        row[item["ids"]] = item["weights"]
    values = np.linalg.svd(matrix, compute_uv=False)
    places = matrix[:, 1:] @ processor.state["_terms_to_space"].astype(float)
    spread = np.linalg.norm(places, axis=0) / np.sqrt(80)
    assert spread == pytest.approx(0.3 * np.sqrt(values[:8] / values[0]), rel=0.02)
    assert abs(places[:, 0] @ places[:, 1]) < 0.01 * np.linalg.norm(places[:, 0]) * np.linalg.norm(places[:, 1])


@pytest.mark.parametrize("make", [reviews, chinese_reviews])
def test_learns_which_words_matter(make):
    import torch

    torch.manual_seed(0)
    texts, labels = make(400)
    config = NgramText.Config(width=32)
    processor = NgramText.processor(config, None)
    processor.fit([texts[:300]])
    encoder = NgramText(config, processor)
    head = torch.nn.Linear(encoder.width, 1)
    arrays = {name: torch.from_numpy(array) for name, array in processor(texts).items()}
    target = torch.tensor(labels).float()
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=5e-3)
    for _ in range(12):
        for batch in torch.randperm(300).split(32):
            output = head(encoder({name: array[batch] for name, array in arrays.items()}).mean())[:, 0]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(output, target[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    encoder.eval()
    with torch.no_grad():
        output = head(encoder({name: array[300:] for name, array in arrays.items()}).mean())[:, 0]
    assert ((output > 0) == (target[300:] > 0.5)).float().mean() > 0.9


def test_similar_texts_are_near_before_any_training():
    import torch

    texts = ["cats and dogs are pets", "dogs and cats as pets", "stocks and bonds fell", "bonds and stocks rose"] * 5
    config = NgramText.Config(width=8)
    processor = NgramText.processor(config, None)
    processor.fit([texts])
    encoder = NgramText(config, processor).eval()
    arrays = processor(texts[:4])
    summed = (torch.from_numpy(arrays["weights"])[:, None] @ encoder.table(torch.from_numpy(arrays["ids"])))[:, 0]
    near = torch.nn.functional.cosine_similarity(summed[:, None], summed[None], dim=-1)
    assert near[0, 1] > near[0, 2] + 0.1
    assert near[2, 3] > near[2, 1] + 0.1


def test_padding_does_not_change_an_answer():
    import torch

    texts, _ = reviews(50)
    config = NgramText.Config(width=16)
    processor = NgramText.processor(config, None)
    processor.fit([texts])
    encoder = NgramText(config, processor).eval()
    alone = encoder({name: torch.from_numpy(array) for name, array in processor(["the film"]).items()}).tokens
    beside = encoder(
        {name: torch.from_numpy(array) for name, array in processor(["the film", texts[0]]).items()}
    ).tokens
    assert torch.allclose(alone[0], beside[0], atol=1e-6)


def test_layers_cover_every_parameter():
    config = NgramText.Config(width=16)
    processor = NgramText.processor(config, None)
    processor.fit([reviews(20)[0]])
    encoder = NgramText(config, processor)
    covered = {id(p) for layer in encoder.layers() for p in layer.parameters()}
    assert covered == {id(p) for p in encoder.parameters()}


def test_onnx_agrees_for_any_batch_and_length(tmp_path):
    from text_onnx import assert_agrees, export

    texts = [*reviews(30)[0], *chinese_reviews(30)[0]]
    config = NgramText.Config(width=16)
    processor = NgramText.processor(config, None)
    processor.fit([texts])
    encoder = NgramText(config, processor)
    session = export(encoder, processor(texts[:4]), processor.specs(), tmp_path / "m.onnx")
    for cells in ([None], ["film"], texts[:1], texts[:3], texts):
        assert_agrees(session, encoder, processor(cells))


def test_a_list_is_no_text():
    with pytest.raises(BadCell, match="text expected, got dict"):
        fitted(["a b", "a b"]).load({"a": 1})
