"""What an audit finds in a collection of images: duplicates, suspected labels, and what duplicates do to the accuracy.

Start at `search`.
"""

from dataclasses import dataclass

import numpy as np

from thaw import paths
from thaw.app.audit.collection import Collection
from thaw.app.audit.duplicates import Pair, exact_duplicates, first_copies, leaked, near_duplicates
from thaw.app.audit.label_errors import FOLDS, LabelError, out_of_fold_probabilities, suspected_errors
from thaw.app.audit.whitening import whitened
from thaw.data.splits import read_split, split_rows
from thaw.runtime.files import damaged
from thaw.runtime.progress import Progress
from thaw.runtime.tables import read_table


@dataclass(frozen=True)
class Findings:
    """The findings of an audit.

    Attributes:
        exact: pairs of images with the same pixels.
        near: pairs of other images with similar features, the most similar first.
        leaked: numbers of the test images that have a duplicate among the training and validation images.
        errors: suspected labels of training and validation images, the least probable label first.
    """

    exact: list[Pair]
    near: list[Pair]
    leaked: np.ndarray
    errors: list[LabelError]


def search(collection: Collection, threshold: float, seed: int) -> Findings:
    """Search for duplicates in all splits, and for label errors in training and validation; prints progress.

    Args:
        threshold: least cosine of the features of two near duplicates.
        seed: of the parts of the images that take turns in being scored.

    Raises:
        ThawError: the threshold is too low, or a class has one image.
    """
    firsts = first_copies(image for split in collection.splits for image in split.images)
    components = whitened([split.features for split in collection.splits])
    millions = len(firsts) ** 2 / 2e6
    with Progress("audit: near duplicates", millions, "million pairs") as progress:
        near = near_duplicates(components, firsts, threshold, lambda share: progress.reach(share * millions))
    labels = collection.labels[: collection.learnt]
    with Progress("audit: label errors", FOLDS, "parts") as progress:
        probabilities = out_of_fold_probabilities(components[: collection.learnt], labels, seed, progress.reach)
    return Findings(
        exact=exact_duplicates(firsts),
        near=near,
        leaked=leaked(firsts, near, collection.learnt),
        errors=suspected_errors(labels, probabilities),
    )


def read_correct(classes: list[str]) -> np.ndarray | None:
    """Whether the final model classifies each test image of some classes correctly, (n,), by evaluate's predictions.

    Returns:
        None where evaluate has not run, or on other images.

    Raises:
        ThawError: the table of predictions is damaged.
    """
    table = paths.TABLES / "predictions.csv"
    if not table.is_file():
        return None
    try:
        rows = read_table(table)
        listed = [(int(row["index"]), int(row["label"])) for row in rows]
        correct = [row["predicted"] == row["class"] for row in rows]
    except (ValueError, KeyError, TypeError):  # TypeError: a row with fewer cells
        raise damaged(table) from None
    _, labels = read_split("test", classes)
    same = listed == list(zip(split_rows("test", classes).tolist(), labels.tolist(), strict=True))
    return np.array(correct) if same else None
