"""Scores: the numbers of metrics/evaluate.json and the rows of plots/tables. Start at `compute_scores`."""

from typing import Any

import numpy as np
from scipy import stats
from sklearn import metrics

# First columns of a table of predictions; one column with the probability of each class follows.
PREDICTION = ["index", "label", "class", "predicted", "confidence"]


def compute_scores(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy, loss and macro averages, as in metrics/evaluate.json.

    Balanced accuracy is the mean recall of the classes that have images (Brodersen et al., "The Balanced Accuracy and
    Its Posterior Distribution", 2010): of classes of equal size it is the accuracy.

    Args:
        labels: integers (n,).
        predicted: probabilities (n, classes).

    Returns:
        accuracy, loss (mean cross-entropy, in nats), macro_precision, macro_recall, macro_f1 (over the classes that
        have images; one that is never predicted has precision 0), top5_accuracy for more than 5 classes, and
        balanced_accuracy where classes differ in their number of images.
    """
    classes = np.arange(predicted.shape[1])
    best = predicted.argmax(axis=1)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, best, labels=np.unique(labels), average="macro", zero_division=0
    )
    # A probability that is rounded to 0 counts as the least positive double: the loss stays finite.
    likelihoods = np.maximum(predicted[np.arange(len(labels)), labels], np.finfo(np.float64).tiny)
    result = {
        "accuracy": float(np.mean(best == labels)),
        "loss": float(-np.log(likelihoods).mean()),
        "macro_precision": float(precision),
        "macro_recall": float(recall),
        "macro_f1": float(f1),
    }
    if len(classes) > 5:
        result["top5_accuracy"] = float(metrics.top_k_accuracy_score(labels, predicted, k=5, labels=classes))
    if len(set(np.bincount(labels, minlength=len(classes)).tolist())) > 1:
        # So does balanced_accuracy_score, which warns of each predicted class that has no images.
        result["balanced_accuracy"] = result["macro_recall"]
    return result


def accuracy_interval(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """95 % interval of the accuracy on images that neither training nor a choice has seen, by Wilson's formula.

    It holds the accuracy that the model has on all images of this kind in 95 of 100 draws of test images, also near 1
    and for few images (Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927). It says
    nothing of another seed.

    Args:
        labels: integers (n,).
        predicted: probabilities (n, classes).

    Returns:
        accuracy_low and accuracy_high, as in metrics/evaluate.json.
    """
    correct = int((predicted.argmax(axis=1) == labels).sum())
    interval = stats.binomtest(correct, len(labels)).proportion_ci(0.95, method="wilson")
    return {"accuracy_low": float(interval.low), "accuracy_high": float(interval.high)}


def describe_accuracy(scores: dict[str, float]) -> str:
    """The accuracy in words: `accuracy 0.8859 (95 %: 0.8795 to 0.8920), balanced 0.8512`.

    The interval and the balanced accuracy are told where there are any.
    """
    words = f"accuracy {scores['accuracy']:.4f}"
    if "accuracy_low" in scores:
        words += f" (95 %: {scores['accuracy_low']:.4f} to {scores['accuracy_high']:.4f})"
    if "balanced_accuracy" in scores:
        words += f", balanced {scores['balanced_accuracy']:.4f}"
    return words


def score_rows(measured: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Scores of several splits or tasks as rows for a chart.

    Returns:
        Rows of `of`, the split or task; `score`, the kind of score; its value; and low and high, the 95 % interval of
        an accuracy on test images, else None.
    """
    columns = {"accuracy": "accuracy", "precision": "macro_precision", "recall": "macro_recall", "F1": "macro_f1"}
    return [
        {
            "of": name,
            "score": score,
            "value": numbers[column],
            **{bound: numbers.get(f"{column}_{bound}") for bound in ("low", "high")},
        }
        for name, numbers in measured.items()
        for score, column in columns.items()
    ]


def class_scores(labels: np.ndarray, predicted: np.ndarray, classes: list[str]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and number of images of each class, the highest F1 first."""
    columns = metrics.precision_recall_fscore_support(
        labels, predicted.argmax(axis=1), labels=np.arange(len(classes)), zero_division=0
    )
    rows = [
        {"class": name, "precision": float(p), "recall": float(r), "f1": float(f), "images": int(n)}
        for name, p, r, f, n in zip(classes, *columns, strict=True)
    ]
    return sorted(rows, key=lambda row: -row["f1"])


def confusion_rows(labels: np.ndarray, predicted: np.ndarray, classes: list[str]) -> list[dict[str, str]]:
    """One row per image, with actual and predicted class: DVC's templates of confusion matrices count the rows.

    Args:
        labels: integers (n,).
        predicted: probabilities (n, classes).
        classes: name of each class, or of the superclass of each class.
    """
    best = predicted.argmax(axis=1)
    return [{"actual": classes[label], "predicted": classes[guess]} for label, guess in zip(labels, best, strict=True)]


def prediction_rows(
    indices: np.ndarray, labels: np.ndarray, predicted: np.ndarray, classes: list[str]
) -> list[dict[str, Any]]:
    """One row per image: the columns of `PREDICTION`, then the probability of each class, unrounded, such as p_cat.

    Args:
        indices: row of each image in its split.
        labels: integers (n,).
        predicted: probabilities (n, classes).
        classes: names, in the order of the labels.
    """
    columns = [f"p_{name}" for name in classes]
    best = predicted.argmax(axis=1)
    return [
        dict(zip(PREDICTION, (index, label, classes[label], classes[guess], row[guess]), strict=True))
        | dict(zip(columns, row, strict=True))
        for index, label, guess, row in zip(
            indices.tolist(), labels.tolist(), best.tolist(), predicted.tolist(), strict=True
        )
    ]


def calibration_bins(labels: np.ndarray, predicted: np.ndarray, bins: int = 15) -> list[dict[str, float]]:
    """Accuracy against confidence, in bins of equal width (Guo et al., "On Calibration of Modern Neural Networks",
    2017; 15 bins as there).

    Returns:
        One row for each bin with images: from, to, confidence and accuracy (means over the bin), number of images.
    """
    confidence, correct = predicted.max(axis=1), predicted.argmax(axis=1) == labels
    numbers = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)  # (from, to]
    return [
        {
            "from": number / bins,
            "to": (number + 1) / bins,
            "confidence": float(confidence[numbers == number].mean()),
            "accuracy": float(correct[numbers == number].mean()),
            "images": int((numbers == number).sum()),
        }
        for number in np.unique(numbers)
    ]


def calibration_error(rows: list[dict[str, float]]) -> float:
    """Expected calibration error: mean difference of accuracy and confidence, with bins weighted by images."""
    total = sum(row["images"] for row in rows)
    return sum(row["images"] * abs(row["accuracy"] - row["confidence"]) for row in rows) / total


def confused_pairs(
    labels: np.ndarray, predicted: np.ndarray, classes: list[str], most: int = 20
) -> list[dict[str, Any]]:
    """The most confused pairs of classes, counted in both directions.

    Returns:
        Rows of pair and images, the number of images of either class that are classified as the other; most first.
    """
    counts = metrics.confusion_matrix(labels, predicted.argmax(axis=1), labels=np.arange(len(classes)))
    both = np.triu(counts + counts.T, 1)
    order = np.argsort(-both, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, both.shape), strict=True)
    return [{"pair": f"{classes[a]}, {classes[b]}", "images": int(both[a, b])} for a, b in pairs if both[a, b]]


def gallery_rows(labels: np.ndarray, label: int, most: int = 40) -> np.ndarray:
    """Rows of the first images of a class, in the order of the split."""
    return np.flatnonzero(labels == label)[:most]


def misclassified_rows(labels: np.ndarray, predicted: np.ndarray, most: int = 40) -> np.ndarray:
    """Rows of the misclassified images with the highest confidence, highest first."""
    wrong = np.flatnonzero(predicted.argmax(axis=1) != labels)
    return wrong[np.argsort(-predicted[wrong].max(axis=1), kind="stable")][:most]
