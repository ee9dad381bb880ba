"""The stage preprocess: writes the splits as arrays into data/processed. Start at `preprocess`."""

import numpy as np

from thaw import paths
from thaw.config.schema import Params
from thaw.data.folder import store_folder, write_files
from thaw.data.splits import draw_splits, write_class_names, write_split
from thaw.datasets import DATASETS, Embedded, Folder
from thaw.datasets.archives import read_archive, read_class_names


def preprocess(params: Params) -> None:
    """Draw the splits that are not given, keep `dataset.limit` training images, and write all three splits."""
    section, dataset = params.dataset, DATASETS[params.dataset.name]
    source = dataset.source
    if isinstance(source, Folder):
        store_folder(section, source)
        return
    assert dataset.classes is not None
    official, test = (
        source.read(paths.RAW) if isinstance(source, Embedded) else read_archive(paths.RAW, source, dataset.classes)
    )
    train, val = draw_splits(official.labels, section.val_fraction, section.limit, section.seed, section.per_class)
    splits = {"train": (official, train), "val": (official, val), "test": (test, np.arange(len(test.labels)))}
    for name, (split, rows) in splits.items():
        write_split(paths.PROCESSED / name, split, rows)
        print(f"preprocess: {name}, {len(rows):,} images", flush=True)
    write_class_names(read_class_names(paths.RAW, dataset))
    write_files([])
