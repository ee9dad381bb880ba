"""Folding: a convolution and the BatchNorm after it as one operation, if BatchNorm is in inference mode.

Start at `fold`. BatchNorm's mean, variance, scale and shift become factors of the kernel and a bias, so that
one operation reads the activations instead of two (Jacob et al., "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference", 2018, section 3.2). The layers and their weights stay as
they are: the product is part of the graph, so gradients reach a trainable kernel, scale or shift.
"""

from collections import Counter
from collections.abc import Sequence

import keras

from thaw.network.convolution import convolve

# Keras derives depthwise, separable and transposed convolutions from other classes than Conv2D.
_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


class Folded(keras.layers.Layer):
    """A convolution with the BatchNorm after it, in inference mode, computed as one convolution.

    Args:
        conv: Conv2D or DepthwiseConv2D, channels last, without an activation.
        norm: the BatchNormalization after it, over the channels.
    """

    def __init__(self, conv: keras.layers.Layer, norm: keras.layers.BatchNormalization) -> None:
        super().__init__(name=f"{norm.name}_folded")
        self.conv, self.norm = conv, norm

    def call(self, x):
        ops, conv, norm = keras.ops, self.conv, self.norm
        # In the type of the weights: under a mixed policy, only the product is rounded.
        scale = ops.rsqrt(norm.moving_variance + norm.epsilon)
        if norm.scale:
            scale = scale * norm.gamma
        bias = -norm.moving_mean if not conv.use_bias else ops.cast(conv.bias, scale.dtype) - norm.moving_mean
        bias = bias * scale
        if norm.center:
            bias = bias + norm.beta
        options = {"strides": conv.strides, "padding": conv.padding, "dilation_rate": conv.dilation_rate}
        kernel = ops.cast(conv.kernel, scale.dtype)
        if isinstance(conv, keras.layers.DepthwiseConv2D):
            # The kernel is (height, width, channels, outputs per channel): outputs of one channel are adjacent.
            kernel = ops.cast(kernel * ops.reshape(scale, (*kernel.shape[2:],)), x.dtype)
            y = ops.depthwise_conv(x, kernel, data_format="channels_last", **options)
        else:
            y = convolve(x, ops.cast(kernel * scale, x.dtype), **options)
        return ops.add(y, ops.cast(bias, y.dtype))

    def compute_output_shape(self, input_shape):
        return self.norm.compute_output_shape(self.conv.compute_output_shape(input_shape))


class Fused(keras.layers.Layer):
    """BatchNorm that TensorFlow computes in one operation while it trains on batch statistics.

    Keras's own takes a dozen operations, forwards and backwards, and about twice as long on a CPU. In inference,
    and on other backends, this is the layer itself.

    Args:
        norm: BatchNormalization over the last axis.
    """

    def __init__(self, norm: keras.layers.BatchNormalization) -> None:
        super().__init__(name=f"{norm.name}_fused", autocast=False)
        self.norm = norm

    def call(self, x, training=False):
        if not training or keras.backend.backend() != "tensorflow" or len(x.shape) != 4:
            return self.norm(x, training=training)
        import tensorflow as tf

        norm, channels = self.norm, x.shape[-1]
        y, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            x,
            norm.gamma.value if norm.scale else tf.ones(channels),
            norm.beta.value if norm.center else tf.zeros(channels),
            epsilon=norm.epsilon,
            is_training=True,
        )
        # TensorFlow returns the unbiased variance; Keras's moving variance averages the biased one.
        count = tf.cast(tf.size(x) / channels, "float32")
        share = 1 - norm.momentum
        # One factor: TensorFlow makes one of them where it knows the batch's size, and else would round three times.
        steps = ((norm.moving_mean, mean * share), (norm.moving_variance, variance * ((count - 1) * (share / count))))
        for moving, step in steps:
            moving.assign(moving * norm.momentum + step)
        return y

    def compute_output_shape(self, input_shape):
        return input_shape


class Convolution(keras.layers.Layer):
    """A convolution that `convolve` computes.

    Args:
        conv: Conv2D that `is_convolution`.
    """

    def __init__(self, conv: keras.layers.Conv2D) -> None:
        super().__init__(name=f"{conv.name}_{type(self).__name__.lower()}")
        self.conv = conv

    def call(self, x):
        ops, conv = keras.ops, self.conv
        y = self.product(x)
        return conv.activation(ops.add(y, ops.cast(conv.bias, y.dtype)) if conv.use_bias else y)

    def product(self, x):
        """What comes before the bias and the activation."""
        conv = self.conv
        return convolve(x, keras.ops.cast(conv.kernel, x.dtype), conv.strides, conv.padding, conv.dilation_rate)

    def compute_output_shape(self, input_shape):
        return self.conv.compute_output_shape(input_shape)


class Depthwise(Convolution):
    """A convolution with one group for each channel, computed by the backend's depthwise operation.

    Keras has TensorFlow compute grouped convolutions with XLA, which takes 40 to 500 times as long on a CPU: a forward
    pass of ConvNeXt-Tiny's 7x7 convolutions over 64 images of 96 pixels.

    Args:
        conv: Conv2D that `is_depthwise`.
    """

    def product(self, x):
        ops, conv = keras.ops, self.conv
        # From (height, width, 1, channels) to (height, width, channels, 1).
        kernel = ops.cast(ops.swapaxes(conv.kernel, 2, 3), x.dtype)
        return ops.depthwise_conv(x, kernel, conv.strides, conv.padding, conv.data_format, conv.dilation_rate)


def is_depthwise(layer: keras.layers.Layer) -> bool:
    """Whether a layer is a Conv2D, channels last, with one group for each channel of its input and output."""
    return (
        isinstance(layer, keras.layers.Conv2D)
        and layer.data_format == "channels_last"
        and layer.groups == layer.filters == layer.input.shape[-1]
    )


def is_convolution(layer: keras.layers.Layer) -> bool:
    """Whether a layer is a Conv2D, channels last, without groups."""
    return isinstance(layer, keras.layers.Conv2D) and layer.data_format == "channels_last" and layer.groups == 1


def foldable_pairs(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Convolutions of a functional model that a BatchNorm can be folded into, by the BatchNorm's name.

    Args:
        model: each of its layers is called once.
    """
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    maker = {id(layer.output): layer for layer in layers}
    uses = Counter(id(tensor) for layer in layers for tensor in keras.tree.flatten(layer.input))
    uses.update(id(tensor) for tensor in model.outputs)
    pairs = {}
    for norm in layers:
        if isinstance(norm, keras.layers.BatchNormalization) and uses[id(norm.input)] == 1:
            conv = maker.get(id(norm.input))
            if isinstance(conv, _CONVOLUTIONS) and _is_plain(conv) and norm.axis in (-1, 3):
                pairs[norm.name] = conv
    return pairs


def is_dropout(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.Dropout)


def _is_plain(conv: keras.layers.Layer) -> bool:
    return conv.activation is keras.activations.linear and conv.data_format == "channels_last"


def fold(model: keras.Model, pairs: dict[str, keras.layers.Layer], keep: Sequence[str] = ()) -> keras.Model:
    """The same model over the same weights, computed faster.

    BatchNorm is folded or, if kept, fused; Dropout is left out, if not kept; `convolve` computes convolutions, and
    those with one group for each channel are computed as depthwise ones.

    Args:
        model: functional.
        pairs: `foldable_pairs(model)`.
        keep: names of BatchNorm layers that train on batch statistics, and of Dropout layers that drop in training.
    """
    folded = {name: conv for name, conv in pairs.items() if name not in keep}
    convolutions = {conv.name for conv in folded.values()}

    def call(layer: keras.layers.Layer, *arguments, **options):
        if layer.name in convolutions:
            return arguments[0]  # the input, for `Folded` in place of the BatchNorm
        if layer.name in folded:
            return Folded(folded[layer.name], layer)(*arguments)
        if is_dropout(layer):
            return layer(*arguments) if layer.name in keep else arguments[0]
        if layer.name in keep:
            return Fused(layer)(*arguments)
        if is_depthwise(layer):
            return Depthwise(layer)(*arguments)
        if is_convolution(layer):
            return Convolution(layer)(*arguments)
        return layer(*arguments, **options)

    return keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)
