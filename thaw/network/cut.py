"""Where a phase cuts a backbone; without Keras, so that it can be checked before a backend is loaded."""

from thaw.backbones import BACKBONES
from thaw.config.schema import Phase


def frozen_layers(phase: Phase, backbone: str) -> int:
    """How many of `model.layers`, the input layer included, lie below the phase's cut."""
    if phase.layers is not None:
        return phase.layers
    blocks = BACKBONES[backbone].blocks
    depth = len(blocks) if phase.depth == "all" else phase.depth
    return sum(count for _, count in blocks[: len(blocks) - depth])
