"""EfficientNetV2-B0: fused and plain inverted residuals with squeeze and excitation (Tan and Le, 2021)."""

from thaw.backbones import Backbone


def _build(image_size: int, alpha: None, weights: str | None):
    import keras

    return keras.applications.EfficientNetV2B0(
        include_top=False,
        weights=weights,
        input_shape=(image_size, image_size, 3),
        include_preprocessing=False,  # `mean` and `std` are that
    )


BACKBONE = Backbone(
    build=_build,
    # The stages of Tan and Le (2021), table 4: the stem with the first, the last with the convolution above it.
    blocks=(("stem", 7), ("block2", 12), ("block3", 12), ("block4", 43), ("block5", 73), ("block6", 121)),
    # ImageNet statistics, as in the layers that `include_preprocessing` would add.
    channels="rgb",
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    min_image_size=32,
    imagenet=True,
    alphas=(),
)
