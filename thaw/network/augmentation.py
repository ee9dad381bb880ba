"""Augmentation as random Keras layers, which run on the device. Start at `augmentation_layers`."""

import keras
import numpy as np

from thaw.config.schema import Augment
from thaw.network.modes import InMode
from thaw.network.seeds import reseed_layers

# Second input of a model that augments some images only: bool (n,), True for each image to augment.
SWITCH = "augmented"

# The seed of a Keras random layer is only its first state: `seeds.reseed_layers` sets the state before use.
# Augmentation computes in float32 whatever the precision of the network: half precision would move pixels.
_OPTIONS = {"seed": 0, "dtype": "float32"}


def augmentation_layers(augment: Augment, always: bool = False) -> list[keras.Layer]:
    """The random layers that `augment` names, in the order of use, for images with pixels of 0 to 255.

    Args:
        augment: settings; a setting of 0 or False adds no layer.
        always: augment in inference, too, not in training alone.
    """
    layers: list[keras.Layer] = []
    if augment.flip:
        layers.append(keras.layers.RandomFlip("horizontal", **_OPTIONS, name="flip"))
    if augment.translation:
        shift = augment.translation
        # By whole pixels: interpolation would blur the training images alone.
        layers.append(
            keras.layers.RandomTranslation(shift, shift, interpolation="nearest", **_OPTIONS, name="translation")
        )
    if augment.rotation:
        layers.append(keras.layers.RandomRotation(augment.rotation, **_OPTIONS, name="rotation"))
    if augment.zoom:
        layers.append(keras.layers.RandomZoom(augment.zoom, **_OPTIONS, name="zoom"))
    if augment.contrast:
        layers.append(keras.layers.RandomContrast(augment.contrast, **_OPTIONS, name="contrast"))
    if keras.backend.backend() == "jax":
        # Keras marks these layers as not compilable by XLA, which is true on TensorFlow alone, and a single such
        # layer keeps the whole model from being compiled.
        for layer in layers:
            layer.supports_jit = True
    return [InMode(layer, training=True) for layer in layers] if always else layers


def augmentation_inputs(images: np.ndarray, augment: Augment, augmented: bool) -> np.ndarray | dict[str, np.ndarray]:
    """Input of the model of `Network.features`: images and, where `augment` changes any, which ones to augment.

    Args:
        images: uint8 (n, 32, 32, 3).
        augment: settings.
        augmented: augment all images, or none.
    """
    if augment.changes_nothing:
        return images
    return {"images": images, SWITCH: np.full(len(images), augmented)}


def draw_views(images: np.ndarray, augment: Augment) -> list[np.ndarray]:
    """Images, uint8 (n, 32, 32, 3), in each view: unaugmented in the first, augmented at random in each other one."""
    x = inputs = keras.Input(images.shape[1:], dtype="uint8")
    for layer in augmentation_layers(augment, always=True):
        x = layer(x)
    model = keras.Model(inputs, x)
    views = [images]
    for number in range(1, augment.views):
        reseed_layers(model, augment.seed, number)
        views.append(np.asarray(model.predict(images, verbose=0)).round().clip(0, 255).astype(np.uint8))
    return views
