"""A convolution and the BatchNorm after it as one operation, where BatchNorm is in inference mode.

BatchNorm's mean, variance, scale and shift are then factors of the kernel and a bias, so that nothing
passes over the activations twice (Jacob et al., "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference", 2018, section 3.2). The layers and their weights stay as
they are: the product is part of the graph, and a thawed kernel, scale or shift learns through it.
"""

from collections import Counter
from collections.abc import Sequence

import keras

# Base class of the depthwise one is another, of the separable and transposed ones too.
_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


class Folded(keras.layers.Layer):
    """What BatchNorm in inference mode makes of a convolution's output, computed as one convolution.

    Args:
        conv: Conv2D or DepthwiseConv2D, channels last, without an activation.
        norm: the BatchNormalization after it, over the channels.
    """

    def __init__(self, conv: keras.layers.Layer, norm: keras.layers.BatchNormalization) -> None:
        super().__init__(name=f"{norm.name}_folded")
        self.conv, self.norm = conv, norm

    def call(self, x):
        ops, conv, norm = keras.ops, self.conv, self.norm
        # In the type of the weights; under a mixed policy only the product is rounded.
        scale = ops.rsqrt(norm.moving_variance + norm.epsilon)
        if norm.scale:
            scale = scale * norm.gamma
        bias = -norm.moving_mean if not conv.use_bias else ops.cast(conv.bias, scale.dtype) - norm.moving_mean
        bias = bias * scale
        if norm.center:
            bias = bias + norm.beta
        options = {
            "strides": conv.strides,
            "padding": conv.padding,
            "data_format": conv.data_format,
            "dilation_rate": conv.dilation_rate,
        }
        kernel = ops.cast(conv.kernel, scale.dtype)
        if isinstance(conv, keras.layers.DepthwiseConv2D):
            # (height, width, channels, outputs of each): the outputs of one channel follow each other.
            kernel = ops.cast(kernel * ops.reshape(scale, (*kernel.shape[2:],)), x.dtype)
            y = ops.depthwise_conv(x, kernel, **options)
        else:
            y = ops.conv(x, ops.cast(kernel * scale, x.dtype), **options)
        return ops.add(y, ops.cast(bias, y.dtype))

    def compute_output_shape(self, input_shape):
        return self.norm.compute_output_shape(self.conv.compute_output_shape(input_shape))


class Fused(keras.layers.Layer):
    """BatchNorm as Keras computes it, by TensorFlow's one operation where it trains on batch statistics.

    Keras makes a dozen operations of it, forwards and backwards: on a CPU they take about twice as long. Elsewhere,
    and in inference, this is the layer itself.

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
        # It gives the variance of what the batch is a sample of; Keras keeps the batch's own.
        count = tf.cast(tf.size(x) / channels, "float32")
        for moving, batch in ((norm.moving_mean, mean), (norm.moving_variance, variance * (count - 1) / count)):
            moving.assign(moving * norm.momentum + batch * (1 - norm.momentum))
        return y

    def compute_output_shape(self, input_shape):
        return input_shape


def foldable_pairs(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """The convolutions that a BatchNorm of a functional model can be folded into, by the BatchNorm's name.

    Args:
        model: none of whose layers has been called a second time.
    """
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    maker = {id(layer.output): layer for layer in layers}
    uses = Counter(id(tensor) for layer in layers for tensor in keras.tree.flatten(layer.input))
    uses.update(id(tensor) for tensor in model.outputs)
    found = {}
    for norm in layers:
        if isinstance(norm, keras.layers.BatchNormalization) and uses[id(norm.input)] == 1:
            conv = maker.get(id(norm.input))
            if isinstance(conv, _CONVOLUTIONS) and _is_plain(conv) and norm.axis in (-1, 3):
                found[norm.name] = conv
    return found


def _is_plain(conv: keras.layers.Layer) -> bool:
    return conv.activation is keras.activations.linear and conv.data_format == "channels_last"


def fold(model: keras.Model, found: dict[str, keras.layers.Layer], keep: Sequence[str] = ()) -> keras.Model:
    """The same model over the same weights, with BatchNorm folded, or computed at once where it is kept.

    Args:
        model: functional.
        found: what `pairs` gives for it.
        keep: names of BatchNorm layers to leave as they are, since they train on batch statistics.
    """
    found = {name: conv for name, conv in found.items() if name not in keep}
    inside = {conv.name for conv in found.values()}

    def call(layer: keras.layers.Layer, *arguments, **options):
        if layer.name in inside:
            return arguments[0]  # goes on to the BatchNorm, whose turn comes with it
        if layer.name in found:
            return Folded(found[layer.name], layer)(*arguments)
        if layer.name in keep:
            return Fused(layer)(*arguments)
        return layer(*arguments, **options)

    return keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)
