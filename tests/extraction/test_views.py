"""Samples of the views: training images in the first, the same augmented in the others."""

import json

import keras
import numpy as np

from tests.helpers.examples import augment, example_images, small_network
from thaw.data.examples import Examples
from thaw.extraction.views import save_views
from thaw.network.augmentation import augmentation_inputs

TRAIN = example_images(24)
CLASSES = ["cat", "dog", "frog", "horse"]


def saved(folder, train=TRAIN, classes=CLASSES, **how) -> tuple[np.ndarray, list[str]]:
    save_views(folder, train, classes, augment(**how))
    return np.load(folder / "images.npy"), json.loads((folder / "classes.json").read_text())


def test_the_first_view_has_the_first_training_image_of_each_class_and_others_have_it_augmented(tmp_path):
    images, classes = saved(tmp_path / "views", translation=0.2, views=3)
    assert (images.shape, images.dtype, classes) == ((3, 4, 32, 32, 3), np.uint8, CLASSES)
    first = [TRAIN.inputs[np.argmax(TRAIN.labels == label)] for label in range(4)]
    np.testing.assert_array_equal(images[0], first)
    assert (images[1] != images[0]).any()
    assert (images[2] != images[1]).any()


def test_the_views_are_those_that_are_extracted(tmp_path):
    how = augment(flip=True, translation=0.2, rotation=0.1, contrast=0.2, views=3, seed=7)
    images, _ = saved(tmp_path / "views", **how.model_dump())
    network = small_network()
    rows = [np.argmax(TRAIN.labels == label) for label in range(4)]
    for view in range(3):
        seen = keras.Model(*network.image_input(how, with_draws=True)).predict(
            augmentation_inputs(TRAIN.inputs, how, view), verbose=0
        )
        shown = network.image_input()
        expected = keras.Model(*shown).predict(images[view], verbose=0)
        # To within the rounding to whole pixels, of 127.5 each after normalisation.
        np.testing.assert_allclose(seen[rows], expected, atol=0.51 / 127.5)


def test_ten_classes_are_enough(tmp_path):
    train = Examples(np.zeros((30, 32, 32, 3), np.uint8), np.arange(30))
    images, classes = saved(tmp_path / "views", train, [f"class {number}" for number in range(30)], views=1)
    assert images.shape[:2] == (1, 10)
    assert classes == [f"class {number}" for number in range(10)]


def test_a_second_time_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        saved(tmp_path / name, translation=0.2, views=2)
    for file in ("images.npy", "classes.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
