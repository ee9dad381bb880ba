"""Splits: drawn (stratified, seeded), written as .npy files, and read by class.

Start at `draw_splits` for writing and at `read_split` for reading.
"""

import json
from pathlib import Path

import numpy as np

from thaw import paths
from thaw.datasets import LabelledImages
from thaw.errors import ThawError
from thaw.runtime.files import SealedFolder, damaged, replacing_folder, save_array, seal_folder, write_json

JSON = "split.json"


def draw_splits(labels: np.ndarray, val_fraction: float, limit: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the training and of the validation split, each sorted.

    Validation is drawn first, so that it is the same for every `limit`.

    Args:
        labels: of all images of the official training set.
        val_fraction: share of these images for validation.
        limit: number of training images to keep; None for all.
        seed: of the draw.
    """
    rows = np.arange(len(labels))
    val = stratified(labels, round(len(labels) * val_fraction), np.random.default_rng([seed, 0]))
    train = np.setdiff1d(rows, val)
    if limit is not None:
        train = train[stratified(labels[train], limit, np.random.default_rng([seed, 1]))]
    return train, val


def stratified(labels: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` sorted rows; each class has the same share as in `labels`, to within one row."""
    values, sizes = np.unique(labels, return_counts=True)
    exact = sizes * (count / len(labels))
    quota = np.floor(exact).astype(int)
    # Rounding down leaves some rows over: the classes with the largest remainders get one each.
    quota[np.argsort(quota - exact, kind="stable")[: count - quota.sum()]] += 1
    rows = [
        generator.permutation(np.flatnonzero(labels == value))[:size] for value, size in zip(values, quota, strict=True)
    ]
    return np.sort(np.concatenate(rows))


def write_split(folder: Path, split: LabelledImages) -> None:
    """Write a split: images.npy, labels.npy, coarse_labels.npy if there are superclasses, and their hashes."""
    with replacing_folder(folder) as beside:
        save_array(beside / "images.npy", np.ascontiguousarray(split.images))
        save_array(beside / "labels.npy", split.labels)
        if split.coarse is not None:
            save_array(beside / "coarse_labels.npy", split.coarse)
        seal_folder(beside / JSON, {})


def image_side() -> int:
    """Side of the images in data/processed, in pixels.

    Raises:
        ThawError: they are missing or damaged.
    """
    return _load(paths.PROCESSED / "train" / "images.npy", np.uint8, 4).shape[1]


def write_class_names(names: dict[str, list[str]]) -> None:
    write_json(paths.PROCESSED / "classes.json", names)


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
    labels, coarse = (_load(sealed.file(name), np.uint8, 1) for name in ("labels.npy", "coarse_labels.npy"))
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
    images = _load(sealed.file("images.npy"), np.uint8, 4)
    labels = _load(sealed.file("labels.npy"), np.uint8, 1)
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
    return images[rows], numbers[labels[rows]]


def split_rows(split: str, classes: list[str]) -> np.ndarray:
    """Rows of the images in their split that `read_split` returns for these classes; raises the same errors."""
    names = class_names()
    labels = _load(SealedFolder(paths.PROCESSED / split / JSON).file("labels.npy"), np.uint8, 1)
    return np.flatnonzero(np.isin(labels, [names.index(name) for name in classes]))


def _load(file: Path, dtype: type, dimensions: int) -> np.ndarray:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception:  # numpy fails in many ways on a damaged header, tokenize.TokenError among them
        raise damaged(file) from None
    if array.dtype != dtype or array.ndim != dimensions:
        raise ThawError(
            f"{file}: is {array.dtype} {array.shape}; expected {np.dtype(dtype)} in {dimensions} dimensions"
        )
    return array
