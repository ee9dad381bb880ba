"""Images of your own in the stage preprocess: read, divided into splits, and written. Start at `store_folder`.

No file of the folder is changed. data/processed/files.csv tells of each file whether it is taken.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thaw import paths
from thaw.config.schema import Dataset as Section
from thaw.data.lookalikes import find_lookalikes
from thaw.data.splits import generator_of, rows_to_keep, whole_groups, write_class_names, write_split
from thaw.datasets import Folder, LabelledImages, Listed, Listing
from thaw.errors import ParamError, ThawError, printable
from thaw.images.read import UnreadableImage, read_image
from thaw.runtime.files import new_array, scratch
from thaw.runtime.progress import Progress
from thaw.runtime.tables import write_table
from thaw.runtime.threads import map_ahead

FILES = paths.PROCESSED / "files.csv"

# Columns of files.csv: path from the folder; class; train, val or test; row in the arrays of that split; taken,
# converted, unused (dataset.limit, dataset.per_class) or left out; how it was converted, which training image it looks
# like, or why it is left out.
COLUMNS = ["file", "class", "split", "index", "status", "detail"]

# Lines of one kind in the summary, at most.
SHOWN = 10


@dataclass(frozen=True, slots=True)
class Read:
    """What reading a file gave.

    Attributes:
        digest: SHA-256 of its content; empty for a file that is left out.
        converted: what was done to the image.
        why: it is left out; empty for a file that is taken.
    """

    digest: bytes = b""
    converted: tuple[str, ...] = ()
    why: str = ""


def store_folder(section: Section, source: Folder) -> None:
    """Read all images of a folder, divide them into splits, and write data/processed.

    Raises:
        ThawError: with `dataset.strict`, a file has to be left out; one file lies in two classes or splits; or a class
            has too few images.
    """
    path = Path(section.path or "")
    listing, side = source.scan(path), section.image_size
    with (
        scratch(paths.PROCESSED / "images.npy") as file,
        new_array(file, (len(listing.files), side, side, 3)) as images,
    ):
        reads = read_files(listing, images, section.max_pixels)
        _refuse_left_out(section, listing, reads)
        classes, labels, splits = _divide(section, source, listing, reads)
        for name, rows in splits.items():
            write_split(paths.PROCESSED / name, LabelledImages(images, labels), rows)
        alike = find_lookalikes(images, np.concatenate([splits["val"], splits["test"]]), splits["train"])
    write_class_names({"classes": classes})
    write_files(table_rows(listing, reads, splits, alike))
    for line in summary(path, listing, reads, splits, alike):
        print(f"preprocess: {line}", flush=True)


def read_files(listing: Listing, images: np.ndarray, max_pixels: int) -> list[Read]:
    """Read all files of a listing into rows of an array, uint8 (n, side, side, 3).

    Images are decoded in threads, and no more than some of them lie in memory.
    """
    reads = [Read(why=listed.why) for listed in listing.files]
    rows = [row for row, listed in enumerate(listing.files) if not listed.why]

    def read(row: int) -> Read:
        file = listing.root / listing.files[row].file
        try:
            image = read_image(file, images.shape[1], max_pixels)
        except UnreadableImage as error:
            return Read(why=error.why)
        images[row] = image.pixels
        with open(file, "rb") as content:
            return Read(hashlib.file_digest(content, "sha256").digest(), image.converted)

    with Progress("preprocess: reading", len(rows), "images") as progress:
        for number, (row, result) in enumerate(zip(rows, map_ahead(read, rows), strict=True), start=1):
            reads[row] = result
            progress.reach(number)
    return reads


def _refuse_left_out(section: Section, listing: Listing, reads: Sequence[Read]) -> None:
    left = [(listed.file, read.why) for listed, read in zip(listing.files, reads, strict=True) if read.why]
    left += [(name, "a link to a folder, which is not followed") for name in listing.links]
    if left and section.strict:
        (name, why), *others = left
        more = f", and {len(others):,} more" if others else ""
        raise ThawError(
            f"dataset.strict: {printable(name)}: {why}{more}; -S dataset.strict=false leaves them out, named in {FILES}"
        )


def _divide(
    section: Section, source: Folder, listing: Listing, reads: Sequence[Read]
) -> tuple[list[str], np.ndarray, dict[str, np.ndarray]]:
    """Class names, the label of each file of a listing, and the rows of each split; raises as `store_folder`."""
    path = Path(section.path or "")
    rows = np.array([row for row, read in enumerate(reads) if not read.why], np.int64)
    taken, digests = [listing.files[row] for row in rows], [reads[row].digest for row in rows]
    source.check(path, taken, listing.links)
    _refuse_lost_split(path, listing, taken)
    _refuse_divided(path, taken, digests)
    classes = sorted({listed.label for listed in taken if listed.label is not None})
    own = label_numbers(taken, classes)
    drawn = draw_folder(section, classes, taken, own, group_numbers(taken, digests))
    labels = np.zeros(len(reads), own.dtype)
    labels[rows] = own
    return classes, labels, {name: rows[places] for name, places in drawn.items()}


def _refuse_lost_split(path: Path, listing: Listing, taken: Sequence[Listed]) -> None:
    """Refuse a given split that has no image: it would be drawn from the training images."""
    given, found = ({listed.split for listed in files} for files in (listing.files, taken))
    if lost := sorted(split for split in given - found if split):
        first = next(row for row in listing.files if row.split == lost[0])
        raise ThawError(f"dataset.path: {path}: no file of {lost[0]} can be taken, such as {printable(first.file)}")


def _refuse_divided(path: Path, taken: Sequence[Listed], digests: Sequence[bytes]) -> None:
    """Refuse one file in two classes or two splits, and one group in two splits; all such files are printed."""
    same: dict[Hashable, list[Listed]] = defaultdict(list)
    for listed, digest in zip(taken, digests, strict=True):
        same[digest].append(listed)
        if listed.group is not None:
            same[listed.group].append(listed)
    found = []
    for key, files in same.items():
        for listed in files[1:]:
            if listed.label != files[0].label and isinstance(key, bytes):
                found.append(_pair("one file in two classes", files[0], listed))
            elif (listed.split or "train") != (files[0].split or "train"):
                kind = "one file" if isinstance(key, bytes) else f"group {key!r}"
                found.append(_pair(f"{kind} in two splits", files[0], listed))
    if found:
        for line in found[:SHOWN] if found[1:] else ():
            print(f"preprocess: {line}", flush=True)
        more = f" (and {len(found) - 1:,} more)" if found[1:] else ""
        raise ThawError(f"dataset.path: {path}: {found[0]}{more}; remove all copies but one")


def _pair(what: str, one: Listed, other: Listed) -> str:
    return f"{what}: {printable(one.file)} and {printable(other.file)}"


def label_numbers(taken: Sequence[Listed], classes: Sequence[str]) -> np.ndarray:
    """The number of the class of each file, uint8, or uint16 for more than 256 classes."""
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers[listed.label or ""] for listed in taken], np.min_scalar_type(len(classes) - 1))


def group_numbers(taken: Sequence[Listed], digests: Sequence[bytes]) -> np.ndarray:
    """The number of the group of each file, integers (n,): files of one group of a CSV, and copies, have the same."""
    above: dict[Hashable, Hashable] = {}

    def top(key: Hashable) -> Hashable:
        while (higher := above.setdefault(key, key)) != key:
            key = higher
        return key

    for listed, digest in zip(taken, digests, strict=True):
        if listed.group is not None:
            above[top(digest)] = top(listed.group)
    tops: dict[Hashable, int] = {}
    return np.array([tops.setdefault(top(digest), len(tops)) for digest in digests])


def draw_folder(
    section: Section, classes: Sequence[str], taken: Sequence[Listed], labels: np.ndarray, groups: np.ndarray
) -> dict[str, np.ndarray]:
    """Sorted rows of train, val and test: as they are given, and drawn from the training images where they are not.

    Args:
        section: fractions, seed, and the training images to keep.
        classes: names.
        taken: the files.
        labels, groups: number of the class and of the group of each file, integers (n,).

    Raises:
        ThawError: a class has too few images, or groups, for that.
        ParamError: `dataset.limit` or `dataset.per_class` does not fit.
    """
    given = np.array([listed.split or "train" for listed in taken])
    rows = {name: np.flatnonzero(given == name) for name in ("train", "val", "test")}
    # Test first: so it is the same for every val_fraction, and validation is the same for every limit.
    fractions = {"test": section.test_fraction, "val": section.val_fraction}
    missing = [name for name in fractions if not len(rows[name])]
    for number, name in enumerate(missing):
        left = rows["train"]
        _refuse_small_class(classes, labels[left], groups[left], missing[number:])
        numbers = np.unique(groups[left], return_inverse=True)[1]
        places = whole_groups(labels[left], numbers, fractions[name], generator_of(name, section.seed))
        rows[name], rows["train"] = left[places], np.delete(left, places)
    left = rows["train"]
    _refuse_small_class(classes, labels[left], groups[left], [])
    rows["train"] = left[rows_to_keep(labels[left], section.limit, section.per_class, section.seed)]
    lost = np.setdiff1d(labels, labels[rows["train"]])
    if len(lost):
        raise ParamError("dataset.limit", section.limit, f"a number that leaves class {classes[lost[0]]!r} an image")
    return rows


def _refuse_small_class(classes: Sequence[str], labels: np.ndarray, groups: np.ndarray, drawn: Sequence[str]) -> None:
    """Refuse a class without an image, or a whole group, for training and for each split that is to be drawn."""
    for number, name in enumerate(classes):
        own = groups[labels == number]
        count = len(np.unique(own))
        if count <= len(drawn):
            images = f"{len(own)} training image{'s' * (len(own) != 1)}"
            of = f"{images} in {count} group{'s' * (count != 1)}" if count < len(own) else images
            raise ThawError(
                f"dataset.path: class {name!r} has {of}; {len(drawn) + 1} at least are needed to draw "
                f"{' and '.join(sorted(drawn))} from them; add images, remove the class, or give these splits yourself"
            )


def write_files(rows: Iterable[dict[str, Any]]) -> None:
    """Write files.csv, sorted by path; of an archive it has no rows."""
    write_table(FILES, sorted(rows, key=lambda row: row["file"]), COLUMNS)


def table_rows(
    listing: Listing, reads: Sequence[Read], splits: dict[str, np.ndarray], alike: dict[int, int]
) -> Iterable[dict[str, Any]]:
    """The rows of files.csv, by `COLUMNS`.

    Args:
        listing: the files.
        reads: what reading each gave.
        splits: rows of the listing, in the order of the arrays.
        alike: rows of validation and test images, and those of training images that they look like.
    """
    places = {row: (name, index) for name, rows in splits.items() for index, row in enumerate(rows.tolist())}
    for row, (listed, read) in enumerate(zip(listing.files, reads, strict=True)):
        split, index = places.get(row, ("", ""))
        status = "left out" if read.why else "unused" if not split else "converted" if read.converted else "taken"
        like = [f"looks like {listing.files[alike[row]].file}"] if row in alike else []
        cells = (listed.file, listed.label or "", split, index, status, read.why or "; ".join([*read.converted, *like]))
        yield dict(zip(COLUMNS, cells, strict=True))


def summary(
    path: Path, listing: Listing, reads: Sequence[Read], splits: dict[str, np.ndarray], alike: dict[int, int]
) -> Iterable[str]:
    """Lines for one screen: what is taken, converted and left out; arguments as of `table_rows`."""
    left = [(listed, read) for listed, read in zip(listing.files, reads, strict=True) if read.why]
    parts = {
        "files": len(reads), "images": len(reads) - len(left), "left out": len(left), "hidden": listing.hidden,
        "not in the CSV": listing.unlisted,
    }  # fmt: skip
    yield f"{path}: " + ", ".join(f"{count:,} {what}" for what, count in parts.items() if count or what == "files")
    for name, rows in splits.items():
        counts = Counter(listing.files[row].label for row in rows)
        (most, large), (least, small) = counts.most_common()[0], counts.most_common()[-1]
        how = "given" if any(listed.split == name for listed in listing.files) else "drawn"
        sizes = f"{small:,} ({least}) to {large:,} ({most}) of each" if small < large else f"{small:,} of each"
        yield f"{name} ({how}), {len(rows):,} images of {len(counts)} classes, {sizes}"
    for kind, count in Counter(kind for read in reads for kind in read.converted).most_common(SHOWN):
        yield f"converted ({kind}): {count:,}"
    for row, other in list(alike.items())[:1]:
        pair = f"{printable(listing.files[row].file)} and {printable(listing.files[other].file)}"
        yield f"of val and test, {len(alike):,} look like a training image, such as {pair}: see {FILES}"
    for listed, read in left[:SHOWN]:
        yield f"left out, {printable(listed.file)}: {read.why}"
    if left[SHOWN:]:
        yield f"left out, {len(left) - SHOWN:,} more: see {FILES}"
    for what, names in (("empty class folders", listing.empty), ("links to folders, not followed", listing.links)):
        if names:
            more = f" and {len(names) - SHOWN:,} more" if names[SHOWN:] else ""
            yield f"{what}: {', '.join(map(printable, names[:SHOWN]))}{more}"
