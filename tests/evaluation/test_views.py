"""Test-time views: which pixels they show, and the mean of what is predicted for them."""

import keras
import numpy as np
import pytest

from tests.helpers.examples import example_images
from thaw.config.schema import Evaluate, accepted_words
from thaw.evaluation.views import OFFSETS, describe_views, further_views, mean_over_views
from thaw.network.inference import predict_logits, softmax
from thaw.network.seeds import seed_initialisers

IMAGES = example_images(6).inputs


def views(count: int, mirrored: bool) -> list[np.ndarray]:
    """All views, with the first."""
    return [IMAGES, *further_views(IMAGES, count, mirrored)]


def shifted(images: np.ndarray, down: int, right: int) -> np.ndarray:
    """By hand: each pixel is the one `down` above it and `right` to the left of it, reflected at the edges."""
    last = images.shape[1] - 1
    places = [np.arange(last + 1) - pixels for pixels in (down, right)]
    rows, columns = (
        np.where(place < 0, -1 - place, np.where(place > last, 2 * last + 1 - place, place)) for place in places
    )
    return images[:, rows][:, :, columns]


def test_the_second_view_is_the_mirror_image():
    (view,) = further_views(IMAGES, 2, mirrored=True)
    np.testing.assert_array_equal(view, IMAGES[:, :, ::-1])


@pytest.mark.parametrize("mirrored", [True, False])
def test_shifts_go_towards_each_corner_by_two_pixels(mirrored):
    found = views(10 if mirrored else 5, mirrored)
    plain = found[::2] if mirrored else found
    for view, (down, right) in zip(plain, ((0, 0), (-2, -2), (2, 2), (-2, 2), (2, -2)), strict=True):
        np.testing.assert_array_equal(view, shifted(IMAGES, down, right))
        assert (view.shape, view.dtype) == (IMAGES.shape, np.uint8)


@pytest.mark.parametrize(("side", "pixels"), [(8, 1), (48, 3), (96, 6), (100, 6)])
def test_a_shift_is_a_sixteenth_of_the_side_and_a_pixel_at_least(side, pixels):
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    (view,) = further_views(images, 2, mirrored=False)
    np.testing.assert_array_equal(view, shifted(images, -pixels, -pixels))


def test_views_come_in_pairs_of_an_image_and_its_mirror_image_and_all_differ():
    found = views(10, mirrored=True)
    for plain, mirror in zip(found[::2], found[1::2], strict=True):
        np.testing.assert_array_equal(mirror, plain[:, :, ::-1])
    assert len({view.tobytes() for view in found}) == 10


def test_fewer_views_are_the_first_of_more():
    for few, more in zip(views(3, True), views(10, True), strict=False):
        np.testing.assert_array_equal(few, more)


def test_the_most_views_are_those_that_the_parameters_accept():
    assert len(views(2 * len(OFFSETS), True)) == 10 and len(views(len(OFFSETS), False)) == 5
    assert accepted_words(Evaluate.model_fields["views"]) == (
        "a whole number from 1 to 10, or to 5 where augment.flip is false"
    )


@pytest.mark.parametrize(
    ("count", "mirrored", "words"),
    [
        (2, True, "2 views, mirrored"),
        (2, False, "2 views, shifted"),
        (3, True, "3 views, mirrored and shifted"),
        (10, True, "10 views, mirrored and shifted"),
    ],
)
def test_views_in_words(count, mirrored, words):
    assert describe_views(count, mirrored) == words


def test_the_mean_is_of_the_calibrated_probabilities_of_all_views():
    seed_initialisers(0, "test")
    start = keras.Input((32, 32, 3), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(start))
    model = keras.Model(start, keras.layers.Dense(4)(x))

    def predicted(images: np.ndarray) -> np.ndarray:
        return softmax(predict_logits(model, images, 4), 2.5)

    reached: list[int] = []
    found = mean_over_views(model, IMAGES, predicted(IMAGES), 2.5, 10, True, 4, reached.append)
    np.testing.assert_allclose(found, np.mean([predicted(view) for view in views(10, True)], axis=0), rtol=1e-12)
    assert max(reached) == 9 * len(IMAGES)
