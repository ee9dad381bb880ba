"""Stored features as training and evaluation read them. Start at `phase_data`."""

from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from thaw import paths
from thaw.config.schema import Augment
from thaw.data.examples import Examples, TrainingData
from thaw.data.splits import read_split
from thaw.errors import ThawError
from thaw.runtime.files import SealedFolder, damaged, digest

FEATURES_JSON = "features.json"

_KEYS = ("cuts", "pool", "dtype", "classes", "origin")


def cut_name(depth: int) -> str:
    return f"depth{depth}"


def read_features_info(folder: Path) -> dict[str, Any]:
    """The features.json of a folder: cuts, which has the views of each depth, pool, dtype, classes and origin.

    Raises:
        ThawError: it is missing or damaged.
    """
    sealed = SealedFolder(folder / FEATURES_JSON)
    try:
        info = {name: sealed.content[name] for name in _KEYS}
        return info | {"cuts": {int(depth): views for depth, views in info["cuts"].items()}}
    except (KeyError, AttributeError):  # written by another version of thaw
        raise damaged(sealed.path) from None


def features_origin(blocks: dict[str, str], augment: Augment) -> dict[str, Any]:
    """Origin of features: hashes of backbone and splits, and the settings of augmentation.

    Args:
        blocks: sha256 of each block of the frozen backbone.
        augment: settings of the views.
    """
    return {"backbone": blocks, **_splits_origin(), "augmentation": augment.model_dump(exclude={"name"})}


def _splits_origin() -> dict[str, Any]:
    return {"dataset": {path.as_posix(): digest(path) for path in paths.SPLITS_LEARNT}}


def refuse_other_origin(folder: Path, wanted: dict[str, Any]) -> None:
    """Refuse features of another origin, such as those of files that were moved by hand.

    Args:
        folder: of the features.
        wanted: from `features_origin`, for the frozen blocks alone.

    Raises:
        ThawError: names the parts that differ.
    """
    origin = read_features_info(folder)["origin"]
    for name, parts in wanted.items():
        stored = origin.get(name, {})
        differing = [part for part, value in parts.items() if stored.get(part) != value]
        if differing:
            raise ThawError(
                f"{folder}: made from another {name} ({', '.join(differing)}); run `dvc repro` to make it again"
            )


def phase_data(folder: Path, depth: int, classes: list[str]) -> TrainingData:
    """The training data of a phase: activations stored at its cut, or images where none are stored.

    Args:
        folder: of the features.
        depth: of the cut.
        classes: names, for images; stored activations are of the classes that extract was given.
    """
    views = read_features_info(folder)["cuts"].get(depth)
    return _images(classes) if views is None else _activations(folder, depth, views)


def unaugmented_data(folder: Path, blocks: dict[str, str], classes: list[str]) -> TrainingData:
    """What a phase learnt from, unaugmented, for a network that is trained.

    These are activations at the shallowest stored cut below which no block has changed since they were made; images
    where there is none.

    Args:
        folder: of the features.
        blocks: sha256 of each block of the network, bottom to top.
        classes: names, for images.

    Raises:
        ThawError: a file is missing, damaged, or made from other splits.
    """
    info = read_features_info(folder)
    frozen = list(takewhile(lambda block: block in info["origin"]["backbone"].items(), blocks.items()))
    depth = min((depth for depth in info["cuts"] if depth >= len(blocks) - len(frozen)), default=None)
    if depth is None:
        return _images(classes)
    refuse_other_origin(folder, _splits_origin())
    return _activations(folder, depth, [0])


def _images(classes: list[str]) -> TrainingData:
    train, val = (Examples(*read_split(split, classes)) for split in ("train", "val"))
    return TrainingData(None, [train], val)


def _activations(folder: Path, depth: int, views: list[int]) -> TrainingData:
    examples = [read_activations(folder, depth, view) for view in views]
    return TrainingData(depth, examples, read_activations(folder, depth, "val"))


def read_activations(folder: Path, depth: int, view: int | str) -> Examples:
    """Stored activations at a cut, memory-mapped, and their labels.

    Args:
        folder: of the features.
        depth: the cut.
        view: number of a view of the training set, or "val".

    Raises:
        ThawError: a file is missing or damaged.
    """
    name, split = (f"view{view}", "train") if isinstance(view, int) else (view, view)
    sealed = SealedFolder(folder / FEATURES_JSON)
    inputs, labels = sealed.file(f"{cut_name(depth)}-{name}.npy"), sealed.file(f"{split}_labels.npy")
    return Examples(np.load(inputs, mmap_mode="r", allow_pickle=False), np.load(labels, allow_pickle=False))
