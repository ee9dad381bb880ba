"""How good a model is: the numbers of metrics/evaluate.json and the tables behind the plots."""

from typing import Any

import keras
import numpy as np
from sklearn import metrics

from thaw import feeding
from thaw.feeding import Examples


def probabilities(classifier: keras.Model, examples: Examples, batch_size: int) -> np.ndarray:
    """Class probabilities, float64 (n, classes), of pictures uint8 (n, 32, 32, 3)."""
    chunks = feeding.predict(classifier, examples.inputs, batch_size)
    return softmax(np.concatenate([logits for _, (logits,) in chunks]))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis, float64."""
    shifted = np.asarray(logits, np.float64)
    shifted = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def scores(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
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


def per_class(labels: np.ndarray, predicted: np.ndarray, classes: list[str]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and number of pictures of each class."""
    columns = metrics.precision_recall_fscore_support(
        labels, predicted.argmax(axis=1), labels=np.arange(len(classes)), zero_division=0
    )
    return [
        {"class": name, "precision": float(p), "recall": float(r), "f1": float(f), "pictures": int(n)}
        for name, p, r, f, n in zip(classes, *columns, strict=True)
    ]


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: list[str]) -> list[dict[str, str]]:
    """One row per picture, as DVC's confusion template counts them: actual and predicted class."""
    best = predicted.argmax(axis=1)
    return [{"actual": classes[label], "predicted": classes[guess]} for label, guess in zip(labels, best, strict=True)]
