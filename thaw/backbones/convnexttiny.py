"""ConvNeXt-Tiny: 7x7 depthwise convolutions with LayerNorm, no BatchNorm (Liu et al., 2022)."""

from thaw.backbones import Backbone


def _build(image_size: int, alpha: None, weights: str | None):
    import keras

    model = keras.applications.ConvNeXtTiny(
        include_top=False,
        weights=weights,
        input_shape=(image_size, image_size, 3),
        include_preprocessing=False,  # `mean` and `std` are that
    )
    # Keras gives it no name but its counter's, by which no checkpoint could find its weights.
    model.layers[-1].name = f"{model.name}_layernorm"
    return model


BACKBONE = Backbone(
    build=_build,
    # A stage ends with the downsampling above it: its output has half as many values to store.
    blocks=(("stem", 2), ("stage0", 22), ("stage1", 22), ("stage2", 64), ("stage3", 22)),
    # ImageNet statistics, as in the layer that `include_preprocessing` would add.
    channels="rgb",
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    min_image_size=32,
    imagenet=True,
    alphas=(),
)
