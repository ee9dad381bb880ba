"""Official binary archives: unpacked with checks of every member, and read into arrays.

Start at `unpack_archive` and `read_archive`.
"""

import shutil
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np

from thaw.datasets import Archive, Dataset, LabelledImages
from thaw.errors import ThawError

IMAGE_BYTES = 3 * 32 * 32

# Limit on the size of a file of class names; real ones have less than 2 KB.
NAMES_BYTES = 64 * 1024


def unpack_archive(archive: Path, layout: Archive, folder: Path) -> None:
    """Unpack the files that the layout names, and no others, from a .tar.gz into `folder`.

    Raises:
        ThawError: the archive is not a .tar.gz, a path or link leads outside, a member is a device or has
            another size than in the layout, or a file is missing.
    """
    sizes = _file_sizes(layout)
    largest = max(sizes.values())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # A stream ("r|gz") never seeks backwards, and allocates no memory for the size that a header claims.
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                member = _refuse_unsafe(archive, member, folder)
                name = PurePosixPath(member.name)
                wanted = name.parent.name == layout.folder and name.name in sizes and member.isfile()
                # A skipped file has a limit, too: skipping a claimed exabyte would never end.
                most = sizes.pop(name.name) if wanted else largest
                least = most if wanted and name.suffix == ".bin" else 0
                if not least <= member.size <= most:
                    expected = f"{most:,}" if least else f"at most {most:,}"
                    raise ThawError(f"{archive}: {name} has {member.size:,} bytes; expected {expected}")
                source = tar.extractfile(member) if wanted else None
                if source is not None:
                    with source, open(folder / name.name, "wb") as target:
                        shutil.copyfileobj(source, target)
    except ThawError:
        raise
    except Exception as error:  # a malformed header makes tarfile raise IndexError, ValueError and others
        if isinstance(error, OSError) and error.errno is not None:  # an error of the disk, not of the archive
            raise
        raise ThawError(f"{archive}: not a readable .tar.gz archive ({error})") from None
    if sizes:
        raise ThawError(f"{archive}: has no {layout.folder}/{next(iter(sizes))}")


def _file_sizes(layout: Archive) -> dict[str, int]:
    """Size of each file in bytes: exact for records, a limit for class names."""
    record = layout.label_bytes + IMAGE_BYTES
    sizes = dict.fromkeys(layout.train, layout.records_per_train_file * record)
    sizes |= dict.fromkeys(layout.test, layout.records_per_test_file * record)
    return sizes | dict.fromkeys(layout.names, NAMES_BYTES)


def _refuse_unsafe(archive: Path, member: tarfile.TarInfo, folder: Path) -> tarfile.TarInfo:
    """The member with a relative path; raises ThawError for a member that must not be unpacked."""
    try:
        member = tarfile.data_filter(member, str(folder))
    except tarfile.FilterError as error:
        raise ThawError(f"{archive}: refused: {error}") from None
    if member.issparse():  # its size is not its number of bytes in the archive
        raise ThawError(f"{archive}: refused: {member.name!r} is a sparse file")
    return member


def read_archive(folder: Path, layout: Archive, classes: tuple[str, ...]) -> tuple[LabelledImages, LabelledImages]:
    """The training and the test images of an unpacked archive.

    Raises:
        ThawError: a file is missing or truncated, a label is out of range, or class names differ from the dataset's.
    """
    names = [_read_names(folder / file) for file in layout.names]
    if tuple(names[-1]) != classes:
        expected = ", ".join(classes[:3])
        raise ThawError(f"{folder / layout.names[-1]}: expected the class names {expected}, ...")
    limits = [len(level) for level in names]
    train = [_read_records(folder / file, layout.records_per_train_file, limits) for file in layout.train]
    test = [_read_records(folder / file, layout.records_per_test_file, limits) for file in layout.test]
    return _join(train), _join(test)


def read_class_names(folder: Path, dataset: Dataset) -> dict[str, list[str]]:
    """Class names by level: `classes` and, if the dataset has them, `superclasses`."""
    names = {"classes": list(dataset.classes or ())}
    if isinstance(dataset.source, Archive) and dataset.source.label_bytes == 2:
        names["superclasses"] = _read_names(folder / dataset.source.names[0])
    return names


def _read_names(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").split()
    except (FileNotFoundError, UnicodeDecodeError):
        raise ThawError(f"{file}: no readable list of class names; delete data/raw and run again") from None


def _read_records(file: Path, count: int, limits: list[int]) -> LabelledImages:
    record = len(limits) + IMAGE_BYTES
    if not file.is_file() or file.stat().st_size != count * record:
        raise ThawError(f"{file}: expected {count:,} records of {record:,} bytes; delete data/raw and run again")
    records = np.fromfile(file, np.uint8).reshape(count, record)
    for column, limit in enumerate(limits):
        if records[:, column].max() >= limit:
            row = int(np.argmax(records[:, column] >= limit))
            raise ThawError(f"{file}: record {row} has label {records[row, column]}; expected 0 to {limit - 1}")
    images = records[:, len(limits) :].reshape(count, 3, 32, 32).transpose(0, 2, 3, 1)
    coarse = records[:, 0] if len(limits) == 2 else None
    return LabelledImages(images, records[:, len(limits) - 1], coarse)


def _join(parts: list[LabelledImages]) -> LabelledImages:
    coarse = [part.coarse for part in parts if part.coarse is not None]
    return LabelledImages(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate(coarse) if coarse else None,
    )
