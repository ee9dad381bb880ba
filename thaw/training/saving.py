"""Saved state of a training run: all that the next epoch needs, written after each epoch. Start at `Snapshots`."""

import keras

from thaw.network.history import Row
from thaw.runtime.resume import State
from thaw.training.reporting import EpochEnd, Observer, Position


class Snapshots(Observer):
    """Saves a run after each epoch, and resumes it.

    Saved are weights, optimizer and history, and weights and optimizer of the best epoch. Random layers and the order
    of examples are not: they follow from the epoch's number.
    """

    def __init__(self, state: State) -> None:
        self.state = state

    def on_epoch(self, end: EpochEnd) -> None:
        arrays = {f"weights-{end.epoch}": end.position.weights, f"optimizer-{end.epoch}": end.position.optimizer}
        keep = [f"weights-{end.best}", f"optimizer-{end.best}"]
        self.state.save({"rows": end.rows, "best": end.best}, arrays, keep)

    def resume(
        self, model: keras.Model, optimizer: keras.optimizers.Optimizer
    ) -> tuple[list[Row], int, Position] | None:
        """Set model and optimizer to what they were after the last epoch.

        Args:
            model: has the weights that the run started from.
            optimizer: built; has the moments that the run started from.

        Returns:
            The rows so far, the index of the best row, and its position. None where nothing was saved.
        """
        if self.state.content is None:
            return None
        rows, best = self.state.content["rows"], self.state.content["best"]
        best_position = self._position(best) if best else Position.of(model, optimizer)
        self._position(len(rows) - 1).assign(model, optimizer)
        return rows, best, best_position

    def _position(self, epoch: int) -> Position:
        return Position(*(self.state.arrays(f"{name}-{epoch}") for name in ("weights", "optimizer")))
