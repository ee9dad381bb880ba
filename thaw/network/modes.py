"""`InferenceMode` keeps a layer in inference mode, independently of the model that contains it."""

import keras


class InferenceMode(keras.layers.Layer):
    """A layer that runs in inference mode, whatever the mode of the model that contains it.

    A plain `layer(x, training=False)` in a functional model is not enough: `fit` overrides the argument, and
    trainable BatchNorm would use batch statistics.
    """

    def __init__(self, layer: keras.Layer) -> None:
        # No autocast: the wrapped layer casts its inputs to its own type.
        super().__init__(name=f"{layer.name}_inference", autocast=False)
        self.layer = layer

    # Without an argument `training`, which Keras would override.
    def call(self, x):
        return self.layer(x, training=False)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)
