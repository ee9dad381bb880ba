"""ResNet50, version 1: stride on the first 1x1 convolution of a block (He et al., 2016)."""

from thaw.backbones import Backbone


def _build(image_size: int, alpha: None, weights: str | None):
    import keras

    return keras.applications.ResNet50(include_top=False, weights=weights, input_shape=(image_size, image_size, 3))


BACKBONE = Backbone(
    build=_build,
    blocks=(("conv1", 7), ("conv2", 32), ("conv3", 42), ("conv4", 62), ("conv5", 32)),
    # keras.applications' "caffe" preprocessing: BGR, ImageNet means, no scaling.
    channels="bgr",
    mean=(103.939, 116.779, 123.68),
    std=(1.0, 1.0, 1.0),
    min_image_size=32,
    imagenet=True,
    alphas=(),
)
