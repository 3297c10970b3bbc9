"""Fixed descriptors of pictures: values, the dictionary of patches, and what a linear model reads from them."""

import io

import numpy as np
import pytest
from automm_image import histograms, patches
from automm_image.descriptors import SAMPLE, Descriptors, _sample
from automm_image.image_descriptors import ImageDescriptors
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from automm.api import InputInfo

RNG = np.random.default_rng(0)


def encode(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def noise(count: int, seed: int, side: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).normal(127, 25, (count, side, side))


def fitted(cells, **fields) -> Descriptors:
    processor = Descriptors(Descriptors.Config(**fields))
    processor.fit([cells[:10], cells[10:]])
    return processor


def test_gradients_tell_orientations_and_places():
    steps = np.zeros((64, 64), np.float32)
    steps[:, ::8] = 1  # vertical lines in every column of cells
    found = histograms.gradients(steps, 8).reshape(8, 8, 9)
    assert found[..., 0].min() > 0.5  # across
    assert found[..., 2:8].max() < 1e-3
    turned = histograms.gradients(steps.T.copy(), 8).reshape(8, 8, 9)
    assert turned[..., 4:6].sum() > 0.99 * turned.sum()  # down: half way between two bins
    corner = np.zeros((64, 64), np.float32)
    corner[4, 4] = 1
    where = histograms.gradients(corner, 8).reshape(8, 8, 9).sum(2)
    assert where.argmax() == 0
    assert where.ravel()[1:].max() == 0


def test_gradients_ignore_contrast_and_edges_do_not():
    grey = RNG.random((64, 64), np.float32)
    near = histograms.gradients(grey, 8)
    np.testing.assert_allclose(histograms.gradients(grey * 0.5 + 0.2, 8), near, atol=0.01)
    faint = histograms.edges(grey * 0.5, 4) - histograms.edges(grey, 4)
    np.testing.assert_allclose(faint, np.log(0.5), atol=0.4)


def test_textures_count_patterns():
    flat = histograms.textures(np.full((32, 32), 0.5, np.float32), 1, 4)
    assert flat.shape == (118,)
    assert flat[histograms.UNIFORM[0]] == flat[59 + histograms.UNIFORM[0]] == 1.0
    assert np.count_nonzero(flat) == 2
    assert sorted(set(histograms.UNIFORM.tolist())) == list(range(59))
    spot = np.full((32, 32), 0.5, np.float32)
    spot[3, 3] = 0.1  # one dark pixel: all its neighbours are brighter
    found = histograms.textures(spot, 1, 4)
    brighter = histograms.UNIFORM[255]
    assert found[brighter] ** 2 == pytest.approx(1 / 900)
    assert found[59 + brighter] > 3 * found[brighter]  # the cell that holds it


def test_colours_name_the_colour():
    red = np.zeros((32, 32, 3), np.float32)
    red[..., 0] = 0.9
    blue = red[..., ::-1].copy()
    grey = np.full((32, 32, 3), 0.5, np.float32)
    bins = [histograms.colours(pixels)[:32].argmax() for pixels in (red, blue, grey)]
    assert len(set(bins)) == 3
    assert bins[2] == 24 + 4
    assert histograms.colours(red)[:32].max() == 1.0


def test_extremes_see_one_thin_line():
    grey = np.full((128, 128), 0.5, np.float32)
    plain = histograms.extremes(grey, 8)
    np.testing.assert_allclose(plain, 0, atol=1e-3)
    grey[40:90, 70] = 0.2
    found = histograms.extremes(grey, 8).reshape(8, -1)
    assert (found[:, 0] < -0.2).sum() >= 4  # the smallest value of most filters
    assert found[5, 8] > 1.5 * found[4, 8]  # the spread: boxes across the line see more of it than boxes along it


def test_box_means_match_a_plain_loop():
    grey = RNG.random((20, 20), np.float32)
    found = histograms._box(grey, 3, 5)
    assert found[10, 10] == pytest.approx(grey[9:12, 8:13].mean(), abs=1e-6)


def test_dictionary_finds_planted_patches():
    rows = np.zeros((6, 6, 3), np.float32)
    rows[::2] = 1
    columns = rows.transpose(1, 0, 2).copy()
    kinds = [patches.cut(kind)[0, 0] for kind in (rows, columns)]
    noisy = np.concatenate([kind + RNG.normal(0, 0.05, (200, 108)) for kind in kinds]).astype(np.float32)
    dictionary = patches.learn(noisy, 8)
    assert all(array.dtype == np.float32 for array in dictionary.values())
    striped = np.tile(rows, (3, 3, 1)).astype(np.float32)
    activation = patches.activate(patches.cut(striped), dictionary)
    assert activation.shape == (13, 13, 8)
    assert activation.min() == 0
    turned = patches.activate(patches.cut(striped.transpose(1, 0, 2).copy()), dictionary)
    assert (activation.max((0, 1)) - turned.max((0, 1))).max() > 0.5
    again = patches.learn(noisy, 8)
    np.testing.assert_array_equal(again["centroids"], dictionary["centroids"])


def test_activation_is_the_triangle():
    generator = np.random.default_rng(1)
    dictionary = {
        "bias": np.zeros(108, np.float32),
        "whiten": np.eye(108, dtype=np.float32),
        "centroids": generator.normal(size=(5, 108)).astype(np.float32),
    }
    rows = generator.normal(size=(2, 3, 108)).astype(np.float32)
    far = np.linalg.norm(rows[:, :, None] - dictionary["centroids"], axis=3)
    expected = np.maximum(far.mean(2, keepdims=True) - far, 0)
    np.testing.assert_allclose(patches.activate(rows, dictionary), expected, atol=1e-4)


def test_pool_takes_the_largest_of_every_cell():
    activation = np.zeros((27, 27, 2), np.float32)
    activation[0, 26, 1] = 3
    activation[26, 0, 0] = 2
    found = patches.pool(activation, 3).reshape(3, 3, 2)
    assert found[0, 2, 1] == 3
    assert found[2, 0, 0] == 2
    assert found.sum() == 5


def test_vector_of_pictures_and_of_missing_cells():
    cells = [encode(picture) for picture in noise(12, 0)]
    processor = fitted([*cells, None, b"no picture"], words=16)
    size = processor.specs()["vector"].shape[0]
    assert size == 1 + 576 + 144 + 2 * 118 + 133 + 120 + 64 + 9 * 16
    batch = processor([cells[0], None])["vector"]
    assert batch.dtype == np.float32
    assert np.isfinite(batch[0]).all()
    assert np.isnan(batch[1]).all()
    assert sum(array.nbytes for array in processor.state.values()) < 2_000_000
    wide = Image.new("RGB", (80, 40))
    stream = io.BytesIO()
    wide.save(stream, "PNG")
    assert processor.load(stream.getvalue())["vector"][0] == pytest.approx(np.log(2))


def test_a_column_without_pictures_still_gives_vectors():
    processor = fitted([None, b"damaged"], words=16)
    assert processor.state == {}
    vector = processor.load(encode(noise(1, 0)[0]))["vector"]
    assert np.isfinite(vector).all()
    assert not vector[-9 * 16 :].any()


def test_sample_is_bounded_and_covers_the_column():
    cells = list(range(10 * SAMPLE))
    kept = _sample([cells[: 5 * SAMPLE], cells[5 * SAMPLE :]], np.random.default_rng(0))
    assert len(kept) == len(set(kept)) == SAMPLE
    assert np.mean(kept) == pytest.approx(5 * SAMPLE, rel=0.05)


def pictures(count: int, seed: int) -> tuple[list[bytes], np.ndarray]:
    """Noise; half of the pictures hold a scratch somewhere, three pixels wide."""
    generator = np.random.default_rng(seed)
    label = np.arange(count) % 2
    grey = noise(count, seed, 96) * 0.3 + 90
    for at in np.flatnonzero(label):
        y, x = generator.integers(10, 60, 2)
        grey[at, y : y + 3, x : x + 25] -= 45
    return [encode(picture) for picture in grey], label


def test_a_linear_model_reads_small_defects():
    cells, label = pictures(60, 0)
    processor = fitted(cells, words=32)
    scaler = StandardScaler().fit(processor(cells)["vector"])
    model = LogisticRegression(C=0.01).fit(scaler.transform(processor(cells)["vector"]), label)
    fresh, truth = pictures(40, 1)
    assert model.score(scaler.transform(processor(fresh)["vector"]), truth) > 0.9


def test_encoder_passes_its_words_on():
    info = InputInfo("photo", "image", ("photo",))
    processor = ImageDescriptors.processor(ImageDescriptors.Config(words=20), info)
    assert processor.config.words == 20
    assert ImageDescriptors.extracts(ImageDescriptors.Config())
