"""Sound: recognising columns, reading files, spectrograms."""

import io
import struct

import numpy as np
import pytest
from automm_audio.mel import Mel
from automm_audio.modality import Audio
from automm_audio.reading import Limits, native_rate, read
from automm_audio.spectra import decibels, mel_filters, power
from automm_audio.wave import Wave

from automm.api import BadCell, ColumnProfile

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")
RATE = 16000


def tone(hertz=440.0, seconds=1.0, rate=RATE, level=0.5):
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encode(samples, rate=RATE, form="WAV", subtype=None):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def film(sound=None, form="matroska", codec="pcm_s16le", rate=RATE):
    """A film of four grey pictures, with a sound track if there is a sound."""
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        pictures = container.add_stream("mpeg4", rate=4)
        pictures.width = pictures.height = 32
        pictures.pix_fmt = "yuv420p"
        track = None if sound is None else container.add_stream(codec, rate=rate, layout="mono")
        for _ in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), format="rgb24")
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))
        if track is not None:
            convert = av.AudioResampler(track.format.name, "mono", rate, track.codec_context.frame_size or 1024)
            frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
            frame.rate, frame.pts = rate, 0
            for part in [*convert.resample(frame), *convert.resample(None)]:
                container.mux(track.encode(part))
            container.mux(track.encode(None))
    return file.getvalue()


def pitch(samples, rate=RATE):
    """The loudest frequency in hertz."""
    return float(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax() * rate / len(samples))


def column(**facts):
    return ColumnProfile(**{"name": "sound", "storage": "string", "rows": 100, **facts})


# Recognising columns


@pytest.mark.parametrize("extension", [".wav", ".flac", ".ogg", ".mp3", ".m4a"])
def test_claims_sound_files(extension):
    claim = Audio.claim(column(extensions={extension: 1.0}, exists_share=1.0))
    assert claim.confidence == pytest.approx(0.95)
    assert "sound files" in claim.reason


def test_claims_bytes_and_leaves_others():
    kinds = [encode(tone(), form=form) for form in ("WAV", "FLAC", "OGG", "MP3", "AIFF")]
    assert Audio.claim(column(storage="binary", sample=tuple(kinds))).confidence > 0.9
    assert Audio.claim(column(sample=("a.txt",), extensions={".txt": 1.0})) is None
    assert Audio.claim(column(storage="binary", sample=(b"\x89PNG\r\n\x1a\n",))) is None
    assert Audio.claim(column(extensions={".mp4": 1.0}, exists_share=1.0)) is None  # a film, unless the recipe says so


# Reading


@pytest.mark.parametrize(
    ("form", "subtype", "tolerance"),
    [
        ("WAV", "PCM_16", 1e-4),
        ("WAV", "PCM_U8", 0.02),
        ("WAV", "PCM_24", 1e-6),
        ("WAV", "FLOAT", 0),
        ("WAV", "ULAW", 0.05),
        ("FLAC", None, 1e-4),
        ("AIFF", None, 1e-4),
        ("OGG", "VORBIS", 0.1),
        ("MP3", None, 0.1),
    ],
)
def test_reads_formats(form, subtype, tolerance, tmp_path):
    if form not in soundfile.available_formats():
        pytest.skip(f"this libsndfile writes no {form}")
    data = encode(tone(), form=form, subtype=subtype)
    found = read(data, RATE, Limits())
    assert found.dtype == np.float32
    assert found.shape == (RATE,)
    np.testing.assert_allclose(found[2000:-2000], tone()[2000:-2000], atol=tolerance)
    path = tmp_path / "sound.bin"  # the content counts, not the name
    path.write_bytes(data)
    np.testing.assert_array_equal(read(path, RATE, Limits()), found)


def test_mixes_channels_down():
    left, right = tone(440), tone(1000, level=0.25)
    both = read(encode(np.stack([left, right], 1), subtype="FLOAT"), RATE, Limits())
    np.testing.assert_allclose(both, (left + right) / 2, atol=1e-7)
    five = read(encode(np.repeat(left[:, None], 5, 1), subtype="FLOAT"), RATE, Limits())
    np.testing.assert_allclose(five, left, atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
def test_resamples_any_rate(rate):
    found = read(encode(tone(500, rate=rate), rate), RATE, Limits())
    assert abs(len(found) - RATE) <= 2
    assert pitch(found) == pytest.approx(500, abs=1.5)
    np.testing.assert_allclose(np.abs(found[4000:12000]).max(), 0.5, atol=0.01)


def test_keeps_the_beginning():
    sound = np.concatenate([tone(300), tone(2000)])
    assert pitch(read(encode(sound), RATE, Limits(seconds=1))) == pytest.approx(300, abs=1.5)
    assert len(read(encode(sound), 8000, Limits(seconds=0.5))) == 4000
    assert len(read(encode(sound[:1]), 8000, Limits())) >= 1


@pytest.mark.parametrize(("form", "codec"), [("matroska", "pcm_s16le"), ("avi", "pcm_s16le"), ("mp4", "aac")])
def test_reads_the_sound_track_of_a_film(form, codec):
    found = read(film(tone(600), form, codec), RATE, Limits())
    assert abs(len(found) - RATE) < 3000
    assert pitch(found) == pytest.approx(600, abs=3)
    assert native_rate(film(tone(600), form, codec), Limits()) == RATE
    assert len(read(film(tone(600), form, codec), RATE, Limits(seconds=0.5))) == RATE // 2


def with_size(data, size):
    at = data.index(b"data")
    return data[: at + 4] + struct.pack("<I", size) + data[at + 8 :]


WAV, FLAC, OGG, MP3 = (encode(tone(), form=form) for form in ("WAV", "FLAC", "OGG", "MP3"))
RIFF = b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"hello, this is no sound" * 50, "not a sound file"),
        (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n", "not a sound file"),
        (WAV[: len(WAV) // 2], "cut off: 15,978 of 32,000 bytes"),
        (FLAC[: len(FLAC) // 2], "damaged sound"),
        (OGG[: len(OGG) // 2], "cut off"),
        (MP3[: len(MP3) // 2], "cut off"),
        (with_size(WAV, 10**9), "cut off"),
        (encode(tone()[:0]), "its length is zero"),
        (encode(np.array([0.1, np.nan, 0.2]), subtype="FLOAT"), "NaN or infinite"),
        (encode(np.array([0.1, np.inf, 0.2]), subtype="FLOAT"), "NaN or infinite"),
        (encode(np.array([0.1, 1e30]), subtype="FLOAT"), "a sample of 1e\\+30"),
        (RIFF + struct.pack("<IIHH", 1, 2, 2, 16) + b"data\x04\x00\x00\x00abcd", "rate of 1 Hz"),
        (encode(tone(seconds=3)), "3 seconds is over the limit of 2"),
        (encode(tone(seconds=2), subtype="DOUBLE"), "over the limit of 200,000"),
    ],
    ids=lambda value: value if isinstance(value, str) else "sound",  # a WAV file holds the time it was written at
)
def test_refuses_bad_sounds(data, says):
    with pytest.raises(BadCell, match=says):
        read(data, RATE, Limits(bytes=200_000, longest=2))


def test_refuses_films_without_sound_and_cut_films():
    with pytest.raises(BadCell, match="no sound track"):
        read(film(), RATE, Limits())
    for form, codec in (("matroska", "pcm_s16le"), ("avi", "pcm_s16le"), ("mp4", "aac")):
        data = film(tone(), form, codec)
        with pytest.raises(BadCell, match=r"cut off|or damaged"):
            read(data[: len(data) * 2 // 3], RATE, Limits())


def test_a_streamed_header_is_no_lie():
    np.testing.assert_array_equal(read(with_size(WAV, 0xFFFFFFFF), RATE, Limits()), read(WAV, RATE, Limits()))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadCell, match=r"file not found: gone\.wav"):
        read(tmp_path / "gone.wav", RATE, Limits())


# Processors


def test_the_rate_is_chosen_by_the_training_files():
    made = Mel(Mel.Config())
    made.fit([[encode(tone(rate=8000), 8000)] * 3 + [None, b"broken", encode(tone(rate=44100), 44100)]])
    assert made.rate == 8000
    high = Mel(Mel.Config())
    high.fit([[encode(tone(rate=44100), 44100)]])
    assert high.rate == 32000
    fixed = Mel(Mel.Config(rate=12000))
    fixed.fit([[encode(tone())]])
    assert (fixed.rate, fixed.state) == (12000, {})


def test_wave_normalises():
    found = Wave(Wave.Config(rate=RATE, normalize=True)).load(encode(tone() + 0.2))["wave"]
    assert found.mean() == pytest.approx(0, abs=1e-4)
    assert found.std() == pytest.approx(1, abs=1e-3)
    short = Wave(Wave.Config(rate=RATE, min_samples=400)).load(encode(tone()[:10]))
    assert short["wave"].shape == short["mask"].shape == (400,)


@pytest.mark.parametrize(("rate", "n_fft", "hop", "mels"), [(8000, 256, 80, 40), (16000, 400, 160, 64)])
def test_mel_equals_librosa(rate, n_fft, hop, mels):
    librosa = pytest.importorskip("librosa")
    generator = np.random.default_rng(0)
    wave = (tone(700, 0.7, rate) + generator.normal(0, 0.05, round(0.7 * rate))).astype(np.float32)
    expected = librosa.feature.melspectrogram(y=wave, sr=rate, n_fft=n_fft, hop_length=hop, n_mels=mels)
    found = power(wave, n_fft, hop, mel_filters(rate, n_fft, mels, 0.0, rate / 2))
    np.testing.assert_allclose(found, expected.T, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(decibels(found), librosa.power_to_db(expected).T, atol=2e-3)


def test_mel_of_a_tone_peaks_in_its_band():
    made = Mel(Mel.Config(rate=RATE, mels=40))
    low, high = (made.load(encode(tone(hertz)))["mel"] for hertz in (300, 3000))
    assert low.shape == (101, 40)
    edges = np.argmax(mel_filters(RATE, 512, 40, 0.0, 8000.0)[[round(h * 512 / RATE) for h in (300, 3000)]], 1)
    assert abs(low[50].argmax() - edges[0]) <= 1
    assert abs(high[50].argmax() - edges[1]) <= 1
    assert low.min() >= low.max() - 80


def test_a_recipe_can_ask_for_the_sound_of_films(tmp_path):
    from automm.data.infer import infer_inputs
    from automm.data.profile import profile_table
    from automm.data.sources import open_table
    from automm.recipe.model import InputSpec
    from automm.testing.subject import installed

    for row in range(3):
        (tmp_path / f"{row}.mkv").write_bytes(film(tone(300 + 300 * row)))
    (tmp_path / "clips.csv").write_text("clip,label\n0.mkv,a\n1.mkv,b\n2.mkv,a\n")
    table = open_table(["clips.csv"], tmp_path, tmp_path / "cache")
    wanted = InputSpec(name="sound", modality="audio", columns=("clip",))
    (info,) = infer_inputs(profile_table(table), installed(), [wanted], (), ("label",)).inputs
    assert (info.name, info.modality, info.columns) == ("sound", "audio", ("clip",))
    found = Wave(Wave.Config(rate=8000))([tmp_path / f"{row}.mkv" for row in range(3)])["wave"]
    assert [round(pitch(wave[:7500], 8000), -2) for wave in found] == [300, 600, 900]
