"""What keras_hub's ResNets share (He et al., 2016): stem, widths, strides and preprocessing. Start at `resnet`."""

from thaw.backbones import Backbone


def resnet(*, preset: str, block_type: str, depths: tuple[int, ...], layers: tuple[int, ...]) -> Backbone:
    """A ResNet: a stem and 4 stages of residual blocks.

    Args:
        preset: keras_hub's name for the ImageNet weights.
        block_type: basic_block or bottleneck_block.
        depths: residual blocks of each stage.
        layers: number of `model.layers` of the stem and of each stage.
    """

    def build(image_size: int, alpha: None, weights: str | None):
        import keras_hub  # imported here: half a second and 230 MB, which other backbones do not need

        shape = (image_size, image_size, 3)
        if weights == "imagenet":
            return keras_hub.models.ResNetBackbone.from_preset(preset, image_shape=shape)
        # The configuration of the presets.
        return keras_hub.models.ResNetBackbone(
            input_conv_filters=[64],
            input_conv_kernel_sizes=[7],
            stackwise_num_filters=[64, 128, 256, 512],
            stackwise_num_blocks=list(depths),
            stackwise_num_strides=[1, 2, 2, 2],
            block_type=block_type,
            image_shape=shape,
        )

    return Backbone(
        build=build,
        blocks=tuple(zip(("conv1", "conv2", "conv3", "conv4", "conv5"), layers, strict=True)),
        # torchvision's and timm's ImageNet statistics, which the presets' weights were trained with.
        channels="rgb",
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        min_image_size=32,
        imagenet=True,
        alphas=(),
    )
