"""Where a phase cuts a backbone; without Keras, so that it can be checked before a backend is loaded."""

from thaw.backbones import BACKBONES
from thaw.config.schema import Phase


def frozen_layers(phase: Phase, backbone: str) -> int:
    """How many of `model.layers`, the input layer included, lie below the phase's cut."""
    if phase.layers is not None:
        return phase.layers
    if phase.depth == "all" or phase.depth is None:  # None has been refused where `layers` is not given
        return 0
    blocks = BACKBONES[backbone].blocks
    return sum(count for _, count in blocks[: len(blocks) - phase.depth])
