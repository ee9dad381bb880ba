"""The official binary archives: unpacked with suspicion, read into tensors."""

import shutil
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np

from thaw.datasets import Archive, Dataset, LabelledImages
from thaw.errors import ThawError

PICTURE_BYTES = 3 * 32 * 32


# No file of names is anywhere near this long.
NAMES_BYTES = 64 * 1024


def unpack_archive(archive: Path, layout: Archive, folder: Path) -> None:
    """Write the files that the layout names, and no others, from a .tar.gz into `folder`.

    Raises:
        ThawError: no such archive format, a path or link that leads outside, a device, a file of
            another size than the layout says, or one that is missing.
    """
    sizes = _file_sizes(layout)
    largest = max(sizes.values())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # As a stream: it neither seeks backwards nor takes the memory that a header claims.
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                member = _refuse_unsafe(archive, member, folder)
                name = PurePosixPath(member.name)
                wanted = name.parent.name == layout.folder and name.name in sizes and member.isfile()
                # A file that is left out has a limit too: passing over a claim of exabytes would never end.
                most = sizes.pop(name.name) if wanted else largest
                least = most if wanted and name.suffix == ".bin" else 0
                if not least <= member.size <= most:
                    expected = f"{most:,}" if least else f"at most {most:,}"
                    raise ThawError(f"{archive}: {name} has {member.size:,} bytes; expected {expected}")
                if wanted:
                    with tar.extractfile(member) as source, open(folder / name.name, "wb") as target:
                        shutil.copyfileobj(source, target)
    except ThawError:
        raise
    except Exception as error:  # tarfile fails in many ways on a strange header, IndexError and ValueError among them
        if isinstance(error, OSError) and error.errno is not None:  # a full disk is not a bad archive
            raise
        raise ThawError(f"{archive}: not a readable .tar.gz archive ({error})") from None
    if sizes:
        raise ThawError(f"{archive}: has no {layout.folder}/{next(iter(sizes))}")


def _file_sizes(layout: Archive) -> dict[str, int]:
    """Bytes of each file: exact for records, the most that is accepted for names."""
    record = layout.label_bytes + PICTURE_BYTES
    sizes = dict.fromkeys(layout.train, layout.records_per_train_file * record)
    sizes |= dict.fromkeys(layout.test, layout.records_per_test_file * record)
    return sizes | dict.fromkeys(layout.names, NAMES_BYTES)


def _refuse_unsafe(archive: Path, member: tarfile.TarInfo, folder: Path) -> tarfile.TarInfo:
    """The member as it may be unpacked: by a relative path."""
    try:
        member = tarfile.data_filter(member, str(folder))
    except tarfile.FilterError as error:
        raise ThawError(f"{archive}: refused: {error}") from None
    if member.issparse():  # its size is not what is passed over to the next member
        raise ThawError(f"{archive}: refused: {member.name!r} is a sparse file")
    return member


def read_archive(folder: Path, layout: Archive, classes: tuple[str, ...]) -> tuple[LabelledImages, LabelledImages]:
    """The training and the test images of an unpacked archive.

    Raises:
        ThawError: a missing or cut file, a label out of range, or class names other than the dataset's.
    """
    names = [_read_names(folder / file) for file in layout.names]
    if tuple(names[-1]) != classes:
        expected = ", ".join(classes[:3])
        raise ThawError(f"{folder / layout.names[-1]}: expected the class names {expected}, ...")
    limits = [len(each) for each in names]
    train = [_read_records(folder / file, layout.records_per_train_file, limits) for file in layout.train]
    test = [_read_records(folder / file, layout.records_per_test_file, limits) for file in layout.test]
    return _join(train), _join(test)


def read_class_names(folder: Path, dataset: Dataset) -> dict[str, list[str]]:
    """Class names by level: `classes`, and `superclasses` where there are any."""
    names = {"classes": list(dataset.classes)}
    if isinstance(dataset.source, Archive) and dataset.source.label_bytes == 2:
        names["superclasses"] = _read_names(folder / dataset.source.names[0])
    return names


def _read_names(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").split()
    except (FileNotFoundError, UnicodeDecodeError):
        raise ThawError(f"{file}: no readable list of class names; delete data/raw and run again") from None


def _read_records(file: Path, count: int, limits: list[int]) -> LabelledImages:
    record = len(limits) + PICTURE_BYTES
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
