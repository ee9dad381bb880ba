"""How much an example of each class counts in the loss."""

from collections.abc import Sequence
from typing import Literal

import numpy as np


def weights_by_name(
    weights: dict[str | int, float] | Literal["balanced"] | None, names: Sequence[str]
) -> dict[str, float] | Literal["balanced"] | None:
    """`class_weights` of the parameters, whose keys are names or numbers of a dataset's classes, by name alone."""
    if not isinstance(weights, dict):
        return weights
    return {names[key] if isinstance(key, int) else key: weight for key, weight in weights.items()}


def class_weight_array(
    weights: dict[str, float] | Literal["balanced"] | None, classes: list[str], labels: np.ndarray
) -> np.ndarray | None:
    """What an example of each class counts, float32 (classes,); None where all count the same.

    Args:
        weights: by name, 1 for a class without one; balanced for n / (classes * n of the class), as in
            scikit-learn, after King and Zeng, "Logistic Regression in Rare Events Data" (2001); or None.
        classes: names.
        labels: of the training examples, integers (n,).
    """
    if weights is None:
        return None
    if weights == "balanced":
        # A class without examples weighs as one with one: no weight is infinite.
        counts = np.maximum(np.bincount(labels, minlength=len(classes)), 1)
        return (len(labels) / (len(classes) * counts)).astype(np.float32)
    return np.array([weights.get(name, 1) for name in classes], np.float32)


def describe_class_weights(weights: np.ndarray, classes: list[str]) -> str:
    """The weight of each class in words; of more than 10 classes, the lowest and the highest."""
    numbers = [f"{name} {weight:.3g}" for name, weight in zip(classes, weights, strict=True)]
    if len(classes) <= 10:
        return ", ".join(numbers)
    return f"from {numbers[int(weights.argmin())]} to {numbers[int(weights.argmax())]}"
