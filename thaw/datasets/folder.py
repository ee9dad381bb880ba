"""Images of your own: class folders; train/, val/ and test/ of class folders; or a CSV. Start at `scan`.

Nothing is read but names and the CSV. `scan` lists what there is, in an order that follows from the names alone.
"""

import csv
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from thaw.config.schema import Dataset as Section
from thaw.datasets import Dataset, Folder, Listed, Listing
from thaw.errors import ParamError, ThawError

# Names of a folder of class folders, in small letters, by split.
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip

WANTED = "a folder of class folders, or a CSV with the columns path and label, and optionally split and group"

# Folders that DVC does not look into.
UNWATCHED = (".git", ".dvc")


def scan(path: Path) -> Listing:
    """List the images of a folder or of a CSV, with their classes, splits and groups.

    Raises:
        ParamError: the path is neither.
        ThawError: DVC could not watch the folder, or classes or splits are ambiguous; names the first cause.
    """
    if os.path.isdir(path):
        tree = _walk(path)
        listing = _by_folder(path, tree)
    elif os.path.isfile(path):
        rows = _read_table(path)
        tree = _walk(path.parent)
        listing = _by_table(path, tree, rows)
        if listing.files and all(file.why for file in listing.files):
            first = listing.files[0]
            raise ThawError(f"dataset.path: {path}: no row can be taken; the first, {first.file!r}: {first.why}")
    else:
        raise ParamError("dataset.path", str(path), f"{WANTED}, which exists")
    check_classes(path, [file for file in listing.files if not file.why], listing.links)
    return listing


# --- what there is ---


@dataclass
class _Tree:
    """What lies below a folder: paths from it, with /.

    Attributes:
        files, folders: visible ones.
        hidden: files with a hidden name, or below a hidden folder.
        links: visible links to folders, which are not followed: DVC does not watch what is behind them.
    """

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)


def _walk(root: Path) -> _Tree:
    tree, todo = _Tree(), [("", False)]
    while todo:
        folder, unseen = todo.pop()
        for entry in _entries(root / folder):
            name = f"{folder}/{entry.name}" if folder else entry.name
            hides = unseen or entry.name.startswith(".")
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in UNWATCHED:
                    todo.append((name, hides))
                if not hides:
                    tree.folders.append(name)
            elif entry.is_dir():
                if not hides:
                    tree.links.append(name)
            else:
                _refuse_unwatchable(entry)
                (tree.hidden if hides else tree.files).append(name)
    return tree


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except PermissionError:
        raise ThawError(f"dataset.path: {folder}: you may not read this folder") from None


def _refuse_unwatchable(entry: os.DirEntry[str]) -> None:
    """Refuse what DVC ends at, without a name or for ever, when it hashes the folder."""
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        raise ThawError(f"dataset.path: {ascii(entry.path)}: a name that is no UTF-8; rename the file") from None
    if not entry.is_file():
        kind = "a link to nothing" if entry.is_symlink() else "no regular file"
        raise ThawError(f"dataset.path: {entry.path!r}: {kind}, at which DVC would fail; remove it")
    if not os.access(entry.path, os.R_OK):
        raise ThawError(f"dataset.path: {entry.path!r}: you may not read this file")


# --- classes by folder ---


def _by_folder(root: Path, tree: _Tree) -> Listing:
    tops = sorted(name for name in tree.folders if "/" not in name)
    holding = {name.partition("/")[0] for name in tree.folders if "/" in name}
    splits = {name: SPLITS[name.lower()] for name in tops if name.lower() in SPLITS}
    # A class may be called train, too: then it holds images and no folders.
    divided = bool(splits) and (
        len(splits) == len(tops) or any(split == "train" and name in holding for name, split in splits.items())
    )
    if divided:
        _check_splits(root, tree, tops, splits)
    level = 1 if divided else 0
    files = []
    for name in tree.files:
        *folders, _ = name.split("/")
        label = unicodedata.normalize("NFC", folders[level]) if len(folders) > level else None
        split = splits[folders[0]] if divided and folders else None
        files.append(Listed(name, label, split, why="" if label is not None else "in no class folder"))
    classes = sorted(name for name in tree.folders if name.count("/") == level)
    _refuse_twins(root, classes)
    filled = {"/".join(name.split("/")[: level + 1]) for name in tree.files}
    empty = [name for name in classes if name not in filled]
    return Listing(root, _in_order(files), len(tree.hidden), empty, sorted(tree.links))


def _check_splits(root: Path, tree: _Tree, tops: Sequence[str], splits: dict[str, str]) -> None:
    """Refuse train/, val/ and test/ that are there twice, or beside other folders with files; or no train/."""
    names: dict[str, str] = {}
    for name, split in splits.items():
        if split in names:
            raise ThawError(f"dataset.path: {root}: {names[split]}/ and {name}/ are one split; keep one of the two")
        names[split] = name
    if "train" not in names:
        raise ThawError(f"dataset.path: {root}: has {tops[0]}/, but no train/ with class folders")
    for top in tops:
        if top not in splits and any(file.startswith(f"{top}/") for file in tree.files):
            raise ThawError(
                f"dataset.path: {root}: has {top}/ beside {names['train']}/; accepted: train, val and test alone "
                "(or class folders alone, in which a class train has no folders); or list the images in a CSV"
            )


def _refuse_twins(root: Path, classes: Sequence[str]) -> None:
    """Refuse two folders of one split whose names Unicode takes for the same."""
    seen: dict[str, str] = {}
    for name in classes:
        other = seen.setdefault(unicodedata.normalize("NFC", name), name)
        if other != name:
            raise ThawError(
                f"dataset.path: {root}: the class folders {ascii(other)} and {ascii(name)} differ by Unicode "
                "normalisation alone; join them, or rename one"
            )


def _in_order(files: list[Listed]) -> list[Listed]:
    """By name and then by path: an order of images that were numbered through all classes is kept."""
    return sorted(files, key=lambda listed: (PurePosixPath(listed.file).name, listed.file))


# --- classes by a CSV ---


def _read_table(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV with their line numbers; names of columns in small letters."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
            if not {"path", "label"} <= set(reader.fieldnames):
                raise ParamError("dataset.path", str(path), WANTED)
            return [(reader.line_num, {key: value or "" for key, value in row.items() if key}) for row in reader]
    except (UnicodeDecodeError, csv.Error):
        raise ParamError("dataset.path", str(path), WANTED) from None


def _by_table(path: Path, tree: _Tree, rows: Sequence[tuple[int, dict[str, str]]]) -> Listing:
    root = path.parent
    there = {unicodedata.normalize("NFC", name): name for name in (*tree.hidden, *tree.files)}
    files: list[Listed] = []
    lines: dict[str, int] = {}
    for line, row in rows:
        where = f"dataset.path: {path}, line {line}"
        name = _below(where, root, row["path"])
        found = there.get(unicodedata.normalize("NFC", name))
        name, label = found or name, unicodedata.normalize("NFC", row["label"])
        if name in lines:
            raise ThawError(f"{where}: {name} stands in line {lines[name]} already")
        lines[name] = line
        why = "not found" if found is None else "" if label else "no label in the CSV"
        files.append(Listed(name, label or None, _split(where, row), row.get("group") or None, why))
    unlisted = len(tree.files) - sum(name in lines for name in tree.files) - 1  # the CSV itself
    return Listing(root, _in_order(files), 0, [], sorted(tree.links), unlisted)


def _below(where: str, root: Path, cell: str) -> str:
    """The path of a cell, from the folder of the CSV."""
    name = os.path.normpath(root / cell)
    try:
        return Path(name).relative_to(root).as_posix()
    except ValueError:
        raise ThawError(f"{where}: {cell!r} is outside of {root}, the folder of the CSV, which DVC watches") from None


def _split(where: str, row: dict[str, str]) -> str | None:
    cell = row.get("split", "").strip().lower()
    if cell and cell not in SPLITS:
        raise ThawError(f"{where}: received the split {cell!r}; accepted: train, val, test, or nothing")
    return SPLITS.get(cell)


# --- classes ---


def check_classes(path: Path, files: Sequence[Listed], links: Sequence[str]) -> None:
    """Refuse classes that cannot be learnt, or whose names can be mistaken for each other.

    Args:
        path: for the message.
        files: those that are taken.
        links: to folders, which may be why a class is missing.

    Raises:
        ThawError: names the classes.
    """
    first: dict[str, str] = {}
    splits = defaultdict(set)
    for listed in files:
        assert listed.label is not None
        first.setdefault(listed.label, listed.file)
        splits[listed.label].add(listed.split)
    seen: dict[str, str] = {}
    for label in sorted(first):
        if not label.isprintable():
            raise ThawError(f"dataset.path: {path}: class {ascii(label)}: a name with a control character; rename it")
        other = seen.setdefault(" ".join(label.casefold().split()), label)
        if other != label:
            raise ThawError(
                f"dataset.path: {path}: classes {other!r} ({first[other]}) and {label!r} ({first[label]}) differ by "
                "letter case or spaces alone; give them one name, or two"
            )
    for label in sorted(first):
        if not splits[label] & {None, "train"}:
            raise ThawError(f"dataset.path: {path}: class {label!r} ({first[label]}) has no training image")
    if len(first) < 2:
        alone = f"class {next(iter(first))!r} alone" if first else "no class folder with a file"
        linked = f" ({links[0]!r} is a link to a folder, which DVC does not follow)" if links else ""
        raise ThawError(
            f"dataset.path: {path}: {alone}{linked}; two classes at least are needed, each in a folder of its name"
        )


def describe(section: Section) -> Dataset:
    """What is known of the images before any is read: classes, and how many images there are, unreadable ones too."""
    listing = scan(Path(section.path or ""))
    files = [listed for listed in listing.files if not listed.why]
    counts = Counter(listed.split or "train" for listed in files)
    labels = Counter(listed.label or "" for listed in files if listed.split in (None, "train"))
    test = counts["test"] or round(counts["train"] * section.test_fraction)
    classes = tuple(sorted(labels))
    return Dataset(
        classes=classes,
        train_count=counts["train"] - (0 if counts["test"] else test),
        test_count=test,
        val_count=counts["val"] or None,
        sizes=tuple(labels[label] for label in classes),
        image_size=None,
        source=SOURCE,
    )


SOURCE = Folder(scan=scan, check=check_classes, describe=describe)
DATASET = Dataset(classes=None, train_count=None, test_count=None, image_size=None, source=SOURCE)
