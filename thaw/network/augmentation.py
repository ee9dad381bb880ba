"""Augmentation as Keras layers, which run on the device."""

import keras
import numpy as np

from thaw.config.schema import Augment
from thaw.network.modes import InMode
from thaw.network.seeds import reseed_layers

# Input of a model that augments some pictures only: bool (n,), which of them.
SWITCH = "augmented"


# Keras's random layers take a seed when they are made; `seeds.reseed` sets their state before use.
# Half a precision would move pixels, whatever the network computes in.
_OPTIONS = {"seed": 0, "dtype": "float32"}


def augmentation_layers(augment: Augment, always: bool = False) -> list[keras.Layer]:
    """The random layers that `augment` asks for, over pictures of 0 to 255, in the order of use.

    They augment in training, or also in inference where `always` says so.
    """
    chosen = []
    if augment.flip:
        chosen.append(keras.layers.RandomFlip("horizontal", **_OPTIONS, name="flip"))
    if augment.translation:
        shift = augment.translation
        # By whole pixels: interpolation would blur every training picture and no other.
        chosen.append(
            keras.layers.RandomTranslation(shift, shift, interpolation="nearest", **_OPTIONS, name="translation")
        )
    if augment.rotation:
        chosen.append(keras.layers.RandomRotation(augment.rotation, **_OPTIONS, name="rotation"))
    if augment.zoom:
        chosen.append(keras.layers.RandomZoom(augment.zoom, **_OPTIONS, name="zoom"))
    if augment.contrast:
        chosen.append(keras.layers.RandomContrast(augment.contrast, **_OPTIONS, name="contrast"))
    if keras.backend.backend() == "jax":
        # Keras says they cannot be compiled, which is so on TensorFlow, and would compile nothing of the model.
        for layer in chosen:
            layer.supports_jit = True
    return [InMode(layer, training=True) for layer in chosen] if always else chosen


def augmentation_inputs(images: np.ndarray, augment: Augment, augmented: bool) -> np.ndarray | dict[str, np.ndarray]:
    """What `Network.features` takes of pictures, to augment all or none of them."""
    if augment.changes_nothing:
        return images
    return {"pictures": images, SWITCH: np.full(len(images), augmented)}


def draw_views(images: np.ndarray, augment: Augment) -> list[np.ndarray]:
    """Pictures, uint8 (n, 32, 32, 3), as they may look in each view; as they are in the first."""
    x = pictures = keras.Input(images.shape[1:], dtype="uint8")
    for layer in augmentation_layers(augment, always=True):
        x = layer(x)
    model = keras.Model(pictures, x)
    drawn = [images]
    for number in range(1, augment.views):
        reseed_layers(model, augment.seed, number)
        drawn.append(np.asarray(model.predict(images, verbose=0)).round().clip(0, 255).astype(np.uint8))
    return drawn
