"""ResNet18, from keras_hub: keras.applications has none (He et al., 2016)."""

from thaw.backbones.resnets import resnet

BACKBONE = resnet(
    preset="resnet_18_imagenet", block_type="basic_block", depths=(2, 2, 2, 2), layers=(7, 14, 17, 17, 17)
)
