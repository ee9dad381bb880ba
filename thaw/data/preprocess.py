"""The stage preprocess: writes the splits as arrays into data/processed. Start at `preprocess`."""

from thaw import paths
from thaw.config.schema import Params
from thaw.data.splits import draw_splits, write_class_names, write_split
from thaw.datasets import DATASETS, Embedded
from thaw.datasets.archives import read_archive, read_class_names


def preprocess(params: Params) -> None:
    """Draw the validation split, keep `dataset.limit` training images, and write all three splits."""
    dataset = DATASETS[params.dataset.name]
    source = dataset.source
    official, test = (
        source.read(paths.RAW) if isinstance(source, Embedded) else read_archive(paths.RAW, source, dataset.classes)
    )
    section = params.dataset
    rows = draw_splits(official.labels, section.val_fraction, section.limit, section.seed)
    train, val = map(official.at, rows)
    for name, split in (("train", train), ("val", val), ("test", test)):
        write_split(paths.PROCESSED / name, split)
        print(f"preprocess: {name}, {len(split.labels):,} images", flush=True)
    write_class_names(read_class_names(paths.RAW, dataset))
