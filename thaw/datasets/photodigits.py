"""scikit-learn's 1,797 handwritten digits over patches of its two photographs, 32x32, in colour.

Made as MNIST-M is of MNIST: Ganin and Lempitsky, Unsupervised Domain Adaptation by Backpropagation, ICML 2015.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from thaw.datasets import Dataset, Embedded, LabelledImages
from thaw.datasets.embedded import read_arrays, save_arrays

_SIDE = 32


def copy(folder: Path) -> None:
    """Write images and labels into a folder; a pixel is the difference of the enlarged digit and of a photograph."""
    from sklearn.datasets import load_digits, load_sample_images  # imported here, since it takes a second

    digits, photographs = load_digits(), load_sample_images().images
    generator = np.random.default_rng(0)
    images = np.empty((len(digits.images), _SIDE, _SIDE, 3), np.uint8)
    for number, digit in enumerate((digits.images * (255 / 16)).round().astype(np.uint8)):
        photograph = photographs[number % len(photographs)]
        top, left = (generator.integers(0, size - _SIDE) for size in photograph.shape[:2])
        patch = photograph[top : top + _SIDE, left : left + _SIDE].astype(int)
        large = Image.fromarray(digit).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
        images[number] = np.abs(patch - np.asarray(large, int)[..., None])
    save_arrays(folder, images, digits.target)


def read(folder: Path) -> tuple[LabelledImages, LabelledImages]:
    """The training and the test images.

    Every third image of a class is a test image, so that they tell apart what the demo compares.

    Raises:
        ThawError: a file is missing or damaged.
    """
    return read_arrays(folder, every=3)


DATASET = Dataset(classes=tuple("0123456789"), train_count=1_195, test_count=602, source=Embedded(copy=copy, read=read))
