"""The number of frozen layers of a phase; without Keras, so that it is checked before a backend is imported."""

from thaw.backbones import BACKBONES
from thaw.config.schema import Phase


def frozen_layers(phase: Phase, backbone: str) -> int:
    """The number of `model.layers` below the phase's cut, the input layer included."""
    if phase.layers is not None:
        return phase.layers
    if phase.depth == "all" or phase.depth is None:  # both None: refused by the checks of parameters
        return 0
    blocks = BACKBONES[backbone].blocks
    return sum(count for _, count in blocks[: len(blocks) - phase.depth])
