"""The backbones, one file each, found by name. Adding one is a file here and a YAML in conf/backbone.

Each module defines `BACKBONE`. None imports Keras before a backbone is built, since every stage reads this table
to check its parameters. No number stands here: a stage depends on the file of its backbone alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from thaw.runtime.modules import ModuleTable

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """What thaw must know of an architecture.

    Attributes:
        build: (image_size, alpha, weights) -> keras.Model without its classifier, of input
            (image_size, image_size, 3); weights is "imagenet" or None for random values.
        blocks: name and number of `model.layers` of each block, bottom to top, the input layer
            counted in the first. A single tensor crosses from one block to the next.
        mean, std: what images of 0 to 255 are normalised with, in the order of `channels`.
        channels: rgb, or bgr where the weights were trained so.
        min_image_size: the least side in pixels that the architecture takes.
        imagenet: whether there are ImageNet weights.
        alphas: the widths that ImageNet weights are there for; empty where there is no such parameter.
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


BACKBONES: Mapping[str, Backbone] = ModuleTable(__name__, __path__, "BACKBONE")
