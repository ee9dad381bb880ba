"""The mode of a layer, training or inference, fixed against the model around it."""

import keras


class InMode(keras.layers.Layer):
    """A layer that runs in one mode whatever the model around it does.

    A plain `layer(x, training=False)` in a functional model does not do that: `fit` overrides it, so
    that thawed BatchNorm would use batch statistics in training.
    """

    def __init__(self, layer: keras.Layer, training: bool) -> None:
        # The layer inside casts its inputs itself, where it computes in another type.
        super().__init__(name=f"{layer.name}_{'training' if training else 'inference'}", autocast=False)
        self.layer, self.mode = layer, training

    # No `training` argument, so that Keras has nothing to override.
    def call(self, x):
        return self.layer(x, training=self.mode)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)
