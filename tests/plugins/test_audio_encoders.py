"""Encoders of sound: descriptors, the spectrogram network, pretrained models."""

import io
import json

import numpy as np
import pytest
import torch
from automm_audio.audio_descriptors import AudioDescriptors
from automm_audio.figures import describe, size
from automm_audio.hf_audio import HfAudio
from automm_audio.mel_cnn import MelCnn
from automm_audio.modality import Audio
from torch import nn

from automm.api import Context, DataError, InputInfo

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")
INFO = InputInfo("sound", "audio", ("sound",))
RATE = 16000


def wav(samples, rate=RATE):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def noise(samples, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


# Descriptors


def test_descriptors_have_one_size_and_are_finite():
    for samples in (1, 2, 100, 799, 8000, 40_000):
        for rate in (8000, 32000):
            for sound in (noise(samples), np.zeros(samples, np.float32), np.ones(samples, np.float32)):
                found = describe(sound, rate, 40)
                assert found.shape == (size(40),), (samples, rate)
                assert np.isfinite(found).all(), (samples, rate)


def test_a_missing_sound_is_all_unknown():
    made = AudioDescriptors.processor(AudioDescriptors.Config(), INFO)
    made.fit([[wav(noise(4000))]])
    found = made([wav(noise(4000)), None])["vector"]
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def two_syllables(group, seed):
    """The same two tones in either order, in noise, after a silence of any length: only the course tells them apart."""
    generator = np.random.default_rng(seed)
    tones = [np.sin(2 * np.pi * h * generator.uniform(0.95, 1.05) * np.arange(1600) / 8000) for h in (500, 1500)]
    quiet = np.zeros(generator.integers(0, 2500))
    sound = np.concatenate([quiet, *(tones if group else tones[::-1]), quiet]) * generator.uniform(0.1, 0.8)
    return wav((sound + generator.normal(0, 0.002, len(sound))).astype(np.float32), 8000)


def test_descriptors_tell_the_order_of_tones():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    groups = np.arange(80) % 2
    made = AudioDescriptors.processor(AudioDescriptors.Config(), INFO)
    cells = [two_syllables(group, seed) for seed, group in enumerate(groups)]
    made.fit([cells])
    vectors = made(cells)["vector"]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01)).fit(vectors[:40], groups[:40])
    assert model.score(vectors[40:], groups[40:]) >= 0.95


# The spectrogram network


def test_mel_cnn_learns_the_order_of_tones():
    config = MelCnn.Config(mels=16, width=8, masking=0.3, hop=0.02)
    made = MelCnn.processor(config, INFO)
    groups = torch.arange(60) % 2
    cells = [two_syllables(int(group), seed) for seed, group in enumerate(groups)]
    made.fit([cells])
    arrays = {name: torch.from_numpy(array) for name, array in made(cells).items()}
    torch.manual_seed(0)
    encoder = MelCnn(config, made).train()
    head = nn.Linear(encoder.width, 2)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 5e-3)
    train = {name: array[:40] for name, array in arrays.items()}
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(encoder(train).mean()), groups[:40]).backward()
        optimizer.step()
    encoder.eval()
    guess = head(encoder({name: array[40:] for name, array in arrays.items()}).mean()).argmax(1)
    assert (guess == groups[40:]).float().mean() >= 0.9


@pytest.mark.parametrize("tokens", [False, True])
def test_mel_cnn_leaves_padding_out(tokens):
    config = MelCnn.Config(mels=16, width=8, tokens=tokens)
    made = MelCnn.processor(config, INFO)
    cells = [wav(noise(samples)) for samples in (3000, 3600, 16000)]
    made.fit([cells])
    torch.manual_seed(0)
    encoder = MelCnn(config, made).eval()
    batch = encoder({name: torch.from_numpy(array) for name, array in made(cells).items()})
    for row, cell in enumerate(cells):
        alone = encoder({name: torch.from_numpy(array) for name, array in made([cell]).items()})
        assert alone.mask.sum() == batch.mask[row].sum()
        torch.testing.assert_close(alone.mean()[0], batch.mean()[row], rtol=1e-4, atol=1e-5)


def test_mel_cnn_masks_spans_only_in_training():
    from automm_audio.blocks import mask_spans

    torch.manual_seed(0)
    mel, real = torch.ones(200, 50, 40), torch.ones(200, 50, 1)
    share = 1 - mask_spans(mel, real, 1.0).mean((1, 2))
    assert 0.2 < share.mean() < 0.4  # two spans of 0 to 20 % on both axes
    assert share.max() < 0.65
    assert torch.equal(mask_spans(mel, real, 0.0), mel)


# Pretrained models

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


def checkpoint(kind, folder):
    """A model with random weights and its feature extractor, saved to the folder."""
    import transformers as t

    torch.manual_seed(0)
    if kind == "whisper":
        heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
        sizes = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
        ids = {"vocab_size": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
        config = t.WhisperConfig(**sizes, **heads, **ids, begin_suppress_tokens=None, num_mel_bins=20)
        model, extractor = t.WhisperModel(config), t.WhisperFeatureExtractor(feature_size=20)
    elif kind == "ast":
        config = t.ASTConfig(**SMALL, max_length=64, num_mel_bins=32, patch_size=8, frequency_stride=8, time_stride=8)
        model, extractor = t.ASTModel(config), t.ASTFeatureExtractor(max_length=64, num_mel_bins=32)
    else:
        convolutions = {"conv_dim": (16, 16, 16), "conv_stride": (5, 4, 4), "conv_kernel": (10, 8, 4)}
        positions = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
        norm = {"feat_extract_norm": "layer" if kind == "wav2vec2_layer" else "group"}
        config_class, model_class = {
            "wav2vec2": (t.Wav2Vec2Config, t.Wav2Vec2Model),
            "wav2vec2_layer": (t.Wav2Vec2Config, t.Wav2Vec2Model),
            "hubert": (t.HubertConfig, t.HubertModel),
        }[kind]
        model = model_class(config_class(**SMALL, **convolutions, **positions, **norm))
        extractor = t.Wav2Vec2FeatureExtractor(do_normalize=True)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return model.eval()


@pytest.fixture(scope="module", params=["wav2vec2", "wav2vec2_layer", "hubert", "whisper", "ast"])
def saved(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return checkpoint(request.param, folder), folder


def tensors(arrays):
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def test_hf_audio_sees_what_the_feature_extractor_gives(saved):
    from transformers import AutoFeatureExtractor

    model, folder = saved
    extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
    config = HfAudio.Config(checkpoint=str(folder))
    made = HfAudio.processor(config, INFO)
    encoder = HfAudio(config, made).eval()
    reference = model.get_encoder() if model.config.model_type == "whisper" else model
    for samples in (5000, 9001):
        wave = noise(samples, samples)
        (expected,) = extractor(wave, sampling_rate=RATE, return_tensors="np").data.values()
        arrays = made([wav(wave)])
        found = arrays["wave"] if "wave" in arrays else arrays["bands"]
        found = found.transpose(0, 2, 1) if model.config.model_type == "whisper" else found
        kept = tuple(slice(length) for length in found.shape)
        np.testing.assert_allclose(found, expected[kept], atol=1e-4)
        with torch.no_grad():
            states = reference(torch.from_numpy(expected.astype(np.float32))).last_hidden_state
            tokens = encoder.tower(*tensors(arrays).values()).tokens
        torch.testing.assert_close(tokens, states, rtol=1e-3, atol=1e-4)


def test_hf_audio_leaves_padding_out(saved):
    _, folder = saved
    config = HfAudio.Config(checkpoint=str(folder))
    made = HfAudio.processor(config, INFO)
    encoder = HfAudio(config, made).eval()
    cells = [wav(noise(samples, samples)) for samples in (3000, 9000)]
    with torch.no_grad():
        batch = encoder(tensors(made(cells))).mean()
        for row, cell in enumerate(cells):
            torch.testing.assert_close(encoder(tensors(made([cell]))).mean()[0], batch[row], rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def ast(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ast")
    checkpoint("ast", folder)
    return folder


@pytest.mark.parametrize("pooling", ["mean", "cls", "attention", "tokens"])
def test_a_frozen_checkpoint_is_extracted_once(ast, pooling):
    config = HfAudio.Config(checkpoint=str(ast), pooling=pooling, adapt="none")
    made = HfAudio.processor(config, INFO)
    encoder = HfAudio(config, made).eval()
    arrays = tensors(made([wav(noise(5000)), None]))
    assert HfAudio.extracts(config)
    assert not HfAudio.extracts(HfAudio.Config(checkpoint=str(ast)))
    states = encoder.extract(arrays)
    assert states.tokens.shape[1] == (1 if pooling in ("mean", "cls") else 32)
    torch.testing.assert_close(encoder.complete(states).tokens, encoder(arrays).tokens)
    assert len(encoder.fresh()) == (pooling == "attention")


def test_layers_are_the_transformers(saved):
    _, folder = saved
    config = HfAudio.Config(checkpoint=str(folder))
    encoder = HfAudio(config, HfAudio.processor(config, INFO))
    layers = encoder.layers()
    assert len(layers) == 3
    inside = {id(p) for layer in layers for p in layer.parameters()}
    assert inside == {id(p) for p in encoder.parameters()}


def test_hf_audio_needs_a_usable_checkpoint(tmp_path, ast):
    context = Context("classification", (INFO,), 100)
    assert HfAudio.unsuited(context, HfAudio.Config()) == "no checkpoint named"
    assert HfAudio.unsuited(context, HfAudio.Config(checkpoint=str(ast))) is None
    with pytest.raises(DataError, match="no such folder"):
        HfAudio.processor(HfAudio.Config(checkpoint=str(tmp_path / "gone")), INFO)
    with pytest.raises(DataError, match=r"has no config\.json"):
        HfAudio.processor(HfAudio.Config(checkpoint=str(tmp_path)), INFO)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(DataError, match="bert is not an encoder of sound"):
        HfAudio.processor(HfAudio.Config(checkpoint=str(tmp_path)), INFO)
    (tmp_path / "config.json").write_text((ast / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(b"no safetensors")
    config = HfAudio.Config(checkpoint=str(tmp_path))
    with pytest.raises(DataError, match="cannot be loaded"):
        HfAudio(config, HfAudio.processor(config, INFO))


def test_hub_names_fail_at_once_when_offline(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="HF_HUB_OFFLINE is set"):
        HfAudio.processor(HfAudio.Config(checkpoint="some/model-that-is-not-there"), INFO)


def test_without_weights_the_descriptors_are_the_default():
    assert HfAudio.preference > AudioDescriptors.preference > MelCnn.preference
    assert Audio.examples(4, 0).groups == (0, 1, 0, 1)


@pytest.mark.parametrize("kind", ["whisper", "ast"])
def test_hf_audio_exports_with_any_length(kind, tmp_path):
    import text_onnx

    checkpoint(kind, tmp_path)
    config = HfAudio.Config(checkpoint=str(tmp_path), pooling="tokens")
    made = HfAudio.processor(config, INFO)
    encoder = HfAudio(config, made)
    first, second = (made([wav(noise(n, n)) for n in lengths]) for lengths in ((5000, 9001), (12_000, 3000, 7000)))
    session = text_onnx.export(encoder.eval(), first, made.specs(), tmp_path / "graph.onnx")
    text_onnx.assert_agrees(session, encoder, second)
