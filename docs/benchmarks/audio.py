"""Time of a log-mel spectrogram beside librosa's, on the sounds of a folder: the ratio in one run.

    python docs/benchmarks/audio.py /path/to/fsdd/audio [--files 200] [--repeats 5]

Both decode, and compute the same numbers (asserted) on one core; the last line is the processor on all cores, reading
included. Below 1 is faster than librosa.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
from automm_audio.mel import Mel
from automm_audio.reading import Limits, read
from automm_audio.spectra import decibels, mel_filters, power

RATE, N_FFT, HOP, MELS = 8000, 256, 80, 64


def ours(wave: np.ndarray) -> np.ndarray:
    """Log-mel as the processor `audio.mel` computes it."""
    return decibels(power(wave, N_FFT, HOP, mel_filters(RATE, N_FFT, MELS, 0.0, RATE / 2)))


def theirs(wave: np.ndarray) -> np.ndarray:
    """Log-mel as librosa computes it."""
    mel = librosa.feature.melspectrogram(y=wave, sr=RATE, n_fft=N_FFT, hop_length=HOP, n_mels=MELS)
    return librosa.power_to_db(mel).T


def seconds(function: Callable[[np.ndarray], np.ndarray], waves: list[np.ndarray]) -> float:
    """Time for all waves."""
    start = time.perf_counter()
    for wave in waves:
        function(wave)
    return time.perf_counter() - start


def main() -> None:
    """Prints milliseconds per sound and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    files = sorted(options.folder.glob("*.wav"))[: options.files]
    waves = [read(file, RATE, Limits()) for file in files]
    for wave in waves[:20]:
        np.testing.assert_allclose(ours(wave), theirs(wave), atol=2e-3)
    # Turn by turn, so that whatever else the machine does hits both.
    pairs = [(seconds(ours, waves), seconds(theirs, waves)) for _ in range(options.repeats)]
    found, expected = (statistics.median(times) / len(waves) * 1000 for times in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    print(f"log-mel: {found:.3f} ms a sound, librosa {expected:.3f} ms, ratio {ratio:.2f}")
    made = Mel(Mel.Config(rate=RATE, mels=MELS))
    start = time.perf_counter()
    made(files)
    whole = (time.perf_counter() - start) / len(files) * 1000
    start = time.perf_counter()
    for file in files:
        theirs(librosa.load(file, sr=RATE)[0])
    bare = (time.perf_counter() - start) / len(files) * 1000
    print(f"read + log-mel, all cores: {whole:.3f} ms a sound, librosa loop {bare:.3f} ms, ratio {whole / bare:.2f}")


if __name__ == "__main__":
    main()
