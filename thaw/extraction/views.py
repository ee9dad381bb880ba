"""Samples of the training set as each view shows them, in data/views."""

from pathlib import Path

import numpy as np

from thaw.config.schema import Augment
from thaw.data.examples import Examples
from thaw.network.augmentation import Augmentation, view_draws
from thaw.runtime.files import replacing_folder, save_array, write_json


def save_views(folder: Path, train: Examples, classes: list[str], augment: Augment, most: int = 10) -> None:
    """Save the first training image of each class, of the first `most` classes, as it looks in each view.

    Args:
        folder: gets images.npy, uint8 (views, n, side, side, 3), and classes.json, the n names.
        train: images, uint8 (n, side, side, 3), and labels.
        classes: what the labels mean.
        augment: how views differ; the first one is unaugmented.
        most: n is no larger.
    """
    shown = classes[:most]
    rows = [np.flatnonzero(train.labels == label)[0] for label in range(len(shown))]
    augmentation, images = Augmentation(augment), train.inputs[rows]
    views = [augmentation(images, view_draws(augment, view, len(train))[rows]) for view in range(augment.views)]
    with replacing_folder(folder) as beside:
        save_array(beside / "images.npy", np.stack(views).round().astype(np.uint8))
        write_json(beside / "classes.json", shown)
