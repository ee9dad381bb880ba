"""The backbones: one row each. Adding one is a row here and a YAML in conf/backbone.

Nothing here imports Keras before a backbone is built, since every stage reads this table to check
its parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Backbone:
    """What thaw must know of an architecture.

    Attributes:
        build: (image_size, alpha, weights) -> keras.Model without its classifier, of input
            (image_size, image_size, 3); weights is "imagenet" or None for random values.
        blocks: name and number of `model.layers` of each block, bottom to top, the input layer
            counted in the first. A single tensor crosses from one block to the next.
        mean, std: what pictures of 0 to 255 are normalised with, in the order of `channels`.
        channels: rgb, or bgr where the weights were trained so.
        min_image_size: the least side in pixels that the architecture takes.
        imagenet: whether there are ImageNet weights.
        alphas: the widths that ImageNet weights are there for; empty where there is no such parameter.
    """

    build: Callable
    blocks: tuple[tuple[str, int], ...]
    mean: Triple
    std: Triple
    channels: str = "rgb"
    min_image_size: int = 32
    imagenet: bool = True
    alphas: tuple[float, ...] = ()

    @property
    def layer_count(self) -> int:
        return sum(count for _, count in self.blocks)


def _application(name: str) -> Callable:
    def build(image_size: int, alpha: float | None, weights: str | None):
        import keras

        options = {} if alpha is None else {"alpha": alpha}
        constructor = getattr(keras.applications, name)
        return constructor(include_top=False, weights=weights, input_shape=(image_size, image_size, 3), **options)

    return build


def _resnet18(image_size: int, alpha: None, weights: str | None):
    import keras_hub  # half a second and 230 MB that the others need not pay

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


def _cnn(image_size: int, alpha: None, weights: None):
    import keras
    from keras import layers

    x = inputs = keras.Input((image_size, image_size, 3))
    for block, filters in enumerate((32, 64, 128, 256), start=1):
        for conv in (1, 2):
            name = f"block{block}_conv{conv}"
            # BatchNorm follows, so that a bias would do nothing.
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal", name=name)(x)
            x = layers.BatchNormalization(name=f"{name}_bn")(x)
            x = layers.ReLU(name=f"{name}_relu")(x)
        x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
    return keras.Model(inputs, x, name="cnn")


# keras.applications' "caffe" preprocessing: BGR, ImageNet means, no scaling.
_CAFFE = {"channels": "bgr", "mean": (103.939, 116.779, 123.68), "std": (1.0, 1.0, 1.0)}
# keras.applications' "tf" preprocessing: -1 to 1.
_SIGNED = {"mean": (127.5, 127.5, 127.5), "std": (127.5, 127.5, 127.5)}

BACKBONES = {
    "vgg16": Backbone(
        build=_application("VGG16"),
        blocks=(("block1", 4), ("block2", 3), ("block3", 4), ("block4", 4), ("block5", 4)),
        **_CAFFE,
    ),
    "resnet50": Backbone(
        build=_application("ResNet50"),
        blocks=(("conv1", 7), ("conv2", 32), ("conv3", 42), ("conv4", 62), ("conv5", 32)),
        **_CAFFE,
    ),
    "resnet18": Backbone(
        build=_resnet18,
        blocks=(("conv1", 7), ("conv2", 14), ("conv3", 17), ("conv4", 17), ("conv5", 17)),
        # torchvision's and timm's ImageNet statistics, which the preset's weights were trained with.
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
    ),
    "mobilenetv2": Backbone(
        build=_application("MobileNetV2"),
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
        alphas=(0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
        **_SIGNED,
    ),
    "cnn": Backbone(
        build=_cnn,
        blocks=(("block1", 8), ("block2", 7), ("block3", 7), ("block4", 7)),
        min_image_size=16,
        imagenet=False,
        **_SIGNED,
    ),
}
