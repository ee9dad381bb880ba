"""Arrays of a dataset that a library contains: `save_arrays` writes them, `read_arrays` reads them as two splits."""

from pathlib import Path

import numpy as np

from thaw.datasets import LabelledImages
from thaw.errors import ThawError
from thaw.runtime.files import save_array


def save_arrays(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write images, uint8 (n, side, side) or (n, side, side, 3), and labels, whole numbers (n,), into a folder."""
    save_array(folder / "images.npy", images)
    save_array(folder / "labels.npy", labels.astype(np.uint8))


def read_arrays(folder: Path, every: int) -> tuple[LabelledImages, LabelledImages]:
    """The training and the test images: every so many-th image of a class, from its first, is a test image.

    Raises:
        ThawError: a file is missing or damaged.
    """
    try:
        images = np.load(folder / "images.npy", allow_pickle=False)
        labels = np.load(folder / "labels.npy", allow_pickle=False)
    except Exception:  # a damaged header makes numpy raise various exceptions
        raise ThawError(f"{folder}: no readable digits; delete data/raw and run again") from None
    test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        test[np.flatnonzero(labels == label)[::every]] = True
    return LabelledImages(images[~test], labels[~test]), LabelledImages(images[test], labels[test])
