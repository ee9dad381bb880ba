"""The stage download: fetches, verifies and unpacks an archive into data/raw. Start at `download`."""

from thaw import paths
from thaw.config.schema import Params
from thaw.datasets import DATASETS, Embedded, Folder
from thaw.datasets.archives import unpack_archive
from thaw.datasets.fetch import fetch
from thaw.runtime.files import replacing_folder


def download(params: Params) -> None:
    """Fetch and unpack the archive of the dataset, or copy a dataset that a library contains; of a folder nothing."""
    source = DATASETS[params.dataset.name].source
    with replacing_folder(paths.RAW) as folder:
        if isinstance(source, Embedded):
            source.copy(folder)
            return
        if isinstance(source, Folder):
            (folder / "folder.txt").write_text("Images of a folder are read where they are.\n", encoding="utf-8")
            return
        section = params.dataset
        assert section.url and section.sha256  # checked when the parameters were read
        archive = fetch(section.url, section.sha256, paths.downloads())
        unpack_archive(archive, source, folder)
    print(f"download: {archive} verified and unpacked")
