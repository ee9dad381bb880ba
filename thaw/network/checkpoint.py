"""Checkpoints: folders of one safetensors file per block, one for the head, and checkpoint.json.

A frozen block has the same bytes in every phase, so DVC's cache stores it once. Start at `load_checkpoint`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from thaw.errors import ThawError
from thaw.runtime.files import SealedFolder, damaged, replacing_folder, seal_folder

if TYPE_CHECKING:
    import keras

    from thaw.network.build import Network


CHECKPOINT_JSON = "checkpoint.json"

# Origin of weights that another checkpoint had.
FROM_CHECKPOINT = "checkpoint"

HEAD_FILE = "head"

# Side in pixels of the images of checkpoints that do not tell it: CIFAR's.
OLDER_INPUT_SIZE = 32


@dataclass
class CheckpointInfo:
    """The content of checkpoint.json beside the hashes of the files.

    Attributes:
        backbone: name, image_size, alpha, input_size.
        weights: origin of the backbone's weights, with the sha256 of a file or of another checkpoint.json, or the seed.
        head: pool, units, dropout; None for a backbone without a head.
        classes: names of the classes, in the order of the logits; empty without a head.
        history: one row per epoch of all phases up to this one (columns in thaw.network.history).
        thawed: the trainable blocks of each of these phases, in words.
        temperature: what predictions divide logits by; 1 without a head, and in files of versions that fitted none.
    """

    backbone: dict[str, Any]
    weights: dict[str, Any]
    head: dict[str, Any] | None = None
    classes: list[str] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    thawed: dict[str, str] = field(default_factory=dict)
    temperature: float = 1.0

    @property
    def input_size(self) -> int:
        """Side in pixels of the images that the network takes."""
        return self.backbone["input_size"]


def save_checkpoint(folder: Path, info: CheckpointInfo, network: "Network") -> None:
    """Write a checkpoint in place of `folder`, whole or not at all."""
    parts = {block.name: block for block in network.blocks}
    if network.head is not None:
        parts[HEAD_FILE] = network.head
    with replacing_folder(folder) as beside:
        for name, part in parts.items():
            # Without metadata: safetensors writes its keys in random order.
            (beside / f"{name}.safetensors").write_bytes(safetensors.save(_tensors(part)))
        seal_folder(beside / CHECKPOINT_JSON, vars(info))


def read_checkpoint_info(folder: Path) -> CheckpointInfo:
    """The checkpoint.json of a folder.

    Raises:
        ThawError: it is missing or damaged.
    """
    return _read(folder)[0]


def block_hashes(folder: Path) -> dict[str, str]:
    """The sha256 of the file of each block and of the head, by name."""
    return {name.removesuffix(".safetensors"): value for name, value in _read(folder)[1].hashes.items()}


def _read(folder: Path) -> tuple[CheckpointInfo, SealedFolder]:
    sealed = SealedFolder(folder / CHECKPOINT_JSON)
    try:
        info = CheckpointInfo(**sealed.content)
        info.backbone = {"input_size": OLDER_INPUT_SIZE} | info.backbone
        return info, sealed
    except TypeError:  # written by another version of thaw
        raise damaged(sealed.path) from None


def load_checkpoint(folder: Path, with_head: bool = True) -> tuple["Network", CheckpointInfo]:
    """Build the network of a checkpoint and load its weights.

    Raises:
        ThawError: a file is missing, damaged, or does not fit.
    """
    from thaw.network.build import build_network

    network = build_network(**read_checkpoint_info(folder).backbone)
    return network, load_weights(network, folder, with_head)


def load_weights(network: "Network", folder: Path, with_head: bool = True) -> CheckpointInfo:
    """Load the weights of a checkpoint into a network of the same backbone, and attach its head.

    Raises:
        ThawError: a file is missing, damaged, or does not fit.
    """
    info, sealed = _read(folder)
    for block in network.blocks:
        _assign(block, sealed.file(f"{block.name}.safetensors"))
    if with_head and info.head is not None:
        network.attach(**info.head, classes=len(info.classes))
        _assign(network.head, sealed.file(f"{HEAD_FILE}.safetensors"))
    return info


def refuse_damaged(folder: Path) -> None:
    """Compare all files of a checkpoint with their hashes.

    Raises:
        ThawError: one is missing or damaged.
    """
    sealed = _read(folder)[1]
    for name in sealed.hashes:
        sealed.file(name)


def named_weights(layers: Sequence["keras.Layer"]) -> Iterator[tuple[str, "keras.Variable"]]:
    """The weights of layers by `layer/variable`, names that are the same in every process.

    No layer has its name from Keras's counter. Some variables do, such as that of ConvNeXt's LayerScale: here they are
    named by their number in the layer.
    """
    for layer in layers:
        for number, weight in enumerate(layer.weights):
            counted = re.fullmatch(r"variable(_\d+)?", weight.name)
            yield f"{layer.name}/{number if counted else weight.name}", weight


def _tensors(part: "keras.Model") -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(weight.numpy()) for name, weight in named_weights(part.layers)}


def _assign(part: "keras.Model", file: Path) -> None:
    try:
        tensors = safetensors.load_file(file)
    except (OSError, SafetensorError):  # changed since its hash was checked
        raise damaged(file) from None
    for name, weight in named_weights(part.layers):
        value = tensors.pop(name, None)
        if value is None or value.shape != tuple(weight.shape):
            shape = "nothing" if value is None else value.shape
            raise ThawError(f"{file}: has {shape} for {name}; expected {tuple(weight.shape)}")
        weight.assign(value)
    if tensors:
        raise ThawError(f"{file}: has {next(iter(tensors))}, which the network does not have")
