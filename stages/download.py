"""download: the archive, verified, into data/raw."""

import numpy as np

from thaw import archives, fetch, files, paths, stage
from thaw.datasets import DATASETS
from thaw.params import Params


def download(params: Params) -> None:
    dataset = params.dataset
    row = DATASETS[dataset.name]
    with files.replacing_folder(paths.RAW) as folder:
        if row.archive is None:
            from sklearn.datasets import load_digits  # a second

            digits = load_digits()
            files.save_array(folder / "images.npy", digits.images.astype(np.uint8))
            files.save_array(folder / "labels.npy", digits.target.astype(np.uint8))
            return
        archive = fetch.fetch(dataset.url, dataset.sha256, paths.downloads())
        archives.unpack(archive, row.archive, folder)
    print(f"download: {archive} verified and unpacked")


if __name__ == "__main__":
    stage.run("download", download)
