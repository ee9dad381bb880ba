"""ResNet18, from keras_hub: keras.applications has none (He et al., 2016)."""

from thaw.backbones import Backbone


def _build(image_size: int, alpha: None, weights: str | None):
    import keras_hub  # imported here: half a second and 230 MB, which other backbones do not need

    shape = (image_size, image_size, 3)
    if weights == "imagenet":
        return keras_hub.models.ResNetBackbone.from_preset("resnet_18_imagenet", image_shape=shape)
    # The configuration of that preset.
    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[2, 2, 2, 2],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=shape,
    )


BACKBONE = Backbone(
    build=_build,
    blocks=(("conv1", 7), ("conv2", 14), ("conv3", 17), ("conv4", 17), ("conv5", 17)),
    # torchvision's and timm's ImageNet statistics, which the preset's weights were trained with.
    channels="rgb",
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    min_image_size=32,
    imagenet=True,
    alphas=(),
)
