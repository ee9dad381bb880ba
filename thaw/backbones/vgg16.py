"""VGG16: 5 blocks of 3x3 convolutions, no BatchNorm (Simonyan and Zisserman, 2015)."""

from thaw.backbones import Backbone


def _build(image_size: int, alpha: None, weights: str | None):
    import keras

    return keras.applications.VGG16(include_top=False, weights=weights, input_shape=(image_size, image_size, 3))


BACKBONE = Backbone(
    build=_build,
    blocks=(("block1", 4), ("block2", 3), ("block3", 4), ("block4", 4), ("block5", 4)),
    # keras.applications' "caffe" preprocessing: BGR, ImageNet means, no scaling.
    channels="bgr",
    mean=(103.939, 116.779, 123.68),
    std=(1.0, 1.0, 1.0),
    min_image_size=32,
    imagenet=True,
    alphas=(),
)
