"""What a training loop tells to those who print, draw and save: `Observer`. `Printer` prints its lines."""

import statistics
import time
from dataclasses import dataclass

import keras
import numpy as np

from thaw.config.schema import Training
from thaw.network.history import Row, kept_start
from thaw.runtime.progress import format_duration


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One pass over examples.

    Attributes:
        scores: loss and accuracy.
        seconds: of the pass.
        waiting: seconds, of these, in which steps may have waited for data.
        compiling: seconds, of these, that the first step took longer than the others.
    """

    scores: dict[str, float]
    seconds: float
    waiting: float
    compiling: float


@dataclass(frozen=True)
class Position:
    """Where a run is: the weights of its model and the values of its optimizer's variables."""

    weights: list[np.ndarray]
    optimizer: list[np.ndarray]

    @classmethod
    def of(cls, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> "Position":
        return cls(model.get_weights(), [variable.numpy() for variable in optimizer.variables])

    def assign(self, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        """Go there."""
        model.set_weights(self.weights)
        for variable, value in zip(optimizer.variables, self.optimizer, strict=True):
            variable.assign(value)


@dataclass(frozen=True, kw_only=True)
class EpochEnd:
    """What observers are told after an epoch.

    Attributes:
        epoch: of this run, counted from 1.
        rows: the history of this run so far; the first row is of the starting weights.
        best: index of the best row.
        position: after this epoch; averages of weights are in its optimizer.
        training, validation: the passes of this epoch.
    """

    epoch: int
    rows: list[Row]
    best: int
    position: Position
    training: Pass
    validation: Pass


class Observer:
    """Is told what a training loop does; what a subclass does not override does nothing."""

    def on_start(self, rows: list[Row], resumed: bool) -> None:
        """Before the first epoch, or the first after saved state; with the rows so far."""

    def on_epoch(self, end: EpochEnd) -> None:
        """After each epoch."""

    def on_end(self, rows: list[Row], stopped_early: bool) -> None:
        """After the last epoch, with all rows; that of the weights which are kept is marked."""


class Printer(Observer):
    """Prints a line for each epoch, with the time left, and how long steps waited for data.

    It measures an epoch from line to line, so it comes after observers whose time belongs to the epoch.
    """

    def __init__(self, stage: str, training: Training) -> None:
        self.stage, self.training = stage, training
        self._last_line = 0.0
        # Of each epoch, without what is compiled once.
        self._durations: list[float] = []
        self._stepping = self._waiting = 0.0

    def on_start(self, rows: list[Row], resumed: bool) -> None:
        if resumed:
            print(
                f"{self.stage}: resuming from saved state, after epoch {len(rows) - 1}/{self.training.epochs}",
                flush=True,
            )
        self._last_line = time.perf_counter()

    def on_epoch(self, end: EpochEnd) -> None:
        now = time.perf_counter()
        seconds, self._last_line = now - self._last_line, now
        self._durations.append(seconds - end.training.compiling - end.validation.compiling)
        self._stepping += end.training.seconds
        self._waiting += end.training.waiting
        row = end.rows[-1]
        print(
            f"{self.stage}: epoch {end.epoch}/{self.training.epochs}, {seconds:.1f} s, {self._time_left(end.epoch)}"
            f"train loss {row['train_loss']:.4f} accuracy {row['train_accuracy']:.4f}, "
            f"val loss {row['val_loss']:.4f} accuracy {row['val_accuracy']:.4f}",
            flush=True,
        )

    def on_end(self, rows: list[Row], stopped_early: bool) -> None:
        if stopped_early:
            epochs = f"{self.training.patience} epochs"
            print(f"{self.stage}: validation accuracy did not improve in {epochs}: stopping", flush=True)
        if kept_start(rows):
            print(f"{self.stage}: no epoch was better on validation than the start, which is kept", flush=True)
        if self._stepping:
            share = self._waiting / self._stepping
            print(f"{self.stage}: waited for data at most {share:.1%} of {self._stepping:.1f} s of steps", flush=True)

    def _time_left(self, epoch: int) -> str:
        if epoch == self.training.epochs:
            return ""
        # What the first epoch took, and did not compile in its first step, it may still have compiled later.
        usual = statistics.median(self._durations[1:] or self._durations)
        return f"at most {format_duration(usual * (self.training.epochs - epoch))} left, "
