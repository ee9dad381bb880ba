"""preprocess: the splits as tensors in data/processed, and a picture of samples."""

from thaw import archives, paths, pictures, splits, stage
from thaw.archives import Pictures
from thaw.datasets import DATASETS
from thaw.params import Params


def preprocess(params: Params) -> None:
    dataset = params.dataset
    if DATASETS[dataset.name].archive is None:
        official, test = archives.read_digits(paths.RAW)
    else:
        official, test = archives.read_archive(paths.RAW, dataset.name)
    rows = splits.draw(official.labels, dataset.val_fraction, dataset.limit, dataset.seed)
    train, val = (Pictures(*(None if part is None else part[chosen] for part in official)) for chosen in rows)
    for name, split in (("train", train), ("val", val), ("test", test)):
        splits.write(paths.PROCESSED / name, split)
        print(f"preprocess: {name}, {len(split.labels):,} pictures", flush=True)
    splits.write_names(archives.read_names(paths.RAW, dataset.name))

    names = splits.class_names()
    shown = pictures.samples(train.labels, len(names))
    pictures.grid(paths.PLOTS / "samples.png", [train.images[shown]], ["train"], names[: len(shown)])


if __name__ == "__main__":
    stage.run("preprocess", preprocess)
