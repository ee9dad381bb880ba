"""Adam's moments of a phase, in a folder of their own, from which the next phase carries on. Start at `updates_of`."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import keras
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from thaw.network.build import Network
from thaw.network.checkpoint import HEAD_FILE, named_weights
from thaw.runtime.files import SealedFolder, damaged, replacing_folder, seal_folder
from thaw.training.adam import Moments, Update

MOMENTS_JSON = "moments.json"

TENSORS = "moments.safetensors"


def updates_of(network: Network, lr_decay: float, moments: Mapping[str, Moments]) -> list[Update]:
    """How each variable of a network is updated.

    Args:
        network: with a head.
        lr_decay: factor of the learning rate for each block below the top one; the head learns at the full rate.
        moments: that variables start with, by name.
    """
    return [
        Update(variable=variable, factor=lr_decay**below, moments=moments.get(name))
        for name, variable, below in _variables(network)
    ]


def moments_of(network: Network, optimizer: keras.optimizers.Optimizer) -> dict[str, Moments]:
    """The moments that an optimizer has of the trainable variables of a network, by name."""
    return {name: optimizer.moments(variable) for name, variable, _ in _variables(network) if variable.trainable}


def _variables(network: Network) -> Iterator[tuple[str, keras.Variable, int]]:
    """Each variable of head and blocks, its name, and how many blocks its own is below the top one."""
    parts = [(HEAD_FILE, network.head, 0)]
    parts += [(block.name, block, below) for below, block in enumerate(reversed(network.blocks))]
    for name, part, below in parts:
        for weight, variable in named_weights(part.layers):
            yield f"{name}/{weight}", variable, below


def save_moments(folder: Path, moments: Mapping[str, Moments]) -> None:
    """Write moments in place of `folder`, whole or not at all."""
    tensors = {f"first/{name}": each.first for name, each in moments.items()}
    tensors |= {f"second/{name}": each.second for name, each in moments.items()}
    with replacing_folder(folder) as beside:
        (beside / TENSORS).write_bytes(safetensors.save(tensors))
        seal_folder(beside / MOMENTS_JSON, {"steps": {name: each.steps for name, each in moments.items()}})


def load_moments(folder: Path) -> dict[str, Moments]:
    """What `save_moments` wrote.

    Raises:
        ThawError: a file is missing or damaged.
    """
    sealed = SealedFolder(folder / MOMENTS_JSON)
    file = sealed.file(TENSORS)
    try:
        tensors, steps = safetensors.load_file(file), sealed.content["steps"]
        return {
            name: Moments(first=tensors[f"first/{name}"], second=tensors[f"second/{name}"], steps=steps[name])
            for name in steps
        }
    except (OSError, SafetensorError, KeyError):
        raise damaged(file) from None
