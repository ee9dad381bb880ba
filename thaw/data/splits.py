"""Splits: drawn (stratified, seeded), written as .npy files, and read by class.

Start at `draw_splits` for writing and at `read_split` for reading.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from thaw import paths
from thaw.config.schema import Dataset
from thaw.datasets import DATASETS, LabelledImages
from thaw.datasets import Dataset as DatasetRow
from thaw.errors import ParamError, ThawError
from thaw.runtime.files import SealedFolder, damaged, new_array, replacing_folder, save_array, seal_folder, write_json

JSON = "split.json"

# Types of labels; the second for more than 256 classes.
_LABELS = (np.uint8, np.uint16)

# Bytes of images that are copied at once.
CHUNK_BYTES = 2**26


def draw_splits(
    labels: np.ndarray, val_fraction: float, limit: int | None, seed: int, per_class: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the training and of the validation split, each sorted.

    Validation is drawn first, so that it is the same for every `limit` and `per_class`.

    Args:
        labels: of all images of the official training set.
        val_fraction: share of these images for validation.
        limit: number of training images to keep; None for all.
        seed: of the draw.
        per_class: number of training images to keep of each class; None for all.

    Raises:
        ParamError: a class has fewer training images than `per_class`.
    """
    rows = np.arange(len(labels))
    val = stratified(labels, round(len(labels) * val_fraction), generator_of("val", seed))
    train = np.setdiff1d(rows, val)
    return train[rows_to_keep(labels[train], limit, per_class, seed)], val


def generator_of(purpose: str, seed: int) -> np.random.Generator:
    """The generator of `dataset.seed` for val, kept (by limit or per_class), or test."""
    return np.random.default_rng([seed, ("val", "kept", "test").index(purpose)])


def rows_to_keep(labels: np.ndarray, limit: int | None, per_class: int | None, seed: int) -> np.ndarray:
    """Sorted rows of the training images that `dataset.limit` or `dataset.per_class` keeps; all without either."""
    generator = generator_of("kept", seed)
    values, sizes = np.unique(labels, return_counts=True)
    if limit is not None:
        if limit > len(labels):
            raise ParamError("dataset.limit", limit, f"{len(values)} to {len(labels)}, the training images there are")
        return stratified(labels, limit, generator)
    if per_class is None:
        return np.arange(len(labels))
    if per_class > sizes.min():
        raise ParamError("dataset.per_class", per_class, f"1 to {sizes.min()}, the images of the smallest class")
    return _first_of_each(labels, np.full(len(values), per_class), generator)


def stratified(labels: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` sorted rows; each class has the same share as in `labels`, to within one row."""
    return _first_of_each(labels, _shares(labels, count), generator)


def _shares(labels: np.ndarray, count: int) -> np.ndarray:
    """How many of `count` rows each class gets, in the order of the labels."""
    _, sizes = np.unique(labels, return_counts=True)
    exact = sizes * (count / len(labels))
    quota = np.floor(exact).astype(int)
    # Rounding down leaves some rows over: the classes with the largest remainders get one each.
    quota[np.argsort(quota - exact, kind="stable")[: count - quota.sum()]] += 1
    return quota


def _first_of_each(labels: np.ndarray, quota: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Sorted rows: the first of each class, in a random order of the class."""
    rows = [
        generator.permutation(np.flatnonzero(labels == value))[:size]
        for value, size in zip(np.unique(labels), quota, strict=True)
    ]
    return np.sort(np.concatenate(rows))


def whole_groups(labels: np.ndarray, groups: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """Sorted rows of whole groups: about a share of each class, but one group of it at least.

    A group is taken if it brings the numbers of its classes closer to their shares. Where each row is a group of its
    own, and no share is below one row, these are the rows of `stratified`.

    Args:
        labels: integers (n,).
        groups: number of the group of each row, integers (n,).
        fraction: share of the rows to take.
        generator: of the order in which groups are tried.
    """
    values = np.unique(labels)
    left = dict(
        zip(values.tolist(), np.maximum(_shares(labels, round(len(labels) * fraction)), 1).tolist(), strict=True)
    )
    taken = np.zeros(len(labels), bool)
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], np.arange(groups.max() + 2))
    for value in values.tolist():
        own = generator.permutation(np.flatnonzero(labels == value))
        for row in own:
            if left[value] <= 0:
                break
            if taken[row]:
                continue
            members = order[starts[groups[row]] : starts[groups[row] + 1]]
            counts = {label: int((labels[members] == label).sum()) for label in set(labels[members].tolist())}
            if sum(abs(left[label] - count) - abs(left[label]) for label, count in counts.items()) < 0:
                taken[members] = True
                left |= {label: left[label] - count for label, count in counts.items()}
        if not taken[labels == value].any():  # all of its groups are large
            sizes = starts[groups[own] + 1] - starts[groups[own]]
            smallest = groups[own[np.argmin(sizes)]]
            taken[order[starts[smallest] : starts[smallest + 1]]] = True
    return np.flatnonzero(taken)


def write_split(folder: Path, split: LabelledImages, rows: np.ndarray) -> None:
    """Write some rows as a split: images.npy, labels.npy, coarse_labels.npy where there are superclasses, and hashes.

    Images are copied chunk by chunk: `split` may be memory-mapped, and larger than the memory.
    """
    with replacing_folder(folder) as beside:
        _copy_images(beside / "images.npy", split.images, rows)
        save_array(beside / "labels.npy", split.labels[rows])
        if split.coarse is not None:
            save_array(beside / "coarse_labels.npy", split.coarse[rows])
        seal_folder(beside / JSON, {})


def _copy_images(file: Path, images: np.ndarray, rows: np.ndarray) -> None:
    with new_array(file, (len(rows), *images.shape[1:])) as copy:
        step = max(1, CHUNK_BYTES // math.prod(images.shape[1:]))
        for start in range(0, len(rows), step):
            copy[start : start + step] = images[rows[start : start + step]]


def image_side() -> int:
    """Side of the images in data/processed, in pixels.

    Raises:
        ThawError: they are missing or damaged.
    """
    return _load(paths.PROCESSED / "train" / "images.npy", (np.uint8,), 4).shape[1]


def write_class_names(names: dict[str, list[str]]) -> None:
    write_json(paths.PROCESSED / "classes.json", names)


def processed_dataset(section: Dataset) -> DatasetRow:
    """The dataset of the parameters; of a folder, what the stage preprocess has made of it.

    Raises:
        ThawError: a file of that is missing or damaged.
    """
    row = DATASETS[section.name]
    if not row.is_folder:
        return row
    classes, labels = class_names(), _labels("train")
    return replace(
        row,
        classes=tuple(classes),
        train_count=len(labels),
        val_count=len(_labels("val")),
        test_count=0,  # not counted: evaluate alone reads that split
        sizes=tuple(np.bincount(labels, minlength=len(classes)).tolist()),
    )


def class_names(wanted: list[str | int] | None = None) -> list[str]:
    """Names of classes that are given by name or number, in the given order; all classes by default."""
    names = _names()["classes"]
    return names if wanted is None else [names[entry] if isinstance(entry, int) else entry for entry in wanted]


def superclasses_of(classes: list[str]) -> list[str] | None:
    """The superclass of each class; None for a dataset without superclasses."""
    names = _names()
    if "superclasses" not in names:
        return None
    sealed = SealedFolder(paths.PROCESSED / "test" / JSON)
    labels, coarse = (_load(sealed.file(name), _LABELS, 1) for name in ("labels.npy", "coarse_labels.npy"))
    return [names["superclasses"][coarse[labels == names["classes"].index(name)][0]] for name in classes]


def _names() -> dict[str, list[str]]:
    file = paths.PROCESSED / "classes.json"
    try:
        names = json.loads(file.read_text(encoding="utf-8"))
        names["classes"]
    except (OSError, ValueError, KeyError, TypeError):
        raise damaged(file) from None
    return names


def read_split(split: str, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The images of a split that show the given classes, and their labels.

    Args:
        split: train, val or test.
        classes: names; an image of the first has label 0, and so on.

    Returns:
        Images, uint8 (n, side, side, 3), memory-mapped if `classes` are all classes, and labels, int32 (n,).

    Raises:
        ThawError: a file is missing or damaged, or a class does not exist.
    """
    folder = paths.PROCESSED / split
    sealed = SealedFolder(folder / JSON)
    images = _load(sealed.file("images.npy"), (np.uint8,), 4)
    labels = _load(sealed.file("labels.npy"), _LABELS, 1)
    if len(images) != len(labels):
        raise ThawError(f"{folder}: {len(images)} images and {len(labels)} labels; run `dvc repro -f preprocess`")
    names = class_names()
    if unknown := [name for name in classes if name not in names]:
        raise ThawError(f"{paths.PROCESSED}: has no class {unknown[0]}; has {len(names)} others, such as {names[0]}")
    if classes == names:
        return images, np.asarray(labels, np.int32)
    numbers = np.full(len(names), -1, np.int32)
    for number, name in enumerate(classes):
        numbers[names.index(name)] = number
    rows = split_rows(split, classes)
    if not len(rows):
        raise ThawError(f"{folder}: has no image of {', '.join(classes[:10])}; choose other classes, or add images")
    return images[rows], numbers[labels[rows]]


def split_rows(split: str, classes: list[str]) -> np.ndarray:
    """Rows of the images in their split that `read_split` returns for these classes; raises the same errors."""
    names = class_names()
    labels = _labels(split)
    return np.flatnonzero(np.isin(labels, [names.index(name) for name in classes]))


def _labels(split: str) -> np.ndarray:
    return _load(SealedFolder(paths.PROCESSED / split / JSON).file("labels.npy"), _LABELS, 1)


def _load(file: Path, dtypes: tuple[type, ...], dimensions: int) -> np.ndarray:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception:  # numpy fails in many ways on a damaged header, tokenize.TokenError among them
        raise damaged(file) from None
    if array.dtype not in dtypes or array.ndim != dimensions:
        expected = " or ".join(str(np.dtype(dtype)) for dtype in dtypes)
        raise ThawError(f"{file}: is {array.dtype} {array.shape}; expected {expected} in {dimensions} dimensions")
    return array
