"""Augmentation as one Keras layer, which runs on the device. Start at `Augmentation`."""

import math

import keras
import numpy as np

from thaw.config.schema import Augment
from thaw.network.seeds import random_generator

# Numbers that an image's augmentation follows from: mirror image, shift down, shift right, rotation, zoom, contrast.
DRAWS = 6


class Augmentation(keras.layers.Layer):
    """Images mirrored, shifted, rotated and zoomed in one resampling, then changed in contrast.

    Each change is a draw, from -1 to below 1, times the largest one in the settings; an image is mirrored where the
    draw is below 0. Draws of 0 keep an image bit for bit. A setting of 0 or False ignores its draws.

    It equals keras.layers.RandomFlip, RandomTranslation, RandomRotation, RandomZoom and RandomContrast of the same
    draws in this order, but for one interpolation in place of several. It is made of gathers, which XLA compiles on
    both backends. On a CPU that is 14 times as fast as `keras.ops.image.affine_transform` on JAX; on TensorFlow 2 times
    without rotation and zoom, and 0.8 times with them.
    """

    def __init__(self, augment: Augment) -> None:
        # In float32, whatever the precision of the network: half precision would move pixels.
        super().__init__(name="augmentation", dtype="float32")
        self.augment = augment
        # `seeds.reseed_layers` sets its state before use.
        self.seed_generator = keras.random.SeedGenerator(0)

    def call(self, images, draws=None, training=False):
        """Augment images (n, side, side, channels) with pixels of 0 to 255.

        Args:
            images: of any type; the result is float32.
            draws: float32 (n, DRAWS). None draws them at random in training, and augments nothing in inference.
            training: the mode.
        """
        images = keras.ops.cast(images, "float32")
        if draws is None:
            if not training:
                return images
            shape = (keras.ops.shape(images)[0], DRAWS)
            draws = keras.random.uniform(shape, -1, 1, "float32", self.seed_generator)
        if self.augment.flip or self.augment.translation or self.augment.rotation or self.augment.zoom:
            images = self._resample(images, draws)
        if self.augment.contrast:
            share = self.augment.contrast * keras.ops.reshape(draws[:, 5], (-1, 1, 1, 1))
            mean = keras.ops.mean(images, axis=(1, 2), keepdims=True)
            images = keras.ops.clip(images + share * (images - mean), 0, 255)
        return images

    def _resample(self, images, draws):
        ops, augment = keras.ops, self.augment
        side, channels = images.shape[2:]
        mirror, down, right, angle, zoom = (ops.reshape(draws[:, column], (-1, 1, 1)) for column in range(5))
        # By whole pixels: interpolation would blur the training images alone.
        down, right = (ops.round(augment.translation * side * draw) for draw in (down, right))
        angle, zoom = 2 * math.pi * augment.rotation * angle, 1 + augment.zoom * zoom
        # Offsets from the centre: of the result's rows and columns, then of where in the image each value lies.
        x = ops.arange(side, dtype="float32") - (side - 1) / 2
        y = ops.reshape(x, (-1, 1))
        row = zoom * (ops.sin(angle) * x + ops.cos(angle) * y) - down
        column = zoom * (ops.cos(angle) * x - ops.sin(angle) * y) - right
        if augment.flip:
            column = ops.where(mirror < 0, -column, column)
        row, column = row + (side - 1) / 2, column + (side - 1) / 2
        pixels = ops.reshape(images, (-1, channels))
        first = ops.reshape(ops.arange(ops.shape(images)[0], dtype="int32") * side**2, (-1, 1, 1))

        def pixels_at(row, column):
            # Beyond its edges an image is reflected: d c b a | a b c d | d c b a.
            row, column = (ops.mod(ops.cast(place, "int32"), 2 * side) for place in (row, column))
            row, column = (ops.minimum(place, 2 * side - 1 - place) for place in (row, column))
            return ops.take(pixels, first + side * row + column, axis=0)

        if not (augment.rotation or augment.zoom):
            return pixels_at(row, column)
        top, left = ops.floor(row), ops.floor(column)
        below, beside = ops.expand_dims(row - top, -1), ops.expand_dims(column - left, -1)
        upper, lower = (_between(pixels_at(line, left), pixels_at(line, left + 1), beside) for line in (top, top + 1))
        return _between(upper, lower, below)


def _between(start, end, share):
    return start + share * (end - start)


def view_draws(augment: Augment, view: int, count: int) -> np.ndarray:
    """The draws of a view, float32 (count, DRAWS): zeros in view 0; elsewhere a row for each image, by its number.

    A row follows from (augment.seed, view, number of the image) alone. With `flip: alternate` all images are mirrored
    in odd views and none in even ones: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (2024).
    """
    if view == 0:
        return np.zeros((count, DRAWS), np.float32)
    draws = 2 * random_generator(augment.seed, view).random((count, DRAWS), np.float32) - 1
    if augment.flip == "alternate":
        draws[:, 0] = -(view % 2)
    return draws


def augmentation_inputs(images: np.ndarray, augment: Augment, view: int = 0) -> np.ndarray | dict[str, np.ndarray]:
    """Input of the model of `Network.features`: images and, where `augment` changes any, their draws.

    Args:
        images: uint8 (n, side, side, 3).
        augment: settings.
        view: number of the view; in view 0 nothing is augmented.
    """
    if augment.changes_nothing:
        return images
    return {"images": images, "draws": view_draws(augment, view, len(images))}
