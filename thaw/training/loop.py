"""One training run at one cut. Start at `TrainingLoop.run`, which reads like a table of contents."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np

from thaw.config.schema import Augment, Training
from thaw.data.examples import Examples, TrainingData
from thaw.errors import NotFinite, ThawError
from thaw.network.build import Network, adapt_batch_norm
from thaw.network.history import Row, best_row, rank
from thaw.network.seeds import reseed_layers
from thaw.runtime.progress import Progress
from thaw.runtime.resume import State
from thaw.training.adam import Adam, Moments, Update
from thaw.training.feed import BatchPlan, Feed
from thaw.training.moments import moments_of, updates_of
from thaw.training.reporting import EpochEnd, Observer, Pass, Position
from thaw.training.saving import Snapshots
from thaw.training.schedules import rate_schedule, stops_early, warmup_steps


@dataclass(frozen=True, kw_only=True)
class Run:
    """The settings of a run: all that its result follows from, apart from network and data.

    Attributes:
        stage: the DVC stage, such as unfreeze@all; randomness is drawn by its name.
        phase: its name in the history.
        training: epochs, learning rate and the like.
        batch_size: examples per step.
        seed: of everything random in it.
        augment: of images, drawn anew in each epoch; stored activations are not augmented.
        batch_norm: mode of trainable BatchNorm, inference or train.
        lr_decay: factor of the learning rate for each block below the top one.
        moments: Adam's, by name of the variable, of an earlier run that this one carries on.
        history: rows of the phases before. Epochs are counted on from them, and the weights that they ended with
            are not evaluated again.
        mixup: alpha of mixed training inputs; 0 never mixes.
        class_weights: weight of each class in the training loss, (classes,); None: all the same.
    """

    stage: str
    phase: str
    training: Training
    batch_size: int
    seed: int
    augment: Augment
    batch_norm: str
    lr_decay: float = 1.0
    moments: Mapping[str, Moments] = field(default_factory=dict)
    history: list[Row] = field(default_factory=list)
    mixup: float = 0.0
    class_weights: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a run leaves beside the weights: one row per epoch, and Adam's moments by name of the variable."""

    rows: list[Row]
    moments: dict[str, Moments]


def train_network(
    network: Network,
    run: Run,
    data: TrainingData,
    observers: Sequence[Observer] = (),
    state: State | None = None,
) -> Trained:
    """Train the trainable part of a network, and its head, from the cut that the data starts at.

    Args:
        network: frozen below its cut; has the weights of the best epoch afterwards.
        run: the settings.
        data: images, or activations stored at or below the cut.
        observers: told in this order, after the state is saved.
        state: where the run is saved after each epoch, and resumed from; None saves nothing.

    Returns:
        The rows of `TrainingLoop.run`, and the moments of the best epoch.
    """
    if run.batch_norm == "train":
        adapt_batch_norm(network.layers(), len(data.views[0]) // run.batch_size, run.training.average)
    model = network.classifier(data.depth, run.augment, run.batch_norm)
    loop = TrainingLoop(model, run, data, observers, state, updates_of(network, run.lr_decay, run.moments))
    rows = loop.run()
    return Trained(rows=rows, moments=moments_of(network, loop.optimizer))


def steps_at_once(depth: int | None) -> int:
    """Steps per call of the compiled code, for training data stored at a depth; None for images.

    What Keras does between two steps takes a fifth as long as a step of the head alone.
    """
    return 16 if depth == 0 else 1


class TrainingLoop:
    """Trains a model and leaves the weights of its best epoch in it, and the moments in `optimizer`.

    Where weights are averaged, their averages are validated and left. The best epoch has the highest validation
    accuracy, among equals the lowest validation loss. The weights that the run starts from count as epoch 0, so no run
    ends worse on validation than it began.
    """

    def __init__(
        self,
        model: keras.Model,
        run: Run,
        data: TrainingData,
        observers: Sequence[Observer] = (),
        state: State | None = None,
        updates: Sequence[Update] = (),
    ) -> None:
        """Get ready to train.

        Args:
            model: from inputs to logits; its frozen layers stay as they are.
            run: the settings.
            data: inputs of the model, and labels.
            observers, state: as for `train_network`.
            updates: of variables that differ from others in rate or moments.

        Raises:
            ThawError: a batch has more examples than there are.
        """
        self.model, self.settings, self.data = model, run, data
        self.snapshots = None if state is None else Snapshots(state)
        self.observers = [*observers] if self.snapshots is None else [self.snapshots, *observers]
        self.epochs = run.training.epochs
        self.earlier_epochs = run.history[-1]["epoch"] if run.history else 0
        examples = data.view(1, self.epochs)
        self.steps = len(examples) // run.batch_size
        if self.steps == 0:
            raise ThawError(
                f"batch_size: received {run.batch_size}; accepted: 1 to {len(examples)}, the training images"
            )
        self.learning_rate = rate_schedule(run.training, self.steps)
        self.warmup = warmup_steps(run.training, self.steps)
        self.optimizer = Adam(self.learning_rate, updates, self.warmup, run.training.average)
        self.train_feed = Feed(model, examples, run.batch_size, mixes=run.mixup > 0)
        self.val_feed = Feed(model, data.val, run.batch_size, mixes=False)
        self.train_feed.compile(self.optimizer, steps_at_once(data.depth))
        self.val_feed.compile(None, steps_at_once(data.depth))
        self.rows: list[Row] = []
        self.best = 0
        self.best_position: Position

    def run(self) -> list[Row]:
        """Train all epochs, or those that saved state leaves.

        Returns:
            One row per epoch, the first for the starting weights: epoch (counted through all phases), phase,
            learning_rate (halfway through the epoch), train_loss, train_accuracy, val_loss, val_accuracy, and best,
            which is true for the row whose weights the model has now.

        Raises:
            NotFinite: a loss or a weight is no longer finite.
        """
        self._start_or_resume()
        for epoch in range(len(self.rows), self.epochs + 1):
            if self._stops_before(epoch):
                break
            examples, plan = self._draw_plan(epoch)
            training = self._train(epoch, examples, plan)
            self._refuse_training_loss(epoch)
            position = Position.of(self.model, self.optimizer)
            self.optimizer.assign_averages()
            validation = self._validate(f"epoch {epoch} of {self.epochs}, validation")
            self._refuse_weights(epoch, position.weights, validation)
            self._add_row(epoch, training, validation)
            self._keep_best(position)
            self._tell_epoch(epoch, training, validation, position)
            self.model.set_weights(position.weights)
        self._restore_best()
        self._tell_end()
        return self.rows

    def _start_or_resume(self) -> None:
        saved = None if self.snapshots is None else self.snapshots.resume(self.model, self.optimizer)
        if saved is None:
            self.rows, self.best = [self._first_row()], 0
            self.best_position = Position.of(self.model, self.optimizer)
        else:
            self.rows, self.best, self.best_position = saved
        for observer in self.observers:
            observer.on_start(self.rows, resumed=saved is not None)

    def _first_row(self) -> Row:
        """The row of the starting weights, which the phase before has evaluated where there is one."""
        if self.settings.history:
            row = best_row(self.settings.history)
            scores = {"loss": row["val_loss"], "accuracy": row["val_accuracy"]}
        else:
            scores = self._validate("before the first epoch").scores
        return self._row(0, None, None, scores)

    def _stops_before(self, epoch: int) -> bool:
        return stops_early(self.settings.training, epoch - 1, self.best)

    def _draw_plan(self, epoch: int) -> tuple[Examples, BatchPlan]:
        """The examples of an epoch and their order; everything random follows from the epoch's number."""
        run, examples = self.settings, self.data.view(epoch, self.epochs)
        reseed_layers(self.model, run.seed, run.stage, "layers", epoch)
        return examples, BatchPlan.draw(len(examples), run.batch_size, run.mixup, run.seed, run.stage, epoch)

    def _train(self, epoch: int, examples: Examples, plan: BatchPlan) -> Pass:
        def fit(reach: Callable[[int], None]) -> dict[str, float]:
            smoothing = self.settings.training.label_smoothing
            return self.train_feed.fit(examples, plan, self.settings.class_weights, reach, smoothing)

        return self._pass(f"epoch {epoch} of {self.epochs}", self.train_feed, self.steps, fit)

    def _validate(self, what: str) -> Pass:
        def evaluate(reach: Callable[[int], None]) -> dict[str, float]:
            return self.val_feed.evaluate(self.data.val, reach)

        return self._pass(what, self.val_feed, self.val_feed.steps(self.data.val), evaluate)

    def _pass(
        self, what: str, feed: Feed, steps: int, work: Callable[[Callable[[int], None]], dict[str, float]]
    ) -> Pass:
        started, waited = time.perf_counter(), feed.seconds
        with Progress(f"{self.settings.stage}: {what}", steps, "steps") as progress:
            scores = work(progress.reach)
        return Pass(
            scores=scores,
            seconds=time.perf_counter() - started,
            waiting=feed.seconds - waited,
            compiling=progress.extra(),
        )

    def _refuse_training_loss(self, epoch: int) -> None:
        if (step := self.train_feed.bad_step) is not None:
            raise self._not_finite("the loss", epoch, step)

    def _refuse_weights(self, epoch: int, weights: list[np.ndarray], validation: Pass) -> None:
        # ReLU turns NaN into 0 on some devices: a network may be broken and its loss not show it.
        if not all(np.isfinite(weight).all() for weight in weights):
            raise self._not_finite("a weight", epoch, self.steps)
        if not math.isfinite(validation.scores["loss"]):
            raise self._not_finite("the loss in validation", epoch, self.steps)

    def _not_finite(self, what: str, epoch: int, step: int) -> NotFinite:
        rate = self._rate_at(epoch - 1 + step / self.steps)
        return NotFinite(
            f"{self.settings.stage}: {what} is not finite at epoch {epoch}/{self.epochs}, step {step}, learning rate "
            f"{rate:.2g}; a lower learning_rate may help; the epochs before are saved"
        )

    def _add_row(self, epoch: int, training: Pass, validation: Pass) -> None:
        self.rows.append(self._row(epoch, self._rate_at(epoch - 0.5), training.scores, validation.scores))

    def _row(self, epoch: int, rate: float | None, training: dict[str, float] | None, val: dict[str, float]) -> Row:
        numbers = {
            "learning_rate": rate,
            "train_loss": training["loss"] if training else None,
            "train_accuracy": training["accuracy"] if training else None,
            "val_loss": val["loss"],
            "val_accuracy": val["accuracy"],
        }
        # 7 digits are what float32 has; more would only be noise to read.
        return {"epoch": self.earlier_epochs + epoch, "phase": self.settings.phase} | {
            name: None if value is None else float(f"{value:.7g}") for name, value in numbers.items()
        }

    def _rate_at(self, epochs: float) -> float:
        """The learning rate after so many epochs of this run, which may be a part of one, without warm-up."""
        rate = self.learning_rate
        return float(rate(epochs * self.steps)) if callable(rate) else rate

    def _keep_best(self, position: Position) -> None:
        if rank(self.rows[-1]) > rank(self.rows[self.best]):
            self.best, self.best_position = len(self.rows) - 1, position

    def _tell_epoch(self, epoch: int, training: Pass, validation: Pass, position: Position) -> None:
        end = EpochEnd(
            epoch=epoch,
            rows=self.rows,
            best=self.best,
            position=position,
            training=training,
            validation=validation,
        )
        for observer in self.observers:
            observer.on_epoch(end)

    def _tell_end(self) -> None:
        for observer in self.observers:
            observer.on_end(self.rows, stopped_early=len(self.rows) <= self.epochs)

    def _restore_best(self) -> None:
        self.best_position.assign(self.model, self.optimizer)
        if self.best:
            self.optimizer.assign_averages()
        for number, row in enumerate(self.rows):
            row["best"] = number == self.best
