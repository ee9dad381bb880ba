"""The layer that augments: against Keras's own layers, and the draws that it follows from."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.helpers.examples import augment
from tests.helpers.project import ROOT
from thaw.network.augmentation import DRAWS, Augmentation, augmentation_inputs, view_draws
from thaw.network.backend import active_device
from thaw.network.inference import compiles
from thaw.network.seeds import reseed_layers

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)
STRONG = augment(flip=True, translation=0.2, rotation=0.1, zoom=0.2, contrast=0.3, views=4, seed=5)
COLUMNS = ("flip", "down", "right", "rotation", "zoom", "contrast")
DRAWN = (-1.0, -0.61, -0.25, 0.0, 0.1, 0.4, 0.77, 0.99)


def draws(**columns) -> np.ndarray:
    """Draws of eight images: zeros but for what is given."""
    rows = np.zeros((len(IMAGES), DRAWS), np.float32)
    for name, values in columns.items():
        rows[:, COLUMNS.index(name)] = values
    return rows


def augmented(settings, rows: np.ndarray, images: np.ndarray = IMAGES) -> np.ndarray:
    return np.asarray(Augmentation(settings)(images, rows))


def compiled(settings) -> keras.Model:
    """The layer as a model from images and draws, compiled as extraction does."""
    inputs = [keras.Input((32, 32, 3), dtype="uint8"), keras.Input((DRAWS,))]
    model = keras.Model(inputs, Augmentation(settings)(*inputs))
    model.compile(jit_compile=compiles(model))
    return model


def by_keras(layer: keras.Layer, **transformation) -> np.ndarray:
    """What a random layer of Keras makes of the images where it draws this transformation."""
    told = {name: keras.ops.convert_to_tensor(np.float32(value)) for name, value in transformation.items()}
    images = keras.ops.convert_to_tensor(IMAGES.astype("float32"))
    return np.asarray(layer.transform_images(images, told | {"input_shape": images.shape}, training=True))


def column(values) -> np.ndarray:
    return np.array(values, np.float32).reshape(-1, 1)


def test_a_flip_is_that_of_keras():
    flips = np.array(DRAWN).reshape(-1, 1, 1, 1) < 0
    expected = np.where(flips, IMAGES[:, :, ::-1], IMAGES)
    layer = keras.layers.RandomFlip("horizontal")
    images = keras.ops.convert_to_tensor(IMAGES.astype("float32"))
    told = {"flips": keras.ops.convert_to_tensor(flips), "input_shape": images.shape}
    np.testing.assert_array_equal(np.asarray(layer.transform_images(images, told, training=True)), expected)
    np.testing.assert_array_equal(augmented(augment(flip=True), draws(flip=DRAWN)), expected)


def test_a_translation_is_that_of_keras_by_whole_pixels():
    layer = keras.layers.RandomTranslation(0.5, 0.5, interpolation="nearest")
    down, right = np.array(DRAWN), np.array(DRAWN)[::-1]
    shifts = np.stack([right, down], axis=1) * 0.5 * 32
    expected = by_keras(layer, translations=shifts.round())
    assert not np.array_equal(expected[0], IMAGES[0])
    np.testing.assert_array_equal(augmented(augment(translation=0.5), draws(down=down, right=right)), expected)
    np.testing.assert_array_equal(by_keras(layer, translations=shifts)[:2], expected[:2])


def test_a_rotation_is_that_of_keras():
    layer = keras.layers.RandomRotation(0.3)
    zeros, ones = np.zeros(8, np.float32), np.ones(8, np.float32)
    parts = {"center_x": 0.5, "center_y": 0.5, "height": 32, "width": 32}
    parts |= {"translate_x": zeros, "translate_y": zeros, "scale": ones, "shear_x": zeros, "shear_y": zeros}
    matrix = layer._compute_affine_matrix(angle=keras.ops.convert_to_tensor(np.float32(DRAWN) * 0.3 * 360), **parts)
    expected = by_keras(layer, rotation_matrix=matrix)
    np.testing.assert_allclose(augmented(augment(rotation=0.3), draws(rotation=DRAWN)), expected, atol=0.02)


def test_a_zoom_is_that_of_keras():
    zooms = column(DRAWN) * 0.4 + 1
    expected = by_keras(keras.layers.RandomZoom(0.4), width_zoom=zooms, height_zoom=zooms)
    np.testing.assert_allclose(augmented(augment(zoom=0.4), draws(zoom=DRAWN)), expected, atol=0.02)


def test_a_contrast_is_that_of_keras():
    factors = column(DRAWN).reshape(-1, 1, 1, 1) * 0.9 + 1
    expected = by_keras(keras.layers.RandomContrast(0.9), contrast_factor=factors)
    np.testing.assert_allclose(augmented(augment(contrast=0.9), draws(contrast=DRAWN)), expected, atol=1e-3)
    assert expected.min() == 0, "some are clipped"


def test_the_changes_follow_one_another_in_the_order_of_keras_layers():
    # Away from the edges, and where interpolation is exact, one resampling equals several.
    down, right = np.mgrid[0:32, 0:32]
    slopes = np.stack([3.0 * down, 3.0 * right, 100 + down - 2.0 * right], axis=-1)
    images = np.broadcast_to(slopes, (8, 32, 32, 3)).astype("float32")
    rows = draws(flip=-1, down=0.3, right=-0.2, rotation=0.25, zoom=-0.5)
    x = images
    for name in ("flip", "translation", "rotation", "zoom"):
        x = augmented(augment(**{name: getattr(STRONG, name)}), rows, x)
    assert np.abs(x - images)[:, 10:-10, 10:-10].max() > 10
    geometry = STRONG.model_copy(update={"contrast": 0.0})
    np.testing.assert_allclose(augmented(geometry, rows, images)[:, 10:-10, 10:-10], x[:, 10:-10, 10:-10], atol=1e-3)


@pytest.mark.parametrize(
    "chosen", [{"flip": True}, {"translation": 0.2}, {"rotation": 0.1}, {"zoom": 0.2}, {"contrast": 0.3}, "all"]
)
def test_draws_of_zero_keep_an_image_bit_for_bit(chosen):
    settings = STRONG if chosen == "all" else augment(**chosen)
    rows = view_draws(STRONG, 1, 8)
    rows[3] = 0
    found = augmented(settings, rows)
    np.testing.assert_array_equal(found[3], IMAGES[3])
    assert not np.array_equal(found, IMAGES)
    np.testing.assert_array_equal(compiled(settings).predict([IMAGES, draws()], verbose=0), IMAGES)


def test_a_setting_of_zero_ignores_its_draws():
    np.testing.assert_array_equal(augmented(augment(contrast=0.0, flip=False), view_draws(STRONG, 1, 8)), IMAGES)
    rows = view_draws(STRONG, 1, 8)
    np.testing.assert_array_equal(
        augmented(augment(flip=True), rows), augmented(augment(flip=True), draws(flip=rows[:, 0]))
    )


def test_an_image_is_augmented_the_same_whatever_is_beside_it():
    rows = view_draws(STRONG, 1, 8)
    # Where nothing is interpolated, to the bit.
    for settings, atol in ((augment(flip=True, translation=0.2), 0), (STRONG, 1e-3)):
        alone = augmented(settings, rows[5:6], IMAGES[5:6])
        np.testing.assert_allclose(augmented(settings, rows)[5:6], alone, rtol=0, atol=atol)


def test_draws_follow_from_seed_view_and_number_of_the_image():
    found = view_draws(STRONG, 1, 8)
    assert (found.shape, found.dtype) == ((8, DRAWS), np.float32)
    assert found.min() >= -1
    assert found.max() < 1
    np.testing.assert_array_equal(view_draws(augment(seed=5, zoom=0.1), 1, 5), found[:5])
    assert not view_draws(STRONG, 0, 8).any()
    for other in (view_draws(STRONG, 2, 8), view_draws(STRONG.model_copy(update={"seed": 6}), 1, 8)):
        assert not (other == found).any()


def test_draws_are_uniform():
    found = view_draws(STRONG, 3, 20_000)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(found.std(axis=0), 1 / np.sqrt(3), atol=0.01)


def test_with_alternate_odd_views_are_mirrored_and_even_ones_are_not():
    for view, expected in ((0, IMAGES), (1, IMAGES[:, :, ::-1]), (2, IMAGES), (3, IMAGES[:, :, ::-1])):
        settings = augment(flip="alternate", views=4)
        inputs = augmentation_inputs(IMAGES, settings, view)
        np.testing.assert_array_equal(augmented(settings, inputs["draws"]), expected)
    # All else varies as without.
    other = STRONG.model_copy(update={"flip": "alternate"})
    np.testing.assert_array_equal(view_draws(other, 1, 8)[:, 1:], view_draws(STRONG, 1, 8)[:, 1:])


@pytest.mark.parametrize("flip", [True, "alternate"])
def test_in_training_images_are_augmented_at_random_by_the_seed_and_in_inference_not_at_all(flip):
    layer = Augmentation(augment(flip=flip))
    model = keras.Model(inputs := keras.Input((32, 32, 3), dtype="uint8"), layer(inputs))

    def trained(seed: int) -> np.ndarray:
        reseed_layers(model, seed)
        return np.asarray(model(IMAGES, training=True))

    mirrored = [not np.array_equal(*pair) for pair in zip(trained(0), IMAGES, strict=True)]
    assert any(mirrored)
    assert not all(mirrored)
    np.testing.assert_array_equal(trained(0), trained(0))
    assert not np.array_equal(trained(0), trained(1))
    np.testing.assert_array_equal(np.asarray(model(IMAGES, training=False)), IMAGES)


def test_xla_compiles_the_layer():
    model = compiled(STRONG)
    assert all(layer.supports_jit for layer in model._flatten_layers())
    assert model.jit_compile == active_device().xla


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="this is that run")
def test_all_of_it_holds_on_jax():
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", __file__]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
