"""Suspected label errors, found by confident learning from out-of-fold probabilities. Start at `suspected_errors`.

Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels" (2021).
"""

import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from thaw.errors import ThawError
from thaw.runtime.installed import install_command
from thaw.runtime.progress import unseen

# Parts of the images: a regression over the other parts scores each of them.
FOLDS = 5

# Inverse strength of the penalty on the regression's weights. Accuracy on validation images, with MobileNetV2 of alpha
# 0.35: CIFAR-10 0.774, 0.782 and 0.784 with 0.001, 0.01 and 0.1, CIFAR-100 0.536, 0.552 and 0.528.
PENALTY = 0.01


class LabelError(NamedTuple):
    """An image whose label is suspected.

    Attributes:
        number: of the image.
        suggested: the most probable class.
        probability: of the suggested class.
        label_probability: of the class that the label names.
    """

    number: int
    suggested: int
    probability: float
    label_probability: float


def refuse_without_cleanlab() -> None:
    """Raise a ThawError if the package for confident learning is not installed; imports nothing."""
    if importlib.util.find_spec("cleanlab") is None:
        raise ThawError(f"audit: needs one more package: {install_command('audit')}")


def out_of_fold_probabilities(
    components: np.ndarray, labels: np.ndarray, seed: int, reach: Callable[[int], None] = unseen
) -> np.ndarray:
    """Class probabilities of each image by a logistic regression that has not seen its label, float32 (n, classes).

    Args:
        components: of the features, from `whitening.whitened`: a regression converges in 20 steps on them, and on
            features not in 100. float32 (n, d).
        labels: integers (n,).
        seed: of the draw of the parts.
        reach: called after each part, with the number of finished parts.

    Raises:
        ThawError: a class has only one image.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    folds = min(FOLDS, int(np.bincount(labels).min()))
    if folds < 2:
        raise ThawError("audit: a class has fewer than 2 training and validation images; raise dataset.limit")
    probabilities = np.empty((len(labels), labels.max() + 1), np.float32)
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(components, labels)
    for number, (others, part) in enumerate(parts, start=1):
        regression = LogisticRegression(C=PENALTY).fit(components[others], labels[others])
        probabilities[part] = regression.predict_proba(components[part])
        reach(number)
    return probabilities


def suspected_errors(labels: np.ndarray, probabilities: np.ndarray) -> list[LabelError]:
    """Images whose labels are suspected, as many as confident learning estimates, the least probable label first.

    Of 500 labels of 50,000 that were changed at random (CIFAR-10, MobileNetV2 with alpha 0.35), 452 were among 3,841
    suspected ones, 290 among the first 500, and 39 among the first 40. By the margin to the suggested class in place
    of the label's probability they were 401, 188 and 31.

    Args:
        labels: integers (n,).
        probabilities: from `out_of_fold_probabilities`.
    """
    from cleanlab.filter import find_label_issues

    by = {"filter_by": "low_self_confidence", "return_indices_ranked_by": "self_confidence"}
    order = find_label_issues(labels, probabilities, n_jobs=1, **by)
    suspected = zip(order, probabilities[order], strict=True)
    return [
        LabelError(int(number), int(row.argmax()), float(row.max()), float(row[labels[number]]))
        for number, row in suspected
        if row.argmax() != labels[number]  # the label may be improbable, and yet the most probable
    ]
