"""Draws the small pictures, sounds, films and series of the example tables; see `make_data.py`."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image, ImageDraw

RATE = 8000
"""Samples per second of every sound."""
FRAMES_PER_SECOND = 8
COLOURS = {"red": (200, 50, 45), "blue": (50, 80, 200), "green": (45, 150, 70), "yellow": (225, 195, 50)}

Random = np.random.Generator
Colour = tuple[int, int, int]


def save_picture(path: Path, pixels: np.ndarray) -> None:
    """Writes 8-bit RGB or grey pixels [height, width(, 3)], given as any numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def save_sound(path: Path, samples: np.ndarray) -> None:
    """Writes a mono WAV file; samples [time] lie between -1 and 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.clip(-1, 1), RATE)


def save_series(path: Path, values: np.ndarray, names: tuple[str, ...]) -> None:
    """Writes a CSV file of one column per channel; values [time, channels]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, values, fmt="%.3f", delimiter=",", header=",".join(names), comments="")


def save_film(path: Path, frames: np.ndarray, samples: np.ndarray) -> None:
    """Writes an MP4 file of RGB frames [time, height, width, 3] with a sound track [time]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as film:
        picture = film.add_stream("mpeg4", rate=FRAMES_PER_SECOND)
        picture.height, picture.width = frames.shape[1:3]
        picture.pix_fmt, picture.bit_rate = "yuv420p", 400_000
        picture.codec_context.thread_count = 1
        sound = film.add_stream("aac", rate=RATE, layout="mono")
        sound.options = {"aac_coder": "fast"}
        for frame in frames:
            film.mux(picture.encode(av.VideoFrame.from_ndarray(frame.clip(0, 255).astype(np.uint8), format="rgb24")))
        film.mux(picture.encode())
        track = av.AudioFrame.from_ndarray(samples.clip(-1, 1).astype(np.float32)[None], format="fltp", layout="mono")
        track.sample_rate = RATE
        film.mux(sound.encode(track))
        film.mux(sound.encode())


def canvas(random: Random, side: int, shade: float, noise: float) -> np.ndarray:
    """A noisy grey square [side, side, 3]."""
    return np.full((side, side, 3), shade) + random.normal(0, noise, (side, side, 3))


def shape(random: Random, kind: str, colour: Colour, side: int = 48) -> np.ndarray:
    """A circle, square or triangle somewhere on a light square."""
    picture = Image.fromarray(canvas(random, side, 225, 6).clip(0, 255).astype(np.uint8))
    size = int(random.integers(side * 2 // 5, side * 3 // 5))
    left, top = (int(at) for at in random.integers(2, side - size - 2, 2))
    draw, box = ImageDraw.Draw(picture), (left, top, left + size, top + size)
    if kind == "circle":
        draw.ellipse(box, fill=colour)
    elif kind == "square":
        draw.rectangle(box, fill=colour)
    else:
        draw.polygon([(left, top + size), (left + size, top + size), (left + size // 2, top)], fill=colour)
    return np.asarray(picture).astype(float)


def garment(random: Random, kind: str, side: int = 48) -> np.ndarray:
    """The outline of a shirt or of a shoe on white, in any colour."""
    picture = Image.new("RGB", (side, side), (245, 245, 245))
    draw = ImageDraw.Draw(picture)
    outlines = {
        "shirt": ((6, 10), (18, 5), (30, 5), (42, 10), (40, 20), (34, 18), (34, 43), (14, 43), (14, 18), (8, 20)),
        "shoe": ((4, 20), (15, 18), (22, 26), (42, 30), (45, 37), (4, 37)),
    }
    shift, grow = random.integers(-2, 3, 2), random.uniform(0.85, 1.05)
    points = [(side / 2 + (x - 24) * grow + shift[0], side / 2 + (y - 24) * grow + shift[1]) for x, y in outlines[kind]]
    draw.polygon(points, fill=tuple(int(value) for value in random.integers(20, 200, 3)))
    return np.asarray(picture) + random.normal(0, 5, (side, side, 3))


def scan(random: Random, spiky: bool, side: int = 64) -> np.ndarray:
    """A grey scan with a bright spot [side, side], whose outline is smooth or spiky."""
    rows, columns = np.mgrid[:side, :side] - side / 2 - random.uniform(-5, 5, 2)[:, None, None]
    angle, distance = np.arctan2(rows, columns), np.hypot(rows, columns)
    spikes = 0.35 * np.sin(int(random.integers(7, 12)) * angle + random.uniform(0, 6)) if spiky else 0
    edge = random.uniform(11, 15) * (1 + spikes + 0.1 * np.sin(2 * angle + random.uniform(0, 6)))
    return 70 + 90 / (1 + np.exp(distance - edge)) + random.normal(0, 9, (side, side))


def road(random: Random, shade: float, grain: float, side: int = 48) -> np.ndarray:
    """A road below a sky, as a camera behind the windscreen sees it."""
    picture = canvas(random, side, 190, 4)
    horizon = int(random.integers(side // 3, side // 2))
    ground = shade + random.normal(0, 8) + random.normal(0, grain, (side - horizon, side, 1))
    picture[horizon:] = ground + random.normal(0, 3, (side - horizon, side, 3))
    return picture


def street(random: Random, fast: bool, length: int = 12) -> np.ndarray:
    """Frames of two people on a street, who stroll or struggle [time, 48, 64, 3]."""
    ground = canvas(random, 64, random.uniform(80, 150), 12)[:48]
    frames = np.repeat(ground[None], length, 0) + random.normal(0, 3, (length, 48, 64, 3))
    for _ in range(2):
        colour, place = random.uniform(0, 255, 3), random.uniform((18, 18), (28, 44))
        stride = random.choice((-0.7, 0.7))
        for frame in frames:
            place = place + (random.uniform(-6, 6, 2) if fast else (0.0, stride))
            top, left = place.clip((2, 2), (32, 54)).astype(int)
            frame[top : top + 14, left : left + 7] = colour
    return frames


def street_sound(random: Random, loud: bool, seconds: float = 1.5) -> np.ndarray:
    """Traffic noise, with shouts in it or without."""
    time = np.arange(int(RATE * seconds)) / RATE
    samples = random.normal(0, 0.03, time.size)
    for start in random.uniform(0, seconds - 0.4, 3 if loud else 0):
        inside = (time >= start) & (time < start + 0.35)
        pitch = random.uniform(250, 420) * (1 + 0.05 * np.sin(2 * np.pi * 6 * time))
        voice = sum(np.sin(2 * np.pi * part * np.cumsum(pitch) / RATE) / part for part in range(1, 6))
        samples += 0.25 * inside * voice
    return samples


WORDS: dict[str, tuple[tuple[float, float, float, float, float, float], ...]] = {
    "go": ((0.35, 0.0, 450, 900, 350, 750),),
    "stop": ((0.15, 1.0, 0, 0, 0, 0), (0.25, 0.0, 700, 1100, 700, 1100), (0.08, 0.0, 0, 0, 0, 0)),
    "left": ((0.25, 0.0, 550, 1800, 550, 1800), (0.15, 0.6, 0, 0, 0, 0)),
    "right": ((0.3, 0.0, 800, 1200, 350, 2300), (0.06, 1.0, 0, 0, 0, 0)),
}
"""Word → its sounds: seconds, share of hiss, then the two lowest resonances in hertz at its start and at its end."""


def spoken(random: Random, word: str, pitch: float, throat: float) -> np.ndarray:
    """A synthetic voice that says a word.

    Args:
        random: Source of the small differences between two utterances.
        word: One of `WORDS`.
        pitch: The speaker's pitch in hertz.
        throat: What the speaker's resonances are multiplied by.
    """
    parts = [np.zeros(int(RATE * random.uniform(0.05, 0.2)))]
    for seconds, hiss, *ends in WORDS[word]:
        size = int(RATE * seconds * random.uniform(0.85, 1.15))
        first, second = (throat * np.linspace(ends[at], ends[at + 2], size) for at in (0, 1))
        phase = 2 * np.pi * np.cumsum(np.full(size, pitch) * np.linspace(1.05, 0.95, size)) / RATE
        sound = np.zeros(size)
        if first[0] > 0:
            for part in range(1, int(3500 / pitch)):
                near = sum(np.exp(-(((part * pitch - place) / 180) ** 2)) for place in (first, second))
                sound += (near + 0.02) * np.sin(part * phase)
        parts.append((0.15 * sound + 0.15 * hiss * random.normal(0, 1, size)) * np.hanning(size))
    parts.append(np.zeros(int(RATE * random.uniform(0.05, 0.2))))
    samples = np.concatenate(parts)
    return random.uniform(0.5, 1.5) * samples + random.normal(0, 0.004, samples.size)


def vibration(random: Random, turn: float, unbalance: float, bearing: float, steps: int = 200) -> np.ndarray:
    """A second of a machine's vibration along two axes [steps, 2].

    Args:
        random: Source of phases and noise.
        turn: Turns per second.
        unbalance: Strength at the turning frequency.
        bearing: Strength of the knocks of a damaged bearing, several per turn.
        steps: Samples per second.
    """
    time = np.arange(steps) / steps
    phase = 2 * np.pi * (turn * time + random.uniform())
    shaft = (0.3 + unbalance) * np.stack([np.sin(phase), np.cos(phase)], 1)
    knocks = np.clip(np.sin(3.6 * phase), 0.7, 1) - 0.7
    ringing = 6 * bearing * knocks * np.sin(2 * np.pi * 80 * time)
    return shaft + ringing[:, None] + random.normal(0, 0.15, (steps, 2))
