"""Convolution, and a faster gradient for its kernel: where maps are small, or of one place. Start at `convolve`."""

import itertools
from collections.abc import Sequence
from typing import Any

import keras

from thaw.network.backend import active_device

# Places of a map up to which the sum is faster: 8x8. VGG16 at 32 pixels thaws block5 at 2x2 and block4 at 4x4.
SMALL = 64


def convolve(x: Any, kernel: Any, strides: Sequence[int], padding: str, dilation_rate: Sequence[int]) -> Any:
    """Convolution, channels last: `keras.ops.conv`, whose gradient for the kernel is computed by oneDNN's products.

    oneDNN's own gradient for a kernel is slow where maps are small: of 512 channels at 2x2 it takes ten times as long
    as the convolution. Each place of a kernel meets one rectangle of the map, so that its gradient is one product of
    matrices, without the zeros around the map. Of a 1x1 kernel that is one product for maps of any size: at 40x40, from
    48 channels to 8, in a fifth of the time.

    Args:
        x: activations (n, height, width, channels).
        kernel: (height, width, channels, filters), of the type of `x`.
        strides, padding, dilation_rate: as of Conv2D.
    """
    if not (active_device().onednn and by_products(x.shape, kernel.shape, strides, padding, dilation_rate)):
        return keras.ops.conv(x, kernel, strides, padding, "channels_last", dilation_rate)
    import tensorflow as tf

    options = {"strides": [1, 1, 1, 1], "padding": "SAME"}

    @tf.custom_gradient
    def convolution(x, kernel):
        def gradient(upstream):
            inputs = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(x), filter=kernel, out_backprop=upstream, **options
            )
            return inputs, _kernel_gradient(x, upstream, kernel.shape)

        return tf.nn.conv2d(x, kernel, **options), gradient

    return convolution(tf.convert_to_tensor(x), tf.convert_to_tensor(kernel))


def by_products(
    shape: Sequence[int], kernel: Sequence[int], strides: Sequence[int], padding: str, dilation_rate: Sequence[int]
) -> bool:
    """Whether `_kernel_gradient` is faster, and knows the convolution; arguments as of `convolve`, but shapes."""
    _, height, width, channels = shape
    pointwise = kernel[0] * kernel[1] == 1
    # A 1x1 kernel pads nothing, whatever its padding is called.
    plain = (pointwise or padding == "same") and {*strides, *dilation_rate} == {1} and channels == kernel[2]
    odd = kernel[0] % 2 == kernel[1] % 2 == 1
    if not (plain and odd) or None in (height, width):
        return False
    return pointwise or height * width <= SMALL


def _kernel_gradient(x, upstream, shape: Sequence[int]):
    """The sum over images and places of what each place of a kernel has met, times the gradient that it led to."""
    import tensorflow as tf

    (height, width), (rows, columns, channels, filters) = x.shape[1:3], shape
    products = []
    for row, column in itertools.product(range(rows), range(columns)):
        # What lies so far below and right of each place; where that is off the map, there is only padding.
        down, right = row - rows // 2, column - columns // 2
        met = x[:, max(down, 0) : max(height + min(down, 0), 0), max(right, 0) : max(width + min(right, 0), 0)]
        led = upstream[:, max(-down, 0) : max(height - max(down, 0), 0), max(-right, 0) : max(width - max(right, 0), 0)]
        met, led = tf.reshape(met, (-1, channels)), tf.reshape(led, (-1, filters))
        products.append(tf.matmul(met, led, transpose_a=True))
    return tf.reshape(tf.stack(products), shape)
