"""Handwritten digits from scikit-learn: 1,797 images of 8x8 pixels, enlarged to 32x32."""

from pathlib import Path

import numpy as np

from thaw.datasets import Dataset, Embedded, LabelledImages
from thaw.datasets.embedded import read_arrays, save_arrays


def copy(folder: Path) -> None:
    """Write scikit-learn's images and labels into a folder."""
    from sklearn.datasets import load_digits  # imported here, since it takes a second

    digits = load_digits()
    save_arrays(folder, digits.images.astype(np.uint8), digits.target)


def read(folder: Path) -> tuple[LabelledImages, LabelledImages]:
    """The training and the test images, enlarged four times and scaled from 0-16 to 0-255.

    Every fifth image of a class is a test image: scikit-learn has no official split.

    Raises:
        ThawError: a file is missing or damaged.
    """
    train, test = read_arrays(folder, every=5)
    return train._replace(images=_enlarged(train.images)), test._replace(images=_enlarged(test.images))


def _enlarged(images: np.ndarray) -> np.ndarray:
    large = (images * (255 / 16)).round().astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    return np.repeat(large[..., None], 3, axis=-1)


DATASET = Dataset(classes=tuple("0123456789"), train_count=1_433, test_count=364, source=Embedded(copy=copy, read=read))
