"""The datasets, one file each, found by name in `DATASETS`. A new one is a file here and a YAML in conf/dataset.

Each file defines `DATASET`. This file decides no number: a stage depends on the file of its dataset alone.
archives.py, fetch.py and download.py fetch, unpack and read official archives, embedded.py what a library contains.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thaw.config.schema import Dataset as Section
from thaw.runtime.modules import ModuleTable


class LabelledImages(NamedTuple):
    """Images, uint8 (n, side, side, 3), and labels, uint8 or uint16 (n,); no superclasses have no coarse labels."""

    images: np.ndarray
    labels: np.ndarray
    coarse: np.ndarray | None = None


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


@dataclass(frozen=True, slots=True)
class Listed:
    """An image file, and what its place or a CSV tells of it.

    Attributes:
        file: path from the folder, with /.
        label: name of its class, in Unicode's form NFC; None where it has none.
        split: train, val or test; None where the splits are to be drawn.
        group: of files that stay in one split; None where the file may lie in any.
        why: it is left out; empty where it is not.
    """

    file: str
    label: str | None
    split: str | None = None
    group: str | None = None
    why: str = ""


@dataclass(frozen=True)
class Listing:
    """The image files of a folder, before any is read.

    Attributes:
        root: the folder.
        files: sorted by name, and then by path.
        hidden: number of hidden files; they are none of these.
        empty: class folders without files.
        links: links to folders, which are not followed.
        unlisted: number of files that a CSV does not list.
    """

    root: Path
    files: list[Listed]
    hidden: int = 0
    empty: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    unlisted: int = 0


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder of image files, which is known when it has been looked at.

    Attributes:
        scan: lists its files, from `dataset.path`.
        check: refuses classes, from that path, the files that are taken, and the links to folders.
        describe: the dataset that it is, from the section `dataset` of the parameters.
    """

    scan: Callable[[Path], Listing]
    check: Callable[[Path, Sequence[Listed], Sequence[str]], None]
    describe: Callable[[Section], "Dataset"]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset: its classes, its size, and its layout; what is not known is None.

    Attributes:
        classes: names, in the order of their numbers.
        train_count, test_count: number of training and test images, before validation is drawn.
        val_count: number of validation images; None where they are drawn from the training images.
        sizes: number of training images of each class; None where it is the same for all.
        image_size: side of its images, in pixels; None where they have any size.
        source: layout of its archive, functions to copy and read a library's dataset, or to look at a folder.
    """

    classes: tuple[str, ...] | None
    train_count: int | None
    test_count: int | None
    val_count: int | None = None
    sizes: tuple[int, ...] | None = None
    image_size: int | None = 32
    source: Archive | Embedded | Folder

    @property
    def is_downloaded(self) -> bool:
        return isinstance(self.source, Archive)

    @property
    def is_folder(self) -> bool:
        return isinstance(self.source, Folder)

    def counts(self, val_fraction: float) -> tuple[int, int, int]:
        """Number of training, validation and test images, where they are known."""
        assert self.train_count is not None and self.test_count is not None
        if self.val_count is not None:
            return self.train_count, self.val_count, self.test_count
        val = round(self.train_count * val_fraction)
        return self.train_count - val, val, self.test_count

    def share(self, wanted: Sequence[str | int] | None) -> Fraction:
        """Share of the training images that show some classes, given by name or number; None for all."""
        assert self.classes is not None
        if wanted is None:
            return Fraction(1)
        if self.sizes is None:
            return Fraction(len(wanted), len(self.classes))
        numbers = [self.classes.index(one) if isinstance(one, str) else one for one in wanted]
        return Fraction(sum(self.sizes[number] for number in numbers), sum(self.sizes))


def described(section: Section) -> Dataset:
    """The dataset of the parameters; that of a folder as it looks now.

    Raises:
        ThawError: there is no such folder, or its classes or splits are ambiguous.
    """
    row = DATASETS[section.name]
    return row.source.describe(section) if isinstance(row.source, Folder) else row


DATASETS: Mapping[str, Dataset] = ModuleTable(
    __name__, __path__, "DATASET", leave_out=("archives", "download", "embedded", "fetch")
)
