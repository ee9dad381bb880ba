"""The rows of a training history: one for each epoch of all phases."""

from typing import Any

COLUMNS = ["epoch", "phase", "learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy"]


Row = dict[str, Any]


def last_scores(history: list[Row]) -> dict[str, float] | None:
    """Loss and accuracy in validation that the phases so far ended with; None where there was none."""
    for row in reversed(history):
        if row["best"]:
            return {"loss": row["val_loss"], "accuracy": row["val_accuracy"]}
    return None


def rank(row: Row) -> tuple[float, float]:
    return row["val_accuracy"], -row["val_loss"]
