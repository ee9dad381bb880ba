"""The files of an audit, two tables and two pictures, and its summary. Start at `write_findings`."""

import textwrap
from collections import Counter
from collections.abc import Iterator
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from thaw.app.audit.collection import Collection
from thaw.app.audit.duplicates import Pair
from thaw.app.audit.findings import Findings
from thaw.app.audit.label_errors import LabelError
from thaw.errors import ParamError
from thaw.figures.grids import CAPTION_WIDTH, draw_captioned
from thaw.runtime.tables import write_table

FILES = ("duplicates.csv", "duplicates.png", "label_errors.csv", "label_errors.png")

DUPLICATE = ["kind", "cosine", "split", "row", "class", "other_split", "other_row", "other_class"]
ERROR = ["split", "row", "label", "class", "suggested", "probability", "label_probability"]

# Images, or pairs of images, of a picture.
SHOWN = 40


def is_earlier_audit(folder: Path) -> bool:
    """Whether the folder has the files of an earlier audit, to be replaced.

    Raises:
        ParamError: it is a file, or has other files, which would be lost.
    """
    if not folder.exists():
        return False
    accepted = "a folder that is new, empty, or of an earlier audit"
    if not folder.is_dir():
        raise ParamError("--output", str(folder), accepted)
    names = sorted(file.name for file in folder.iterdir())
    if others := [name for name in names if name not in FILES]:
        raise ParamError("--output", str(folder), f"{accepted}; it has {others[0]}")
    return bool(names)


def write_findings(folder: Path, collection: Collection, findings: Findings, threshold: float) -> None:
    """Write `FILES` into a folder that exists."""
    write_table(folder / "duplicates.csv", list(duplicate_rows(collection, findings)), DUPLICATE)
    write_table(folder / "label_errors.csv", list(error_rows(collection, findings.errors)), ERROR)
    _draw_pairs(folder / "duplicates.png", collection, findings.near, threshold)
    _draw_errors(folder / "label_errors.png", collection, findings.errors)


def duplicate_rows(collection: Collection, findings: Findings) -> Iterator[dict[str, Any]]:
    """A row for each pair, the exact ones first: kind, cosine, and split, row and class of both images."""
    for kind, pairs in (("exact", findings.exact), ("near", findings.near)):
        for pair in pairs:
            other = {f"other_{name}": value for name, value in collection.described(pair.second).items()}
            yield {"kind": kind, "cosine": f"{pair.cosine:.4f}"} | collection.described(pair.first) | other


def error_rows(collection: Collection, errors: list[LabelError]) -> Iterator[dict[str, Any]]:
    """A row for each suspected label: split, row, label and class of the image, suggested class, probabilities."""
    for error in errors:
        suggested = {"suggested": collection.classes[error.suggested], "probability": error.probability}
        yield collection.described(error.number) | suggested | {"label_probability": error.label_probability}


def _draw_pairs(path: Path, collection: Collection, near: list[Pair], threshold: float) -> None:
    """Draw the least similar near duplicates, red where the classes differ: they show whether the threshold fits."""
    shown = closest(near)[-SHOWN:]
    title = (
        f"Images with their most similar near duplicate: the {len(shown)} pairs closest to {threshold:g}, the threshold"
    )
    pairs = [[collection.image(number) for number in (pair.first, pair.second)] for pair in shown]
    classes = [[collection.described(number)["class"] for number in (pair.first, pair.second)] for pair in shown]
    captions = [
        f"{pair.cosine:.3f}, {' and '.join(dict.fromkeys(names))}" for pair, names in zip(shown, classes, strict=True)
    ]
    same = [first == second for first, second in classes]
    draw_captioned(path, title, side_by_side(pairs, collection.side), captions, same, columns=5)


def closest(near: list[Pair]) -> list[Pair]:
    """Of pairs with the most similar first, those that are the first of one of their images.

    All pairs would show few photographs: 84 images of one car make 655 of CIFAR-10's 2,075 pairs.
    """
    seen: set[int] = set()
    kept = []
    for pair in near:
        if not {pair.first, pair.second} <= seen:
            kept.append(pair)
            seen |= {pair.first, pair.second}
    return kept


def side_by_side(pairs: list[list[np.ndarray]], side: int) -> np.ndarray:
    """Pairs of images, uint8 (side, side, 3), as images with a white gap, uint8 (n, side, 2 side + gap, 3)."""
    joined = np.full((len(pairs), side, 2 * side + side // 16, 3), 255, np.uint8)
    for image, (first, second) in zip(joined, pairs, strict=True):
        image[:, :side], image[:, -side:] = first, second
    return joined


def _draw_errors(path: Path, collection: Collection, errors: list[LabelError]) -> None:
    """Draw the images whose labels are least probable."""
    shown = errors[:SHOWN]
    title = f"Suspected labels: the {len(shown)} of {len(errors):,} that are least probable"
    rows = list(error_rows(collection, shown))
    side = collection.side
    images = np.array([collection.image(error.number) for error in shown], np.uint8).reshape(-1, side, side, 3)
    captions = [
        textwrap.fill(f"{row['class']}? suggested {row['suggested']} ({row['probability']:.0%})", CAPTION_WIDTH)
        for row in rows
    ]
    draw_captioned(path, title, images, captions, [False] * len(rows))


def summary(collection: Collection, findings: Findings, threshold: float, correct: np.ndarray | None) -> str:
    """The counts of an audit, and the test accuracy with and without duplicates, in some lines.

    Args:
        correct: from `findings.read_correct`.
    """
    columns = ["pairs of duplicates", "exact", f"near, cosine {threshold:g} up", "of different classes"]
    rows = _count_rows(collection, findings)
    table = tabulate(rows, columns, disable_numparse=True, colalign=["left", "right", "right", "right"])
    test, learnt = len(collection.labels) - collection.learnt, collection.learnt
    found, errors = len(findings.leaked), len(findings.errors)
    return (
        f"{table}\n\n"
        f"test images with a duplicate in train or val: {found:,} of {test:,} ({found / test:.2%})\n"
        f"test accuracy: {_accuracies(collection, findings, correct)}\n"
        f"suspected labels in train and val: {errors:,} of {learnt:,} ({errors / learnt:.2%})"
    )


def _count_rows(collection: Collection, findings: Findings) -> list[list[str]]:
    """For each two splits: their names, and the numbers of exact and near pairs and of those of different classes."""
    labels, both = collection.labels, [*findings.exact, *findings.near]
    kinds = [findings.exact, findings.near, [pair for pair in both if labels[pair.first] != labels[pair.second]]]
    counts = [
        Counter((collection.place(pair.first)[0].name, collection.place(pair.second)[0].name) for pair in pairs)
        for pairs in kinds
    ]
    names = combinations_with_replacement([split.name for split in collection.splits], 2)
    return [[" and ".join(dict.fromkeys(two)), *(f"{count[two]:,}" for count in counts)] for two in names]


def _accuracies(collection: Collection, findings: Findings, correct: np.ndarray | None) -> str:
    if correct is None:
        return "not known, `dvc repro` evaluates the model"
    with_one = np.isin(np.arange(collection.learnt, len(collection.labels)), findings.leaked)
    parts = {"": correct, " without those": correct[~with_one], " of those": correct[with_one]}
    return ", ".join(f"{part.mean():.4f}{words}" for words, part in parts.items() if len(part))
