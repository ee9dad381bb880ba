"""Saved state of a training run: all that the next epoch needs, written after each epoch. Start at `Snapshots`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from thaw.network.backend import active_device
from thaw.network.history import Row
from thaw.network.replicas import is_first_process, refuse_different
from thaw.runtime.resume import State, open_state, read_state
from thaw.training.reporting import EpochEnd, Observer, Position


@contextmanager
def shared_state(stage: str, parameters: Mapping[str, Any], inputs: Sequence[Path]) -> Iterator[State]:
    """The state of a run of this machine, as `open_state` has it; of several processes the first alone writes it.

    Raises:
        ThawError: another process does not find what the first one has saved.
    """
    key = stage, parameters, inputs, str(active_device())
    if is_first_process():
        with open_state(*key) as state:
            refuse_different("when they opened the state", "open")
            refuse_different("the saved state that they find", state.content)
            yield state
    else:
        refuse_different("when they opened the state", "open")  # waits until the first one has
        state = read_state(*key)
        refuse_different("the saved state that they find", state.content)
        yield state


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
