"""Reading and resizing pictures: the processor against a bare Pillow loop, both on all cores.

    python docs/benchmarks/images.py [folder of pictures] [size]

The loop opens, converts to RGB and resizes in a pool of as many threads as there are cores; it knows no orientation, no
limits, and names no damaged file. Without a folder, 2,000 JPEG files of 60 x 80 pixels are made. Prints pictures a
second of both, in turns, and their ratio; and milliseconds of one core for a picture's descriptors.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from automm_image.descriptors import Descriptors
from automm_image.pixels import Pixels
from PIL import Image

ROUNDS = 7
MOST = 3000
BATCH = 256


def make(folder: Path, count: int) -> None:
    """Smooth pictures with some noise, as a small photo has."""
    generator = np.random.default_rng(0)
    for at in range(count):
        rough = Image.fromarray(generator.integers(0, 255, (8, 6, 3), np.uint8)).resize((60, 80))
        noisy = np.asarray(rough, np.int16) + generator.integers(-9, 9, (80, 60, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{at}.jpg", quality=82)


def bare(files: list[Path], size: int) -> np.ndarray:
    """What one would write without a library."""

    def one(file: Path) -> np.ndarray:
        with Image.open(file) as picture:
            return np.asarray(picture.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return np.stack(list(pool.map(one, files)))


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(folder: Path, size: int) -> None:
    """Measures and prints."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))[:MOST]
    processor = Pixels(Pixels.Config(size=size))
    batches = [files[at : at + BATCH] for at in range(0, len(files), BATCH)]

    def batched() -> None:
        for batch in batches:
            processor(batch)

    times = [(seconds(lambda: bare(files, size)), seconds(batched)) for _ in range(ROUNDS + 1)][1:]
    loop, ours = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"{len(files)} pictures to {size} x {size}, {len(os.sched_getaffinity(0))} cores")
    print(f"bare Pillow loop  {len(files) / loop:8.0f} pictures a second")
    print(f"processor         {len(files) / ours:8.0f} pictures a second, {loop / ours:.2f} of the loop")
    descriptors = Descriptors(Descriptors.Config())
    descriptors.fit([files[:200]])
    start = time.process_time()
    for file in files[:100]:
        descriptors.load(file)
    print(f"descriptors       {10 * (time.process_time() - start):8.1f} ms of one core a picture")


if __name__ == "__main__":
    side = int(sys.argv[2]) if len(sys.argv) > 2 else 64
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]), side)
    else:
        with tempfile.TemporaryDirectory() as made:
            make(Path(made), 2000)
            main(Path(made), side)
