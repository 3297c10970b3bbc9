"""TF-IDF and SVD: what the vector holds, and that linear models learn from it."""

import random
import time

import numpy as np
import pytest
from automm_text.tfidf import Tfidf, statistics
from automm_text.tfidf_svd import TfidfSvd

from automm.api import BadCells, InputInfo
from automm.runtime import strictjson
from automm.runtime.state import join_state, split_state, write_npz

FILLER = ["the", "film", "was", "about", "a", "man", "and", "his", "dog", "who", "went", "to", "town", "one", "day"]


def reviews(rows, good, bad, filler, join, seed=0):
    dice = random.Random(seed)
    labels = [dice.random() < 0.5 for _ in range(rows)]
    texts = []
    for label in labels:
        words = dice.choices(filler, k=12)
        words[dice.randrange(12)] = dice.choice(good if label else bad)
        texts.append(join.join(words))
    return texts, np.array(labels)


def english(rows, seed=0):
    return reviews(rows, ["wonderful", "superb", "charming"], ["dreadful", "boring", "clumsy"], FILLER, " ", seed)


def chinese(rows, seed=0):
    return reviews(rows, ["很满意", "非常好"], ["很失望", "太差了"], list("酒店房间位置早餐服务前台交通价格"), "", seed)


def fitted(texts, **config):
    processor = Tfidf(Tfidf.Config(**config))
    processor.fit([texts])
    return processor


def test_parts_of_the_vector():
    texts = [*english(90)[0], None]
    processor = fitted(texts, dimensions=8, words=4)
    vector = processor.load(texts[0])["vector"]
    assert vector.shape == processor.specs()["vector"].shape == (8 + 4 + 10,)
    row = processor._ngrams.load(texts[0])
    tfidf = np.zeros(processor._ngrams.size)
    tfidf[row["ids"]] = row["weights"]
    assert vector[:8] == pytest.approx(tfidf[1:] @ processor.state["space"].astype(float), abs=1e-5)
    assert vector[8:12] == pytest.approx(tfidf[processor.state["words"]])
    assert vector[12:] == pytest.approx(statistics(texts[0]))
    terms = processor.state["terms"]
    shares = [sum(terms[at - 1] in text.split() for text in texts[:-1]) / 90 for at in processor.state["words"]]
    assert all(0.35 < share < 0.65 for share in shares)


def test_statistics_of_the_form():
    found = statistics("Room 12!\n好吗？")
    assert found[:4] == pytest.approx(np.log1p([12, 3, 1, 10 / 3]))
    assert found[4:8] == pytest.approx([2 / 12, 1 / 12, 2 / 12, 3 / 12])
    assert found[8:] == pytest.approx(np.log1p([1, 1]))
    assert (statistics("") == 0).all()


def test_missing_is_unknown_and_empty_is_not():
    processor = fitted([*english(60)[0], None])
    vectors = processor([None, "", "qqq zzz", "the film"])["vector"]
    assert vectors.dtype == np.float32
    assert np.isnan(vectors[0]).all()
    assert not np.isnan(vectors[1:]).any()
    assert (vectors[1] == 0).all()
    assert (vectors[2, :-10] == 0).all()
    assert (vectors[3, :-10] != 0).any()
    with pytest.raises(BadCells, match="text expected, got list"):
        processor(["fine", ["not", "text"]])


def test_dimensions_follow_the_number_of_texts():
    assert fitted(english(30)[0]).state["space"].shape[1] == 16
    assert fitted(english(120)[0]).state["space"].shape[1] == 40
    assert fitted(english(120)[0], dimensions=20).state["space"].shape[1] == 20
    for texts in (["alone"], [None], ["", ""]):
        processor = fitted(texts)
        assert np.isfinite(processor(["alone"])["vector"]).all()
        assert np.isnan(processor([None])["vector"]).all()


def test_repeated_texts_give_no_dimensions_of_rounding_errors():
    texts = ["a red square", "a blue circle", "no circle", "yes a square"] * 30
    processor = fitted(texts)
    assert processor.state["space"].shape[1] == 4
    assert np.abs(processor(texts)["vector"]).max() < 10
    assert np.isfinite(fitted(["!!", "..", "!!"])(["!!"])["vector"]).all()


def test_state_survives_storing_and_is_small():
    texts = [*english(100)[0], *chinese(100)[0]]
    processor = fitted(texts)
    plain, arrays = split_state(processor.state)
    stored = write_npz(arrays)
    again = Tfidf(processor.config, join_state(strictjson.dumps(plain), stored, "state"))
    assert (again(texts)["vector"] == processor(texts)["vector"]).all()
    terms, dimensions = processor.state["space"].shape
    assert processor.state["space"].dtype == np.float16
    assert len(stored) < 2 * terms * dimensions + 4 * terms + 3000


@pytest.mark.parametrize("make", [english, chinese])
def test_a_linear_model_learns_which_words_matter(make):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    texts, labels = make(400)
    vectors = fitted(texts[:300])(texts)["vector"]
    vectors = StandardScaler().fit(vectors[:300]).transform(vectors)
    model = LogisticRegression(C=0.1).fit(vectors[:300], labels[:300])
    assert model.score(vectors[300:], labels[300:]) > 0.95


def test_ten_megabytes_are_fast():
    processor = fitted(english(50)[0])
    for text in ("the film was superb " * 500_000, "x" * 10_000_000, "好" * 3_500_000):
        start = time.perf_counter()
        assert np.isfinite(processor.load(text)["vector"]).all()
        assert time.perf_counter() - start < 2


def test_the_encoder_hands_its_fields_on():
    config = TfidfSvd.Config(dimensions=5, words=3, min_count=1, max_terms=50, max_chars=100)
    processor = TfidfSvd.processor(config, InputInfo("review", "text", ("review",)))
    processor.fit([english(60)[0]])
    assert processor.specs()["vector"].shape == (5 + 3 + 10,)
    encoder = TfidfSvd(config, processor)
    assert encoder.width == 128
    assert TfidfSvd.extracts(config)
