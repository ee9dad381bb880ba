"""ResNet50, version 1.5: stride on the 3x3 convolution of a block, where version 1 has it on the first 1x1.

From keras_hub, whose ImageNet weights are timm's resnet50.a1_in1k: Wightman et al., "ResNet strikes back" (2021).
"""

from thaw.backbones.resnets import resnet

BACKBONE = resnet(
    preset="resnet_50_imagenet", block_type="bottleneck_block", depths=(3, 4, 6, 3), layers=(7, 32, 43, 63, 33)
)
