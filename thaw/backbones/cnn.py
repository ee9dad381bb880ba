"""A small CNN without ImageNet weights: trained from random weights, or on a source task."""

from thaw.backbones import Backbone


def _build(image_size: int, alpha: None, weights: None):
    import keras
    from keras import layers

    x = inputs = keras.Input((image_size, image_size, 3))
    for block, filters in enumerate((32, 64, 128, 256), start=1):
        for conv in (1, 2):
            name = f"block{block}_conv{conv}"
            # Without a bias: BatchNorm follows and would cancel it.
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal", name=name)(x)
            x = layers.BatchNormalization(name=f"{name}_bn")(x)
            x = layers.ReLU(name=f"{name}_relu")(x)
        x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
    return keras.Model(inputs, x, name="cnn")


BACKBONE = Backbone(
    build=_build,
    blocks=(("block1", 8), ("block2", 7), ("block3", 7), ("block4", 7)),
    # Pixels from -1 to 1.
    channels="rgb",
    mean=(127.5, 127.5, 127.5),
    std=(127.5, 127.5, 127.5),
    min_image_size=16,
    imagenet=False,
    alphas=(),
)
