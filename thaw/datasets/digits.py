"""Handwritten digits from scikit-learn: 1,797 images of 8x8 pixels, enlarged to 32x32."""

from pathlib import Path

import numpy as np

from thaw.datasets import Dataset, Embedded, LabelledImages
from thaw.errors import ThawError
from thaw.runtime.files import save_array


def copy(folder: Path) -> None:
    """Write scikit-learn's images and labels into a folder."""
    from sklearn.datasets import load_digits  # imported here, since it takes a second

    digits = load_digits()
    save_array(folder / "images.npy", digits.images.astype(np.uint8))
    save_array(folder / "labels.npy", digits.target.astype(np.uint8))


def read(folder: Path) -> tuple[LabelledImages, LabelledImages]:
    """The training and the test images, enlarged four times and scaled from 0-16 to 0-255.

    Every fifth image of a class is a test image: scikit-learn has no official split.

    Raises:
        ThawError: a file is missing or damaged.
    """
    try:
        images = np.load(folder / "images.npy", allow_pickle=False)
        labels = np.load(folder / "labels.npy", allow_pickle=False)
    except Exception:  # a damaged header makes numpy raise various exceptions
        raise ThawError(f"{folder}: no readable digits; delete data/raw and run again") from None
    large = (images * (255 / 16)).round().astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    large = np.repeat(large[..., None], 3, axis=-1)
    test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        test[np.flatnonzero(labels == label)[::5]] = True
    return LabelledImages(large[~test], labels[~test]), LabelledImages(large[test], labels[test])


DATASET = Dataset(classes=tuple("0123456789"), train_count=1_433, test_count=364, source=Embedded(copy=copy, read=read))
