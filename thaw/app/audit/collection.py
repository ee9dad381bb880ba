"""The images of all splits with their features, which extract has stored, or which are computed here: the test split's.

Start at `collect`.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from thaw import paths
from thaw.config.schema import Params
from thaw.data.splits import read_split, split_rows
from thaw.data.stored import FEATURES_JSON, features_origin, read_activations, read_features_info, refuse_other_origin
from thaw.errors import ThawError
from thaw.network.checkpoint import block_hashes, load_checkpoint
from thaw.runtime.progress import Progress


@dataclass(frozen=True)
class Split:
    """The audited images of a split.

    Attributes:
        name: train, val or test.
        rows: of the images in their split, integers (n,).
        images: uint8 (n, side, side, 3).
        labels: integers (n,).
        features: of the frozen backbone at the head's cut, (n, d).
    """

    name: str
    rows: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    features: np.ndarray


@dataclass(frozen=True)
class Collection:
    """The images of all splits, numbered through.

    Attributes:
        classes: names, in the order of the labels.
        splits: train, val and test.
    """

    classes: list[str]
    splits: list[Split]

    @cached_property
    def labels(self) -> np.ndarray:
        """Labels of all images, (n,)."""
        return np.concatenate([split.labels for split in self.splits])

    @property
    def side(self) -> int:
        """Side of all images in pixels."""
        return self.splits[0].images.shape[1]

    @property
    def learnt(self) -> int:
        """Number of training and validation images; the test images are numbered from it on."""
        return len(self.labels) - len(self.splits[-1].labels)

    def place(self, number: int) -> tuple[Split, int]:
        """The split of an image, and its number among the split's images."""
        split = self.splits[0]
        for split in self.splits:
            if number < len(split.labels):
                break
            number -= len(split.labels)
        return split, number

    def image(self, number: int) -> np.ndarray:
        """An image, uint8 (side, side, 3)."""
        split, place = self.place(number)
        return split.images[place]

    def described(self, number: int) -> dict[str, Any]:
        """Columns of a table for an image: split, row, label and class."""
        split, place = self.place(number)
        label = int(split.labels[place])
        return {"split": split.name, "row": int(split.rows[place]), "label": label, "class": self.classes[label]}


def extracted(params: Params) -> dict[str, Any]:
    """The features.json of the stored features, checked; imports no Keras, so that a backend is loaded after it.

    Raises:
        ThawError: nothing is extracted yet, from something else than what is there now, or not at the head's cut.
    """
    if not (paths.FEATURES / FEATURES_JSON).is_file():
        raise ThawError(f"{paths.FEATURES}: nothing extracted yet; run `dvc repro extract` first")
    info = read_features_info(paths.FEATURES)
    refuse_other_origin(paths.FEATURES, features_origin(block_hashes(paths.BACKBONE), params.augment))
    if 0 not in info["cuts"]:
        raise ThawError(f"{paths.FEATURES}: none at depth 0; raise extract.budget_gb and run `dvc repro extract` first")
    return info


def collect(info: dict[str, Any], batch_size: int) -> Collection:
    """Read images, labels and stored features, and compute the features of the test images; prints progress.

    Args:
        info: from `extracted`.
        batch_size: test images per step.
    """
    classes, splits = info["classes"], []
    for name in ("train", "val", "test"):
        images, labels = read_split(name, classes)
        if name == "test":
            features = backbone_features(images, info["pool"], info["dtype"], batch_size)
        else:
            features = read_activations(paths.FEATURES, 0, 0 if name == "train" else name).inputs
        splits.append(Split(name, split_rows(name, classes), images, labels, features))
    return Collection(classes, splits)


def backbone_features(images: np.ndarray, pool: str, dtype: str, batch_size: int) -> np.ndarray:
    """Features of test images, as extract would store them, (n, d).

    Args:
        images: uint8 (n, side, side, 3).
        pool: avg or flatten.
        dtype: float16 or float32.
        batch_size: images per step.
    """
    # These import Keras.
    from thaw.extraction.store import storing
    from thaw.network.inference import predict_chunks

    network, _ = load_checkpoint(paths.BACKBONE, with_head=False)
    model = storing(network.features([0], pool, None), dtype)
    with Progress("audit: features of the test split", len(images), "images") as progress:
        chunks = predict_chunks(model, images, batch_size, reach=progress.reach)
        return np.concatenate([features for _, (features,) in chunks])
