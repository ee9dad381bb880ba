"""The training history: one row for each epoch of all phases, and one for the weights that each phase starts from."""

from typing import Any

COLUMNS = ["epoch", "phase", "learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy"]

Row = dict[str, Any]


def by_phase(history: list[Row]) -> dict[str, list[Row]]:
    """The rows of each phase, in the order in which phases were trained."""
    phases: dict[str, list[Row]] = {}
    for row in history:
        phases.setdefault(row["phase"], []).append(row)
    return phases


def best_row(rows: list[Row]) -> Row:
    """The row of the weights that the rows' last phase ended with."""
    return next(row for row in reversed(rows) if row["best"])


def kept_start(rows: list[Row]) -> bool:
    """Whether the epochs of a phase, of which these are the rows, were no better than the weights it started from."""
    return len(rows) > 1 and rows[0]["best"]


def best_epoch(rows: list[Row]) -> int:
    """The epoch that a phase kept, of which these are the rows, counted from 1; 0 for the weights it started from."""
    return rows.index(best_row(rows))


def rank(row: Row) -> tuple[float, float]:
    """Orders epochs: the highest validation accuracy is best, among equals the lowest validation loss."""
    return row["val_accuracy"], -row["val_loss"]
