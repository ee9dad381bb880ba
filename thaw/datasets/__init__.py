"""The datasets, one file each, found by name in `DATASETS`. A new one is a file here and a YAML in conf/dataset.

Each file defines `DATASET`. This file decides no number: a stage depends on the file of its dataset alone.
archives.py, fetch.py and download.py fetch, unpack and read official archives.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thaw.runtime.modules import ModuleTable


class LabelledImages(NamedTuple):
    """Images, uint8 (n, side, side, 3), and labels, uint8 (n,); coarse labels are None without superclasses."""

    images: np.ndarray
    labels: np.ndarray
    coarse: np.ndarray | None = None

    def at(self, rows: np.ndarray) -> "LabelledImages":
        """The images and labels of some rows."""
        coarse = None if self.coarse is None else self.coarse[rows]
        return LabelledImages(self.images[rows], self.labels[rows], coarse)


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Layout of an official binary archive: records of label bytes and 3,072 bytes R, G, B, row-major.

    Attributes:
        folder: folder of all files in the archive.
        train, test: names of the files of records.
        records_per_train_file, records_per_test_file: number of records of each file.
        label_bytes: label bytes of a record; the last is the class, one before it the superclass.
        names: names of the files of class names, one for each label byte.
    """

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    records_per_train_file: int
    records_per_test_file: int
    label_bytes: int
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A dataset that a library contains.

    Attributes:
        copy: writes the dataset into a folder.
        read: reads the training and the test images from such a folder.
    """

    copy: Callable[[Path], None]
    read: Callable[[Path], tuple[LabelledImages, LabelledImages]]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset: its classes, its size, and its layout.

    Attributes:
        classes: names, in the order of their numbers.
        train_count, test_count: number of official training and test images.
        image_size: side of its images, in pixels.
        source: layout of its archive, or functions to copy and read a library's dataset.
    """

    classes: tuple[str, ...]
    train_count: int
    test_count: int
    image_size: int = 32
    source: Archive | Embedded

    @property
    def is_downloaded(self) -> bool:
        return isinstance(self.source, Archive)


DATASETS: Mapping[str, Dataset] = ModuleTable(
    __name__, __path__, "DATASET", leave_out=("archives", "download", "fetch")
)
