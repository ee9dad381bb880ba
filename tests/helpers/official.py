"""CIFAR archives in the official layout at full size, of images that compress to next to nothing."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from thaw.datasets import DATASETS, Archive, LabelledImages

# coarse_label_names.txt of the official CIFAR-100 archive.
SUPERCLASSES = [
    "aquatic_mammals",
    "fish",
    "flowers",
    "food_containers",
    "fruit_and_vegetables",
    "household_electrical_devices",
    "household_furniture",
    "insects",
    "large_carnivores",
    "large_man-made_outdoor_things",
    "large_natural_outdoor_scenes",
    "large_omnivores_and_herbivores",
    "medium_mammals",
    "non-insect_invertebrates",
    "people",
    "reptiles",
    "small_mammals",
    "trees",
    "vehicles_1",
    "vehicles_2",
]


def build(path: Path, dataset: str) -> None:
    """Write the archive of a dataset, with the folder and the page that the official ones carry too."""
    layout = DATASETS[dataset].source
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        folder = tarfile.TarInfo(layout.folder)
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        add(tar, f"{layout.folder}/readme.html", b"<html></html>")
        for names, text in zip(layout.names, _names(dataset), strict=True):
            add(tar, f"{layout.folder}/{names}", text)
        for name in (*layout.train, *layout.test):
            add(tar, f"{layout.folder}/{name}", to_records(file_images(dataset, name)))


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _names(dataset: str) -> Iterator[bytes]:
    if dataset == "cifar100":
        yield "\n".join([*SUPERCLASSES, ""]).encode()
    # The official file of CIFAR-10 ends in an empty line.
    yield "\n".join([*DATASETS[dataset].classes, "", ""]).encode()


def file_images(dataset: str, name: str) -> LabelledImages:
    """What the file `name` of the archive holds; no two images of a dataset are the same."""
    row = DATASETS[dataset]
    count = records_in(row.source, name)
    rows = np.arange(count)
    labels = (rows % len(row.classes)).astype(np.uint8)
    label, y, x, channel = np.ogrid[: len(row.classes), :32, :32, :3]
    # Every axis shows, so that none can be taken for another, and the class shows well enough to be learnt.
    images = (label * (100 // len(row.classes)) + 64 * channel + 2 * y + x // 16).astype(np.uint8)[labels]
    file = (*row.source.train, *row.source.test).index(name)
    images[:, 0, 0] = np.stack([rows >> 8, rows & 255, np.full(count, file)], axis=1)
    return LabelledImages(images, labels, labels // 5 if row.source.label_bytes == 2 else None)


def records_in(layout: Archive, name: str) -> int:
    return layout.records_per_test_file if name in layout.test else layout.records_per_train_file


def to_records(content: LabelledImages) -> bytes:
    """The label bytes, the superclass first, then all of red, all of green, all of blue, row by row."""
    columns = [] if content.coarse is None else [content.coarse[:, None]]
    columns.append(content.labels[:, None])
    columns += [content.images[..., channel].reshape(len(content.labels), 1024) for channel in range(3)]
    return np.concatenate(columns, axis=1).tobytes()
