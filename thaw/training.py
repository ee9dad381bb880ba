"""One training run at one cut: epochs, learning rate, early stopping, the best epoch restored."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from thaw import seeds
from thaw.errors import ThawError
from thaw.network import Network, adapt_batch_norm
from thaw.params import Augment, Training

Row = dict[str, Any]


@dataclass(frozen=True)
class Examples:
    """Inputs (n, ...) and labels, integers (n,); inputs may be memory-mapped."""

    inputs: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Mix:
    """Mixup: each batch is mixed with itself in another order, inputs and labels alike.

    Zhang et al., "mixup" (2018); of activations: Verma et al., "Manifold Mixup" (2019).

    Attributes:
        alpha: the share of the one is drawn from Beta(alpha, alpha), once for a batch; 0 never mixes.
        classes: labels become rows of so many shares.
        seed: what the draws follow, next to the number of the batch.
    """

    alpha: float
    classes: int
    seed: tuple[object, ...]

    def __call__(self, number: int, inputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = np.eye(self.classes, dtype=np.float32)[labels]
        if not self.alpha:
            return np.array(inputs), rows
        generator = seeds.generator(*self.seed, number)
        share = np.float32(generator.beta(self.alpha, self.alpha))
        other = generator.permutation(len(labels))
        inputs = np.asarray(inputs, np.float32)
        return share * inputs + (1 - share) * inputs[other], share * rows + (1 - share) * rows[other]


class Batches(keras.utils.PyDataset):
    """Batches of examples in a given order.

    Attributes:
        seconds: spent on making batches so far. TensorFlow makes them beside the steps, so that these
            wait no longer than that; JAX makes each between two steps, which wait just that long.
    """

    def __init__(
        self, examples: Examples, batch_size: int, order: np.ndarray | None = None, mix: Mix | None = None
    ) -> None:
        """Take the rows in `order`, without a last short batch; without `order` all rows as they lie."""
        super().__init__()
        self.examples, self.batch_size, self.order, self.mix = examples, batch_size, order, mix
        self.seconds = 0.0

    def __len__(self) -> int:
        if self.order is not None:
            return len(self.order) // self.batch_size
        return math.ceil(len(self.examples) / self.batch_size)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        started = time.perf_counter()
        rows = slice(number * self.batch_size, (number + 1) * self.batch_size)
        # Sorted rows are read from a memory map in one direction; within a batch order has no effect.
        chosen = rows if self.order is None else np.sort(self.order[rows])
        inputs, labels = self.examples.inputs[chosen], self.examples.labels[chosen]
        # A slice of a memory map is not read before it is copied.
        batch = (np.array(inputs), labels) if self.mix is None else self.mix(number, inputs, labels)
        self.seconds += time.perf_counter() - started
        return batch


@dataclass(frozen=True)
class Data:
    """What a phase learns from.

    Attributes:
        depth: the cut whose stored activations these are; None for pictures.
        views: the training examples of an epoch, counted from 1.
        val: validation examples.
    """

    depth: int | None
    views: Callable[[int], Examples]
    val: Examples


@dataclass(frozen=True)
class Run:
    """What a run is, apart from the model and the data.

    Attributes:
        stage: the DVC stage, such as unfreeze@all; randomness is drawn by its name.
        phase: what the curve calls it.
        training: epochs, learning rate and the like.
        batch_size: examples per step.
        seed: of everything random in it.
        history: rows of the phases before; epochs are counted on from them.
        mixup: alpha of mixed training inputs; 0 never mixes.
    """

    stage: str
    phase: str
    training: Training
    batch_size: int
    seed: int
    history: list[Row]
    mixup: float = 0.0


def fit(
    model: keras.Model,
    run: Run,
    views: Callable[[int], Examples],
    val: Examples,
    report: Callable[[list[Row]], None],
) -> list[Row]:
    """Train a model and leave in it the weights of its best epoch.

    The best epoch is the one of the highest validation accuracy, of the lowest validation loss
    among equals; the weights that the run starts from count as epoch 0, so that no run ends worse
    on validation than it began.

    Args:
        model: from inputs to logits; what is to stay as it is, is frozen.
        run: the settings.
        views: the training examples of an epoch, counted from 1.
        val: validation examples.
        report: called with the rows so far at the start and after each epoch.

    Returns:
        One row per epoch, the first for the starting weights: epoch (counted through all phases),
        phase, learning_rate (halfway through the epoch), train_loss, train_accuracy, val_loss,
        val_accuracy, and best, which is true for the row whose weights the model has now.

    Raises:
        ThawError: the loss is no longer finite.
    """
    training = run.training
    before = run.history[-1]["epoch"] if run.history else 0
    steps = len(views(1)) // run.batch_size
    if steps == 0:
        raise ThawError(f"batch_size: received {run.batch_size}; accepted: 1 to {len(views(1))}, the training pictures")
    schedule = learning_rate(training, steps)
    model.compile(
        optimizer=keras.optimizers.Adam(schedule),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )

    def batches(examples: Examples, order: np.ndarray | None, alpha: float, *drawn: object) -> Batches:
        return Batches(examples, run.batch_size, order, Mix(alpha, model.output_shape[-1], drawn))

    def evaluate() -> dict[str, float]:
        return model.evaluate(batches(val, None, 0.0), verbose=0, return_dict=True)

    rows = [_row(before, run.phase, None, None, evaluate())]
    best, best_weights = rows[0], model.get_weights()
    report(rows)
    stepping = loading = 0.0
    for epoch in range(1, training.epochs + 1):
        started = time.perf_counter()
        order = seeds.generator(run.seed, run.stage, "order", epoch).permutation(len(views(epoch)))
        seeds.reseed(model, run.seed, run.stage, "layers", epoch)
        examples = batches(views(epoch), order, run.mixup, run.seed, run.stage, "mixup", epoch)
        logs = model.fit(examples, epochs=1, shuffle=False, verbose=0).history
        stepping += time.perf_counter() - started
        loading += examples.seconds
        rate = float(schedule((epoch - 0.5) * steps)) if callable(schedule) else schedule
        rows.append(_row(before + epoch, run.phase, rate, logs, evaluate()))
        _refuse_infinite(rows[-1], run)
        if _rank(rows[-1]) > _rank(best):
            best, best_weights = rows[-1], model.get_weights()
        report(rows)
        print(_line(run, epoch, rows[-1], time.perf_counter() - started), flush=True)
        if _stops(training, epoch, best["epoch"] - before):
            print(f"{run.stage}: no better validation accuracy in {training.patience} epochs; stopping", flush=True)
            break
    if stepping:
        print(f"{run.stage}: waited for data at most {loading / stepping:.1%} of {stepping:.1f} s of steps", flush=True)
    model.set_weights(best_weights)
    for row in rows:
        row["best"] = row is best
    return rows


def fit_network(
    network: Network, run: Run, data: Data, *, augment: Augment, batch_norm: str, report: Callable[[list[Row]], None]
) -> list[Row]:
    """Train what is thawed of a network, and its head, from the cut that the data starts at.

    Args:
        network: frozen up to its cut; has the weights of the best epoch afterwards.
        run: the settings; mixup is of stored activations alone.
        data: pictures, which are augmented anew each epoch, or activations stored at or below the cut.
        augment: of pictures.
        batch_norm: mode of thawed BatchNorm, inference or train.
        report: as for `fit`.

    Returns:
        The rows of `fit`.
    """
    if data.depth is None:
        run = replace(run, mixup=0.0)
    if batch_norm == "train":
        adapt_batch_norm(network.layers(), steps=len(data.views(1)) // run.batch_size)
    return fit(network.classifier(data.depth, augment, batch_norm), run, data.views, data.val, report)


def learning_rate(training: Training, steps: int) -> keras.optimizers.schedules.LearningRateSchedule | float:
    """The learning rate over a run of `steps` steps an epoch.

    Constant, or a linear warm-up to the peak and half a cosine down to 0 (Loshchilov and Hutter,
    "SGDR", 2017; warm-up as in Goyal et al., "Accurate, Large Minibatch SGD", 2017).
    """
    if training.lr_schedule == "constant":
        return training.learning_rate
    warmup = round(training.warmup_epochs * steps)
    total = training.epochs * steps
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(training.learning_rate, max(total, 1))
    return keras.optimizers.schedules.CosineDecay(
        # The first step, too, is to learn something.
        initial_learning_rate=training.learning_rate / warmup,
        warmup_target=training.learning_rate,
        warmup_steps=warmup,
        decay_steps=max(total - warmup, 1),
    )


def _stops(training: Training, epoch: int, best: int) -> bool:
    """Whether patience is at its end; epochs of warm-up do not try it."""
    if training.patience is None:
        return False
    warmup = math.ceil(training.warmup_epochs) if training.lr_schedule == "cosine" else 0
    return epoch - max(best, warmup) >= training.patience


def _row(epoch: int, phase: str, rate: float | None, train: dict | None, val: dict) -> Row:
    numbers = {
        "learning_rate": rate,
        "train_loss": train["loss"][0] if train else None,
        "train_accuracy": train["accuracy"][0] if train else None,
        "val_loss": val["loss"],
        "val_accuracy": val["accuracy"],
    }
    # 7 digits are what float32 has; more would only be noise to read.
    return {"epoch": epoch, "phase": phase} | {
        name: None if value is None else float(f"{value:.7g}") for name, value in numbers.items()
    }


def _rank(row: Row) -> tuple[float, float]:
    return row["val_accuracy"], -row["val_loss"]


def _refuse_infinite(row: Row, run: Run) -> None:
    if not math.isfinite(row["train_loss"] + row["val_loss"]):
        raise ThawError(
            f"{run.stage}: the loss is {row['train_loss']} in training and {row['val_loss']} in validation in epoch "
            f"{row['epoch']}, at a learning rate of {row['learning_rate']:.2g}; a lower learning_rate may help"
        )


def _line(run: Run, epoch: int, row: Row, seconds: float) -> str:
    return (
        f"{run.stage}: epoch {epoch}/{run.training.epochs}, {seconds:.1f} s, "
        f"train loss {row['train_loss']:.4f} accuracy {row['train_accuracy']:.4f}, "
        f"val loss {row['val_loss']:.4f} accuracy {row['val_accuracy']:.4f}"
    )
