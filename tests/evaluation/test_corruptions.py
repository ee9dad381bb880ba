"""Corruptions of test images: their pixels, against counts by hand, and the accuracy under each."""

import keras
import numpy as np
import pytest

from tests.helpers.examples import example_images
from thaw.data.examples import Examples
from thaw.evaluation import corruptions
from thaw.evaluation.corruptions import CORRUPTIONS, PAIRS, SEVERITIES, corrupt, corruption_rows
from thaw.network.inference import predict_logits
from thaw.network.seeds import seed_initialisers

# Constants of CIFAR-10-C at its severities 1 to 5 (make_cifar_c.py of the paper's authors).
PUBLISHED = {
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "jpeg_compression": (80, 65, 58, 50, 40),
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
}
EXAMPLES = example_images(9)
IMAGES = EXAMPLES.inputs
GREY = np.full((1, 32, 32, 3), 128, np.uint8)


def test_constants_are_those_that_are_published_for_cifar_10_c():
    constants = {name: constants for name, (_, constants) in CORRUPTIONS.items()}
    assert constants == {name: tuple(all_five[s - 1] for s in SEVERITIES) for name, all_five in PUBLISHED.items()}
    assert len(PAIRS) == 15


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_higher_the_severity_the_more_is_lost(name):
    lost = [np.abs(corrupt(IMAGES, name, severity) - IMAGES.astype(float)).mean() for severity in SEVERITIES]
    assert 0 < lost[0] < lost[1] < lost[2]


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("side", [32, 20])
def test_an_image_is_corrupted_the_same_alone_among_others_and_in_any_order(name, side):
    images = np.ascontiguousarray(IMAGES[:, :side, :side])
    before, found = images.copy(), corrupt(images, name, 3)
    assert (found.shape, found.dtype) == (images.shape, np.uint8)
    order = np.random.default_rng(0).permutation(len(images))
    np.testing.assert_array_equal(corrupt(images[order], name, 3), found[order])
    for number in range(len(images)):
        np.testing.assert_array_equal(corrupt(images[number : number + 1], name, 3)[0], found[number])
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(("severity", "deviation"), [(1, 0.04), (3, 0.08), (5, 0.1)])
def test_noise_has_its_deviation_around_the_pixels_and_is_clipped(severity, deviation):
    noise = corrupt(GREY, "gaussian_noise", severity) - 128.0
    assert noise.std() == pytest.approx(255 * deviation, rel=0.05)
    assert noise.mean() == pytest.approx(-0.5, abs=1), "cut to whole numbers"
    white = corrupt(np.full_like(GREY, 255), "gaussian_noise", severity)
    assert 0.4 < (white == 255).mean() < 0.6


def test_noise_differs_from_image_to_image_and_is_one_draw_at_all_severities():
    first, second = corrupt(np.concatenate([GREY, GREY + 1]), "gaussian_noise", 3).astype(float)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.1
    weak, strong = (corrupt(GREY, "gaussian_noise", severity)[0].astype(float) for severity in (1, 5))
    assert np.corrcoef(weak.ravel(), strong.ravel())[0, 1] > 0.99


def test_a_white_pixel_is_blurred_to_a_gaussian():
    image = np.zeros_like(GREY)
    image[0, 16, 16] = 255
    weights = np.exp(-(np.arange(-4.0, 5) ** 2) / 2)  # sigma is 1 at severity 5
    weights /= weights.sum()
    expected = np.zeros((32, 32))
    expected[12:21, 12:21] = 255 * np.outer(weights, weights)
    found = corrupt(image, "gaussian_blur", 5)[0]
    for channel in range(3):
        np.testing.assert_array_equal(found[..., channel], np.floor(expected))


def test_blur_repeats_the_edge_and_mixes_no_colours():
    image = np.zeros_like(GREY)
    image[:, :, :16, 0] = 255
    found = corrupt(image, "gaussian_blur", 5)[0]
    assert (found[..., 1:] == 0).all()
    assert (found[:, :12, 0] >= 254).all() and (found[:, 20:, 0] == 0).all()
    assert (found[:, 15, 0] > found[:, 16, 0]).all()


@pytest.mark.parametrize(("severity", "dark", "light"), [(1, 25, 175), (3, 60, 140), (5, 85, 115)])
def test_contrast_shrinks_towards_the_mean_of_each_channel(severity, dark, light):
    image = np.zeros_like(GREY)
    image[:, ::2, :, 0] = 200
    image[..., 2] = 90
    found = corrupt(image, "contrast", severity)[0].astype(int)
    np.testing.assert_allclose(found[::2, :, 0], light, atol=1)
    np.testing.assert_allclose(found[1::2, :, 0], dark, atol=1)
    np.testing.assert_allclose(found[..., 1], 0)
    np.testing.assert_allclose(found[..., 2], 90, atol=1)


@pytest.mark.parametrize(("severity", "side"), [(1, 30), (3, 27), (5, 20)])
def test_a_pixelated_image_has_the_rows_and_columns_of_the_small_one(severity, side):
    ramp = np.arange(0, 128, 4, dtype=np.uint8)
    image = np.repeat((ramp[:, None] + ramp)[None, ..., None], 3, axis=-1)
    found = corrupt(image, "pixelate", severity)[0]
    assert len(np.unique(found, axis=0)) == len(np.unique(found, axis=1)[0]) == side


def test_a_pixel_of_the_small_image_is_a_mean():
    image = np.zeros_like(GREY)
    image[0, 0, 0] = image[0, 1, 1] = 200
    # 20 of 32 pixels: the small image's first is the mean of two by two, which it fills in the large one.
    found = corrupt(image, "pixelate", 5)[0]
    assert (found[:2, :2] == 100).all() and (found[2:] == 0).all() and (found[:, 2:] == 0).all()


def test_jpeg_keeps_a_grey_image_and_loses_fine_colour():
    np.testing.assert_array_equal(corrupt(GREY, "jpeg_compression", 5), GREY)
    stripes = GREY.copy()
    stripes[:, :, ::2, 0] = 168
    # Colour has half the resolution: of red's 40, what remains is about the 12 by which it brightens a pixel.
    assert np.ptp(corrupt(stripes, "jpeg_compression", 1)[..., 0]) < 25


@pytest.fixture(scope="module")
def classifier() -> keras.Model:
    seed_initialisers(0, "test")
    start = keras.Input((32, 32, 3), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(start))
    return keras.Model(start, keras.layers.Dense(4)(x))


def test_accuracy_is_of_the_corrupted_images_whatever_the_size_of_a_chunk(classifier, monkeypatch):
    labels = predict_logits(classifier, EXAMPLES.inputs, 4).argmax(axis=1)
    labels[:3] = (labels[:3] + 1) % 4
    test = Examples(IMAGES, labels)
    expected = [
        (predict_logits(classifier, corrupt(IMAGES, *pair), 4).argmax(axis=1) == labels).mean() for pair in PAIRS
    ]
    reached: list[int] = []
    rows = corruption_rows(classifier, test, 4, reached.append)
    assert [(row["corruption"], row["strength"]) for row in rows] == PAIRS
    assert [row["accuracy"] for row in rows] == pytest.approx(expected)
    assert max(reached) == 15 * len(IMAGES)
    sizes: list[int] = []
    monkeypatch.setattr(corruptions, "chunk_size", lambda model, batch_size: 4)
    monkeypatch.setattr(
        corruptions, "corrupt", lambda images, *pair: sizes.append(len(images)) or corrupt(images, *pair)
    )
    assert corruption_rows(classifier, test, 4) == rows
    assert sizes == [4, 4, 1] * 15
