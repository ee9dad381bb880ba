"""The training history: one row for each epoch of all phases, and one for the weights that each phase starts from."""

from typing import Any

COLUMNS = ["epoch", "phase", "learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy"]

Row = dict[str, Any]


def best_row(rows: list[Row]) -> Row:
    """The row of the weights that the rows' last phase ended with."""
    return next(row for row in reversed(rows) if row["best"])


def rank(row: Row) -> tuple[float, float]:
    """Orders epochs: the highest validation accuracy is best, among equals the lowest validation loss."""
    return row["val_accuracy"], -row["val_loss"]
