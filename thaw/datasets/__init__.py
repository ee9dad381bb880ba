"""The datasets, one file each, found by name. Adding one is a file here and a YAML in conf/dataset.

Each module defines `DATASET`. No number stands here: a stage depends on the file of its dataset alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thaw.runtime.modules import ModuleTable


class LabelledImages(NamedTuple):
    """Images, uint8 (n, 32, 32, 3), and what they show, uint8 (n,); coarse is None without superclasses."""

    images: np.ndarray
    labels: np.ndarray
    coarse: np.ndarray | None = None

    def at(self, rows: np.ndarray) -> "LabelledImages":
        """Those of some rows."""
        coarse = None if self.coarse is None else self.coarse[rows]
        return LabelledImages(self.images[rows], self.labels[rows], coarse)


@dataclass(frozen=True, kw_only=True)
class Archive:
    """The layout of an official binary archive: records of label bytes and 3,072 bytes R, G, B, row-major.

    Attributes:
        folder: of all files in the archive.
        train, test: files of records.
        records_per_train_file, records_per_test_file: in each of them.
        label_bytes: before each image; the last is the class to learn, one before it a superclass.
        names: files of class names, one for each label byte.
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
    """A dataset that comes with a library.

    Attributes:
        copy: writes it into a folder.
        read: the training and the test images of such a folder.
    """

    copy: Callable[[Path], None]
    read: Callable[[Path], tuple[LabelledImages, LabelledImages]]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What is known of a dataset before anything is read.

    Attributes:
        classes: names, in the order of their numbers.
        train_count, test_count: images.
        source: the layout of its archive, or how a library's own copy is read.
    """

    classes: tuple[str, ...]
    train_count: int
    test_count: int
    source: Archive | Embedded

    @property
    def is_downloaded(self) -> bool:
        return isinstance(self.source, Archive)


DATASETS: Mapping[str, Dataset] = ModuleTable(
    __name__, __path__, "DATASET", leave_out=("archives", "download", "fetch")
)
