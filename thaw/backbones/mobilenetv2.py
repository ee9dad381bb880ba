"""MobileNetV2: inverted residuals, of any width alpha (Sandler et al., 2018)."""

from thaw.backbones import Backbone


def _build(image_size: int, alpha: float, weights: str | None):
    import keras

    return keras.applications.MobileNetV2(
        include_top=False, weights=weights, input_shape=(image_size, image_size, 3), alpha=alpha
    )


BACKBONE = Backbone(
    build=_build,
    # The stem with the first bottleneck, then the groups of Sandler et al. (2018), table 2: of
    # 24, 32, 64, 96 and 160 channels at alpha 1, and of 320 with the last convolution.
    blocks=(
        ("stem", 9),
        ("group24", 18),
        ("group32", 27),
        ("group64", 36),
        ("group96", 26),
        ("group160", 27),
        ("group320", 11),
    ),
    # keras.applications' "tf" preprocessing: -1 to 1.
    channels="rgb",
    mean=(127.5, 127.5, 127.5),
    std=(127.5, 127.5, 127.5),
    min_image_size=32,
    imagenet=True,
    alphas=(0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
)
