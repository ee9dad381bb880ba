"""How good a model is: the numbers of metrics/evaluate.json and the tables behind the plots."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from sklearn import metrics

from thaw.data.examples import Examples
from thaw.network.inference import predict_chunks, softmax
from thaw.runtime.progress import unseen


def probabilities(
    classifier: keras.Model, examples: Examples, batch_size: int, reach: Callable[[int], None] = unseen
) -> np.ndarray:
    """Class probabilities, float64 (n, classes), of pictures uint8 (n, 32, 32, 3).

    `reach` is called with the number of pictures done, after each batch and from any thread.
    """
    chunks = predict_chunks(classifier, examples.inputs, batch_size, reach=reach)
    return softmax(np.concatenate([logits for _, (logits,) in chunks]))


def compute_scores(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """The headline numbers.

    Args:
        labels: integers (n,).
        predicted: probabilities (n, classes).

    Returns:
        accuracy, loss (mean cross-entropy, in nats), macro_precision, macro_recall, macro_f1 (a
        class that is never predicted has precision 0), and top5_accuracy for more than 5 classes.
    """
    classes = np.arange(predicted.shape[1])
    best = predicted.argmax(axis=1)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, best, labels=classes, average="macro", zero_division=0
    )
    # A probability that rounds to 0 costs what the least positive double costs, not infinity.
    chosen = np.maximum(predicted[np.arange(len(labels)), labels], np.finfo(np.float64).tiny)
    result = {
        "accuracy": float(np.mean(best == labels)),
        "loss": float(-np.log(chosen).mean()),
        "macro_precision": float(precision),
        "macro_recall": float(recall),
        "macro_f1": float(f1),
    }
    if len(classes) > 5:
        result["top5_accuracy"] = float(metrics.top_k_accuracy_score(labels, predicted, k=5, labels=classes))
    return result


def score_rows(measured: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Scores of several splits or tasks, as rows for a chart: of (whose), score (which) and value."""
    columns = {"accuracy": "accuracy", "precision": "macro_precision", "recall": "macro_recall", "F1": "macro_f1"}
    return [
        {"of": name, "score": score, "value": numbers[column]}
        for name, numbers in measured.items()
        for score, column in columns.items()
    ]


def class_scores(labels: np.ndarray, predicted: np.ndarray, classes: list[str]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and number of pictures of each class, the best F1 first."""
    columns = metrics.precision_recall_fscore_support(
        labels, predicted.argmax(axis=1), labels=np.arange(len(classes)), zero_division=0
    )
    rows = [
        {"class": name, "precision": float(p), "recall": float(r), "f1": float(f), "pictures": int(n)}
        for name, p, r, f, n in zip(classes, *columns, strict=True)
    ]
    return sorted(rows, key=lambda row: -row["f1"])


def confusion_rows(labels: np.ndarray, predicted: np.ndarray, classes: list[str]) -> list[dict[str, str]]:
    """One row per picture, as the templates of confusion count them: actual and predicted class.

    Args:
        classes: names; those of superclasses, each as often as it has classes, make a matrix of these.
    """
    best = predicted.argmax(axis=1)
    return [{"actual": classes[label], "predicted": classes[guess]} for label, guess in zip(labels, best, strict=True)]


def calibration_bins(labels: np.ndarray, predicted: np.ndarray, bins: int = 15) -> list[dict[str, float]]:
    """Accuracy against confidence, in bins of equal width (Guo et al., "On Calibration of Modern Neural Networks",
    2017; 15 bins as there).

    Returns:
        For each bin that has pictures: from and to, confidence and accuracy (means over the bin), and pictures.
    """
    confidence, right = predicted.max(axis=1), predicted.argmax(axis=1) == labels
    numbers = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)  # (from, to]
    return [
        {
            "from": number / bins,
            "to": (number + 1) / bins,
            "confidence": float(confidence[numbers == number].mean()),
            "accuracy": float(right[numbers == number].mean()),
            "pictures": int((numbers == number).sum()),
        }
        for number in np.unique(numbers)
    ]


def calibration_error(rows: list[dict[str, float]]) -> float:
    """Expected calibration error: the mean distance of accuracy from confidence, bins weighted by pictures."""
    total = sum(row["pictures"] for row in rows)
    return sum(row["pictures"] * abs(row["accuracy"] - row["confidence"]) for row in rows) / total


def confused_pairs(
    labels: np.ndarray, predicted: np.ndarray, classes: list[str], most: int = 20
) -> list[dict[str, Any]]:
    """The pairs of classes that are mixed up most, in either direction.

    Returns:
        pair, and pictures of either class that are taken for the other; most first.
    """
    counts = metrics.confusion_matrix(labels, predicted.argmax(axis=1), labels=np.arange(len(classes)))
    both = np.triu(counts + counts.T, 1)
    order = np.argsort(-both, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, both.shape), strict=True)
    return [{"pair": f"{classes[a]}, {classes[b]}", "pictures": int(both[a, b])} for a, b in pairs if both[a, b]]


def gallery_rows(labels: np.ndarray, label: int, most: int = 40) -> np.ndarray:
    """Rows of the first pictures of a class: as they come, not picked."""
    return np.flatnonzero(labels == label)[:most]


def misclassified_rows(labels: np.ndarray, predicted: np.ndarray, most: int = 40) -> np.ndarray:
    """Rows of the pictures that were told wrong with the highest confidence, highest first."""
    wrong = np.flatnonzero(predicted.argmax(axis=1) != labels)
    return wrong[np.argsort(-predicted[wrong].max(axis=1), kind="stable")][:most]


def captions(labels: np.ndarray, predicted: np.ndarray, classes: list[str]) -> tuple[list[str], list[bool]]:
    """For each picture, what a model says, how sure it is, and the truth where that is another; and which are right."""
    best, confidence = predicted.argmax(axis=1), predicted.max(axis=1)
    right = (best == labels).tolist()
    texts = [
        f"{classes[guess]} {share:.0%}" + ("" if good else f"\nis {classes[label]}")
        for label, guess, share, good in zip(labels, best, confidence, right, strict=True)
    ]
    return texts, right
