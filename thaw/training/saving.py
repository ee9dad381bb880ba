"""Saved state of a training run: all that the next epoch needs, written after each epoch."""

import keras
import numpy as np

from thaw.network.history import Row
from thaw.runtime.resume import State
from thaw.training.reporting import EpochEnd, Observer


class Snapshots(Observer):
    """Saves a run after each epoch, and resumes it.

    Saved are weights, optimizer, history and the best weights. Random layers and the order of examples are not:
    they follow from the epoch's number.
    """

    def __init__(self, state: State) -> None:
        self.state = state

    def on_epoch(self, end: EpochEnd) -> None:
        arrays = {
            f"weights-{end.epoch}": end.weights,
            f"optimizer-{end.epoch}": [variable.numpy() for variable in end.optimizer.variables],
        }
        self.state.save({"rows": end.rows, "best": end.best}, arrays, keep=[f"weights-{end.best}"])

    def resume(
        self, model: keras.Model, optimizer: keras.optimizers.Optimizer
    ) -> tuple[list[Row], int, list[np.ndarray]] | None:
        """Set model and optimizer to what they were after the last epoch.

        Args:
            model: has the weights that the run started from.
            optimizer: built.

        Returns:
            The rows so far, the index of the best row, and its weights. None where nothing was saved.
        """
        if self.state.content is None:
            return None
        rows, best = self.state.content["rows"], self.state.content["best"]
        epoch = len(rows) - 1
        best_weights = self.state.arrays(f"weights-{best}") if best else model.get_weights()
        model.set_weights(self.state.arrays(f"weights-{epoch}"))
        for variable, value in zip(optimizer.variables, self.state.arrays(f"optimizer-{epoch}"), strict=True):
            variable.assign(value)
        return rows, best, best_weights
