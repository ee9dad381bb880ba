"""Where a network looks: Grad-CAM (Selvaraju et al., "Grad-CAM", 2017) at the last convolution of a backbone."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from thaw.figures.grids import save_figure
from thaw.network.build import Network

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


class _Plus(keras.layers.Layer):
    """Adds a tensor that is set from outside, and keeps what it was given.

    The gradient at a tensor inside of a graph is that at 0 of something added to it, which every backend can give.
    """

    more = None

    def call(self, x):
        self.seen = x
        # In a precision of mixed types the map has the lesser one.
        return x if self.more is None else x + keras.ops.cast(self.more, x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


def last_convolution(network: Network) -> keras.Layer:
    return next(layer for layer in reversed(network.blocks[-1].layers) if isinstance(layer, _CONVOLUTIONS))


def grad_cam(network: Network, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How much each place of the last convolution's map speaks for a class.

    Args:
        network: with a head.
        images: uint8 (n, 32, 32, 3).
        labels: the class of each that is asked for, integers (n,).

    Returns:
        float32 (n, height, width) of that map, from 0 to 1, the largest of each picture being 1; all 0
        where nothing speaks for the class.
    """
    conv, plus = last_convolution(network), _Plus()

    def call(layer: keras.Layer, *arguments, **options):
        y = layer(*arguments, **options)
        return plus(y) if layer is conv else y

    top = keras.models.clone_model(network.blocks[-1], clone_function=lambda layer: layer, call_function=call)
    model = keras.Model(top.input, network.head(network.pooled(top.output)))
    start, x = network.image_input(None, always=False)
    for block in network.blocks[:-1]:
        x = block(x, training=False)
    x = keras.ops.convert_to_tensor(keras.Model(start, x).predict(images, verbose=0))
    chosen = keras.ops.one_hot(keras.ops.convert_to_tensor(labels), model.output.shape[-1])

    def score(more):
        plus.more = more
        return keras.ops.sum(model(x, training=False) * chosen)

    model(x, training=False)
    activations = np.asarray(plus.seen, np.float32)
    slopes = np.asarray(gradient(score, keras.ops.zeros(activations.shape)), np.float32)
    weights = slopes.mean(axis=(1, 2), keepdims=True)
    maps = np.maximum((weights * activations).sum(axis=-1), 0)
    largest = maps.max(axis=(1, 2), keepdims=True)
    return np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0)


def overlay(path: Path, shown: np.ndarray, image: np.ndarray, heat: np.ndarray, title: str) -> None:
    """Write a PNG: the picture, what the network gets of it, and the latter under its map.

    Args:
        path: of the PNG.
        shown: the picture as it was, (height, width, 3).
        image: uint8 (32, 32, 3).
        heat: of `grad_cam`, (h, w).
        title: what the map speaks for.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, picture, words in zip(
        figure.subplots(1, 3), (shown, image, image), ("the picture", "as the network gets it", title), strict=True
    ):
        height, width, _ = np.shape(picture)
        axes.imshow(picture, interpolation="nearest", extent=(0, width / height, 0, 1))
        axes.set(xticks=[], yticks=[])
        axes.set_title(words, fontsize=9)
    axes.imshow(heat, interpolation="bilinear", cmap="inferno", alpha=0.55, extent=(0, 1, 0, 1), vmin=0, vmax=1)
    save_figure(figure, path)


def gradient(function: Callable, x):
    """The gradient of a scalar function at a tensor, a tensor of its shape."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(function)(x)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x)
