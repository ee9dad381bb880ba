"""Folding: a convolution, the BatchNorm after it and the padding before it as one operation.

Start at `fold`. BatchNorm is folded in where it is in inference mode: its mean, variance, scale and shift become
factors of the kernel and a bias, so that one operation reads the activations instead of two (Jacob et al.,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018, section 3.2).
The layers and their weights stay as they are: the product is part of the graph, so gradients reach a trainable
kernel, scale or shift.
"""

import math
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
        pad: the ZeroPadding2D before it, if any: one of `same_paddings`.
    """

    def __init__(
        self,
        conv: keras.layers.Layer,
        norm: keras.layers.BatchNormalization,
        pad: keras.layers.ZeroPadding2D | None = None,
    ) -> None:
        super().__init__(name=f"{norm.name}_folded")
        self.conv, self.norm, self.pad = conv, norm, pad

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
        kernel = ops.cast(conv.kernel, scale.dtype)
        if isinstance(conv, keras.layers.DepthwiseConv2D):
            # The kernel is (height, width, channels, outputs per channel): outputs of one channel are adjacent.
            scale = ops.reshape(scale, (*kernel.shape[2:],))
        y = _product(conv, x, ops.cast(kernel * scale, x.dtype), self.pad)
        return ops.add(y, ops.cast(bias, y.dtype))

    def compute_output_shape(self, input_shape):
        return self.norm.compute_output_shape(_output_shape(self.conv, input_shape, self.pad))


def _product(conv: keras.layers.Layer, x, kernel, pad: keras.layers.ZeroPadding2D | None):
    """A Conv2D or a DepthwiseConv2D of some kernel, without bias and activation, and the padding before it."""
    options = {"strides": conv.strides, "padding": "same" if pad else conv.padding, "dilation_rate": conv.dilation_rate}
    if isinstance(conv, keras.layers.DepthwiseConv2D):
        return keras.ops.depthwise_conv(x, kernel, data_format="channels_last", **options)
    return convolve(x, kernel, **options)


def _output_shape(conv: keras.layers.Layer, input_shape, pad: keras.layers.ZeroPadding2D | None):
    return conv.compute_output_shape(pad.compute_output_shape(input_shape) if pad else input_shape)


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
    """A convolution that `convolve` computes, or the padding before it and a convolution as one operation.

    Args:
        conv: Conv2D that `is_convolution`, or a DepthwiseConv2D.
        pad: the ZeroPadding2D before it, if any: one of `same_paddings`.
    """

    def __init__(self, conv: keras.layers.Layer, pad: keras.layers.ZeroPadding2D | None = None) -> None:
        super().__init__(name=f"{conv.name}_{type(self).__name__.lower()}")
        self.conv, self.pad = conv, pad

    def call(self, x):
        ops, conv = keras.ops, self.conv
        y = self.product(x)
        return conv.activation(ops.add(y, ops.cast(conv.bias, y.dtype)) if conv.use_bias else y)

    def product(self, x):
        """What comes before the bias and the activation."""
        return _product(self.conv, x, keras.ops.cast(self.conv.kernel, x.dtype), self.pad)

    def compute_output_shape(self, input_shape):
        return _output_shape(self.conv, input_shape, self.pad)


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
    return {
        norm.name: conv
        for conv, norm in _adjacent(model)
        if isinstance(norm, keras.layers.BatchNormalization)
        and isinstance(conv, _CONVOLUTIONS)
        and _is_plain(conv)
        and norm.axis in (-1, 3)
    }


def same_paddings(model: keras.Model) -> dict[str, keras.layers.ZeroPadding2D]:
    """Paddings of a functional model after which a convolution pads no more, and which padding="same" would make in it.

    Such are those of MobileNetV2 before convolutions of stride 2; symmetric ones, as of ResNets on even sides, are not.

    Args:
        model: each of its layers is called once.

    Returns:
        The ZeroPadding2D layers, by the name of the convolution.
    """
    return {conv.name: pad for pad, conv in _adjacent(model) if _pads_as_same(pad, conv)}


def _adjacent(model: keras.Model) -> list[tuple[keras.layers.Layer, keras.layers.Layer]]:
    """Pairs of layers of which the second one takes the output of the first, and nothing else does."""
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    maker = {id(layer.output): layer for layer in layers}
    uses = Counter(id(tensor) for layer in layers for tensor in keras.tree.flatten(layer.input))
    uses.update(id(tensor) for tensor in model.outputs)
    pairs = []
    for layer in layers:
        inputs = keras.tree.flatten(layer.input)
        if len(inputs) == 1 and uses[id(inputs[0])] == 1 and id(inputs[0]) in maker:
            pairs.append((maker[id(inputs[0])], layer))
    return pairs


def _pads_as_same(pad: keras.layers.Layer, conv: keras.layers.Layer) -> bool:
    known = is_convolution(conv) or isinstance(conv, keras.layers.DepthwiseConv2D)
    if not (isinstance(pad, keras.layers.ZeroPadding2D) and known):
        return False
    sides = pad.input.shape[1:3]
    if {pad.data_format, conv.data_format} != {"channels_last"} or conv.padding != "valid" or None in sides:
        return False
    for side, kernel, stride, rate, padded in zip(
        sides, conv.kernel_size, conv.strides, conv.dilation_rate, pad.padding, strict=True
    ):
        # As TensorFlow and JAX define it: outputs at each stride, and what the last one reads beyond the map.
        total = max((math.ceil(side / stride) - 1) * stride + (kernel - 1) * rate + 1 - side, 0)
        if tuple(padded) != (total // 2, total - total // 2):
            return False
    return True


def is_dropout(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.Dropout)


def _is_plain(conv: keras.layers.Layer) -> bool:
    return conv.activation is keras.activations.linear and conv.data_format == "channels_last"


def fold(model: keras.Model, pairs: dict[str, keras.layers.Layer], keep: Sequence[str] = ()) -> keras.Model:
    """The same model over the same weights, computed faster.

    BatchNorm is folded or, if kept, fused; Dropout is left out, if not kept; `convolve` computes convolutions, those
    with one group for each channel are computed as depthwise ones, and padding is left to them (`same_paddings`): over
    the largest maps of MobileNetV2 it takes longer than the convolution.

    Args:
        model: functional.
        pairs: `foldable_pairs(model)`.
        keep: names of BatchNorm layers that train on batch statistics, and of Dropout layers that drop in training.
    """
    folded = {name: conv for name, conv in pairs.items() if name not in keep}
    pads = same_paddings(model)
    # What these do is done by what follows: a padding by the convolution, a convolution by `Folded` after it.
    left = {conv.name for conv in folded.values()} | {pad.name for pad in pads.values()}

    def call(layer: keras.layers.Layer, *arguments, **options):
        if layer.name in left:
            return arguments[0]
        if layer.name in folded:
            conv = folded[layer.name]
            return Folded(conv, layer, pads.get(conv.name))(*arguments)
        if is_dropout(layer):
            return layer(*arguments) if layer.name in keep else arguments[0]
        if layer.name in keep:
            return Fused(layer)(*arguments)
        if layer.name in pads or is_convolution(layer):
            return Convolution(layer, pads.get(layer.name))(*arguments)
        if is_depthwise(layer):
            return Depthwise(layer)(*arguments)
        return layer(*arguments, **options)

    return keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)
