"""Grad-CAM maps (Selvaraju et al., "Grad-CAM", 2017) of a backbone's last convolution. Start at `grad_cam`."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from thaw.figures.grids import save_figure
from thaw.figures.style import INK, new_chart
from thaw.network.build import Network

# Pixels of each image of the figure along a side.
PANEL = 300

# Colours of a map, and how opaque they are where it is highest.
COLORS, _OPAQUE = "plasma", 0.7

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


class _Offset(keras.layers.Layer):
    """Adds an offset that is set from outside, and keeps its input.

    The gradient at a tensor inside a graph equals the gradient at an offset of 0, which every backend computes.
    """

    offset = input_seen = None

    def call(self, x):
        self.input_seen = x
        # In mixed precision the map has the lower one.
        return x if self.offset is None else x + keras.ops.cast(self.offset, x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


def last_convolution(network: Network) -> keras.Layer:
    return next(layer for layer in reversed(network.blocks[-1].layers) if isinstance(layer, _CONVOLUTIONS))


class GradCam:
    """Grad-CAM of one network: what does not depend on the image is made once."""

    def __init__(self, network: Network) -> None:
        """Args:
        network: with a head.
        """
        conv, self._offset = last_convolution(network), _Offset()

        def call(layer: keras.Layer, *arguments, **options):
            y = layer(*arguments, **options)
            return self._offset(y) if layer is conv else y

        top = keras.models.clone_model(network.blocks[-1], clone_function=lambda layer: layer, call_function=call)
        self._top = keras.Model(top.input, network.head(network.pooled(top.output)))
        start, x = network.image_input()
        for block in network.blocks[:-1]:
            x = block(x, training=False)
        self._below = keras.Model(start, x)
        self.shape: tuple[int, int] = tuple(conv.output.shape[1:3])

    def __call__(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """As `grad_cam`."""
        x = keras.ops.convert_to_tensor(self._below.predict(images, verbose=0))
        targets = keras.ops.one_hot(keras.ops.convert_to_tensor(labels), self._top.output.shape[-1])

        def score(value):
            self._offset.offset = value
            return keras.ops.sum(self._top(x, training=False) * targets)

        try:
            self._top(x, training=False)
            activations = np.asarray(self._offset.input_seen, np.float32)
            slopes = np.asarray(gradient(score, keras.ops.zeros(activations.shape)), np.float32)
        finally:  # on JAX, these are of that gradient alone
            self._offset.offset = self._offset.input_seen = None
        weights = slopes.mean(axis=(1, 2), keepdims=True)
        maps = np.maximum((weights * activations).sum(axis=-1), 0)
        largest = maps.max(axis=(1, 2), keepdims=True)
        return np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0)


def grad_cam(network: Network, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How much each position of the last convolution's map supports a class.

    Args:
        network: with a head.
        images: uint8 (n, side, side, 3).
        labels: the class to explain for each image, integers (n,).

    Returns:
        float32 (n, height, width) of that map, from 0 to 1; the maximum of each image is 1, or 0 where no
        position supports the class.
    """
    return GradCam(network)(images, labels)


def overlay(path: Path, shown: np.ndarray, image: np.ndarray, heat: np.ndarray, title: str) -> None:
    """Write a PNG: the image, the network's input, and the input under its map, all of one height, and a scale.

    Where the map is 0 the image shows as it is; the more support, the more of the map's colour lies over it.

    Args:
        path: of the PNG.
        shown: the image as it is, (height, width, 3).
        image: the network's input, uint8 (side, side, 3).
        heat: of `grad_cam`, (h, w).
        title: the class that the map supports.
    """
    height, width, _ = np.shape(shown)
    ratios = (width / height, 1, 1)
    figure = new_chart(3 * sum(ratios) + 0.9, 3.4)
    all_axes = figure.subplots(1, 3, width_ratios=ratios)
    captions = ("image", f"input of the network, {len(image)} x {len(image)} pixels", title)
    for axes, panel, ratio, caption in zip(all_axes, (shown, image, image), ratios, captions, strict=True):
        axes.imshow(panel, interpolation="nearest", extent=(0, ratio, 0, 1))
        axes.set(xticks=[], yticks=[])
        axes.set_title(caption, fontsize=9, color=INK, parse_math=False)
    _lay_over(all_axes[-1], heat)
    save_figure(figure, path)


def _lay_over(axes, heat: np.ndarray) -> None:
    """Draw a map over an image, the more opaque the higher, and its scale beside it."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    norm = Normalize(0, 1)
    axes.imshow(
        heat,
        interpolation="bilinear",
        cmap=COLORS,
        norm=norm,
        alpha=_OPAQUE * np.clip(heat, 0, 1),
        extent=(0, 1, 0, 1),
    )
    scale = axes.figure.colorbar(ScalarMappable(norm, COLORS), cax=axes.inset_axes((1.04, 0, 0.05, 1)))
    scale.set_label("support for the class", fontsize=8, color=INK)
    scale.set_ticks([0, 0.5, 1], labels=["none", "half", "most"], fontsize=8)


def gradient(function: Callable, x):
    """Gradient of a scalar function at a tensor; it has the tensor's shape."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(function)(x)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x)
