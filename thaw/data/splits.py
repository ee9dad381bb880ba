"""The splits: drawn once, stratified and seeded, stored as memory-mappable tensors, read by class."""

import json
from pathlib import Path

import numpy as np

from thaw import paths
from thaw.datasets import LabelledImages
from thaw.errors import ThawError
from thaw.runtime.files import SealedFolder, damaged, replacing_folder, save_array, seal_folder, write_json

JSON = "split.json"


def draw_splits(labels: np.ndarray, val_fraction: float, limit: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows for training and for validation, each sorted.

    Validation is taken first, so that it is the same whatever `limit` is; `limit` counts the
    training pictures that remain.
    """
    rows = np.arange(len(labels))
    val = stratified(labels, round(len(labels) * val_fraction), np.random.default_rng([seed, 0]))
    train = np.setdiff1d(rows, val)
    if limit is not None:
        train = train[stratified(labels[train], limit, np.random.default_rng([seed, 1]))]
    return train, val


def stratified(labels: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` sorted rows in which each class has the share that it has in `labels`, to within one row."""
    values, sizes = np.unique(labels, return_counts=True)
    exact = sizes * (count / len(labels))
    quota = np.floor(exact).astype(int)
    # The largest remainders get the rows that rounding down left over.
    quota[np.argsort(quota - exact, kind="stable")[: count - quota.sum()]] += 1
    picks = [
        generator.permutation(np.flatnonzero(labels == value))[:take] for value, take in zip(values, quota, strict=True)
    ]
    return np.sort(np.concatenate(picks))


def write_split(folder: Path, pictures: LabelledImages) -> None:
    """Store one split: images.npy, labels.npy, coarse_labels.npy where there are superclasses, and their hashes."""
    with replacing_folder(folder) as beside:
        save_array(beside / "images.npy", np.ascontiguousarray(pictures.images))
        save_array(beside / "labels.npy", pictures.labels)
        if pictures.coarse is not None:
            save_array(beside / "coarse_labels.npy", pictures.coarse)
        seal_folder(beside / JSON, {})


def write_class_names(names: dict[str, list[str]]) -> None:
    write_json(paths.PROCESSED / "classes.json", names)


def class_names(wanted: list[str | int] | None = None) -> list[str]:
    """The names of the wanted classes, given by name or number, in the order in which a model numbers them."""
    names = _names()["classes"]
    return names if wanted is None else [names[entry] if isinstance(entry, int) else entry for entry in wanted]


def superclasses_of(classes: list[str]) -> list[str] | None:
    """The name of each class's superclass; None where the dataset has none."""
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
    """The pictures of a split that show the given classes.

    Args:
        split: train, val or test.
        classes: names; a picture of the first has label 0, and so on.

    Returns:
        Images, uint8 (n, 32, 32, 3), memory-mapped where all classes are asked for, and labels, int32 (n,).

    Raises:
        ThawError: a file is missing or damaged, or there is no such class.
    """
    folder = paths.PROCESSED / split
    sealed = SealedFolder(folder / JSON)
    images = _load(sealed.file("images.npy"), np.uint8, 4)
    labels = _load(sealed.file("labels.npy"), np.uint8, 1)
    if len(images) != len(labels):
        raise ThawError(f"{folder}: {len(images)} pictures and {len(labels)} labels; run `dvc repro -f preprocess`")
    names = class_names()
    if others := [name for name in classes if name not in names]:
        raise ThawError(f"{paths.PROCESSED}: has no class {others[0]}; has {len(names)} others, such as {names[0]}")
    if classes == names:
        return images, np.asarray(labels, np.int32)
    number = np.full(len(names), -1, np.int32)
    for new, name in enumerate(classes):
        number[names.index(name)] = new
    rows = split_rows(split, classes)
    return images[rows], number[labels[rows]]


def split_rows(split: str, classes: list[str]) -> np.ndarray:
    """Where in a split the images lie that `read_split` gives for these classes; raises as that does."""
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
