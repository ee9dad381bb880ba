"""The backbones, one file each, found by name in `BACKBONES`. A new one is a file here and a YAML in conf/backbone.

Each file defines `BACKBONE`. It imports Keras only to build one, since every stage reads this table to check its
parameters. This file decides no number: a stage depends on the file of its backbone, and on resnets.py, which several
share.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from thaw.runtime.modules import ModuleTable

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """An architecture: how it is built and cut into blocks, and the images that it expects.

    Attributes:
        build: (image_size, alpha, weights) -> keras.Model without its classifier, with an input of
            (image_size, image_size, 3); weights is "imagenet" or None for random values.
        blocks: name and number of `model.layers` of each block, bottom to top; the input layer
            counts in the first. A single tensor crosses from one block to the next.
        mean, std: normalisation of pixels of 0 to 255, in the order of `channels`.
        channels: rgb, or bgr if the weights were trained on that order.
        min_image_size: smallest accepted image side, in pixels.
        imagenet: whether ImageNet weights exist.
        alphas: width multipliers with ImageNet weights; empty for an architecture without a multiplier.
    """

    build: Callable
    blocks: tuple[tuple[str, int], ...]
    mean: Triple
    std: Triple
    channels: str
    min_image_size: int
    imagenet: bool
    alphas: tuple[float, ...]

    @property
    def layer_count(self) -> int:
        return sum(count for _, count in self.blocks)


BACKBONES: Mapping[str, Backbone] = ModuleTable(__name__, __path__, "BACKBONE", leave_out=("resnets",))
