"""One training run at one cut: epochs, learning rate, early stopping, the best epoch restored."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from thaw.config.schema import Augment, Training
from thaw.data.examples import Examples, TrainingData
from thaw.errors import NotFinite, ThawError
from thaw.network.build import Network, adapt_batch_norm
from thaw.network.history import Row, last_scores, rank
from thaw.network.seeds import reseed_layers
from thaw.runtime.progress import Progress, format_duration
from thaw.runtime.resume import State
from thaw.training.adam import adam
from thaw.training.feed import BatchPlan, Feed
from thaw.training.schedules import rate_schedule, stops_early


@dataclass(frozen=True)
class Run:
    """What a run is, apart from the model and the data.

    Attributes:
        stage: the DVC stage, such as unfreeze@all; randomness is drawn by its name.
        phase: what the curve calls it.
        training: epochs, learning rate and the like.
        batch_size: examples per step.
        seed: of everything random in it.
        history: rows of the phases before; epochs are counted on from them, and the weights they ended with
            are not evaluated again.
        mixup: alpha of mixed training inputs; 0 never mixes.
        state: where the run is saved after each epoch, and goes on from; None saves nothing.
        class_weights: what an example of each class counts in the training loss, (classes,); None all the same.
    """

    stage: str
    phase: str
    training: Training
    batch_size: int
    seed: int
    history: list[Row]
    mixup: float = 0.0
    state: State | None = None
    class_weights: np.ndarray | None = None


def train_model(
    model: keras.Model,
    run: Run,
    views: Callable[[int], Examples],
    val: Examples,
    report: Callable[[list[Row]], None],
    steps_at_once: int = 1,
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
        steps_at_once: steps for which the backend's compiled code goes on by itself.

    Returns:
        One row per epoch, the first for the starting weights: epoch (counted through all phases),
        phase, learning_rate (halfway through the epoch), train_loss, train_accuracy, val_loss,
        val_accuracy, and best, which is true for the row whose weights the model has now.

    Raises:
        NotFinite: a loss or a weight is no longer finite.
    """
    training = run.training
    before = run.history[-1]["epoch"] if run.history else 0
    first = views(1)
    steps = len(first) // run.batch_size
    if steps == 0:
        raise ThawError(f"batch_size: received {run.batch_size}; accepted: 1 to {len(first)}, the training pictures")
    schedule = rate_schedule(training, steps)
    trains = Feed(model, first, run.batch_size, mixes=run.mixup > 0)
    validates = Feed(model, val, run.batch_size, mixes=False)
    optimizer = adam(schedule)
    trains.compile(optimizer, steps_at_once)
    validates.compile(None, steps_at_once)

    best_weights = model.get_weights()
    if run.state is None or run.state.content is None:
        start = last_scores(run.history) or _validate(f"{run.stage}: before the first epoch", validates, val)[0]
        rows = [_row(before, run.phase, None, None, start)]
        best = rows[0]
    else:
        rows, best, best_weights = _resume(run.state, model, optimizer, best_weights)
        print(f"{run.stage}: goes on from saved state, after epoch {len(rows) - 1}/{training.epochs}", flush=True)
    report(rows)
    stepping, spent = 0.0, []
    for epoch in range(len(rows), training.epochs + 1):
        if stops_early(training, epoch - 1, best["epoch"] - before):
            print(f"{run.stage}: no better validation accuracy in {training.patience} epochs; stopping", flush=True)
            break
        started = time.perf_counter()
        examples = first if epoch == 1 else views(epoch)
        plan = BatchPlan.draw(len(examples), run.batch_size, run.mixup, run.seed, run.stage, epoch)
        reseed_layers(model, run.seed, run.stage, "layers", epoch)
        what = f"{run.stage}: epoch {epoch} of {training.epochs}"
        with Progress(what, steps, "steps") as doing:
            logs = trains.fit(examples, plan, run.class_weights, doing.reach)
        stepping += time.perf_counter() - started

        def rate_at(epochs: float) -> float:
            return float(schedule(epochs * steps)) if callable(schedule) else schedule

        if trains.bad_step is not None:
            raise _not_finite(run, "the loss", epoch, trains.bad_step, rate_at(epoch - 1 + trains.bad_step / steps))
        rate = rate_at(epoch - 0.5)
        found, extra = _validate(what, validates, val)
        rows.append(_row(before + epoch, run.phase, rate, logs, found))
        weights = model.get_weights()
        # ReLU turns NaN into 0 on some devices: a network may be broken and its loss not show it.
        if not all(np.isfinite(weight).all() for weight in weights):
            raise _not_finite(run, "a weight", epoch, steps, rate_at(epoch))
        if not math.isfinite(rows[-1]["val_loss"]):
            raise _not_finite(run, "the loss in validation", epoch, steps, rate_at(epoch))
        if rank(rows[-1]) > rank(best):
            best, best_weights = rows[-1], weights
        if run.state is not None:
            _save(run.state, rows, rows.index(best), weights, optimizer)
        report(rows)
        seconds = time.perf_counter() - started
        spent.append(seconds - doing.extra() - extra)
        print(_line(run, epoch, rows[-1], seconds, spent), flush=True)
    if stepping:
        share = trains.seconds / stepping
        print(f"{run.stage}: waited for data at most {share:.1%} of {stepping:.1f} s of steps", flush=True)
    model.set_weights(best_weights)
    for row in rows:
        row["best"] = row is best
    return rows


def _validate(what: str, feed: Feed, val: Examples) -> tuple[dict[str, float], float]:
    """Loss and accuracy, and the seconds that a first step took longer than others."""
    with Progress(f"{what}, validation", feed.steps(val), "steps") as doing:
        return feed.evaluate(val, doing.reach), doing.extra()


def _save(
    state: State, rows: list[Row], best: int, weights: list[np.ndarray], optimizer: keras.optimizers.Optimizer
) -> None:
    """Save all that the next epoch needs; random layers and the order of examples follow from its number."""
    epoch = len(rows) - 1
    arrays = {
        f"weights-{epoch}": weights,
        f"optimizer-{epoch}": [variable.numpy() for variable in optimizer.variables],
    }
    state.save({"rows": rows, "best": best}, arrays, keep=[f"weights-{best}"])


def _resume(
    state: State, model: keras.Model, optimizer: keras.optimizers.Optimizer, start: list[np.ndarray]
) -> tuple[list[Row], Row, list[np.ndarray]]:
    """Fill model and optimizer; the rows so far, the best of them, and its weights, `start` for the first."""
    rows, best = state.content["rows"], state.content["best"]
    epoch = len(rows) - 1
    model.set_weights(state.arrays(f"weights-{epoch}"))
    for variable, value in zip(optimizer.variables, state.arrays(f"optimizer-{epoch}"), strict=True):
        variable.assign(value)
    return rows, rows[best], state.arrays(f"weights-{best}") if best else start


def train_network(
    network: Network,
    run: Run,
    data: TrainingData,
    *,
    augment: Augment,
    batch_norm: str,
    report: Callable[[list[Row]], None],
) -> list[Row]:
    """Train what is thawed of a network, and its head, from the cut that the data starts at.

    Args:
        network: frozen up to its cut; has the weights of the best epoch afterwards.
        run: the settings.
        data: pictures, which are augmented anew each epoch, or activations stored at or below the cut.
        augment: of pictures.
        batch_norm: mode of thawed BatchNorm, inference or train.
        report: as for `fit`.

    Returns:
        The rows of `fit`.
    """
    if batch_norm == "train":
        adapt_batch_norm(network.layers(), steps=len(data.views[0]) // run.batch_size)

    def views(epoch: int) -> Examples:
        return data.view(epoch, run.training.epochs)

    model = network.classifier(data.depth, augment, batch_norm)
    return train_model(model, run, views, data.val, report, steps_at_once(data.depth))


def steps_at_once(depth: int | None) -> int:
    """Steps for which compiled code goes on by itself at a cut.

    What Keras does between two steps takes a fifth as long as a step of the head alone.
    """
    return 16 if depth == 0 else 1


def _row(epoch: int, phase: str, rate: float | None, train: dict | None, val: dict) -> Row:
    numbers = {
        "learning_rate": rate,
        "train_loss": train["loss"] if train else None,
        "train_accuracy": train["accuracy"] if train else None,
        "val_loss": val["loss"],
        "val_accuracy": val["accuracy"],
    }
    # 7 digits are what float32 has; more would only be noise to read.
    return {"epoch": epoch, "phase": phase} | {
        name: None if value is None else float(f"{value:.7g}") for name, value in numbers.items()
    }


def _not_finite(run: Run, what: str, epoch: int, step: int, rate: float) -> NotFinite:
    return NotFinite(
        f"{run.stage}: {what} is not finite at epoch {epoch}/{run.training.epochs}, step {step}, learning rate "
        f"{rate:.2g}; a lower learning_rate may help; the epochs before are saved"
    )


def _line(run: Run, epoch: int, row: Row, seconds: float, spent: list[float]) -> str:
    # What the first epoch took, and did not compile in its first step, it may still have compiled later.
    left = statistics.median(spent[1:] or spent) * (run.training.epochs - epoch)
    return (
        f"{run.stage}: epoch {epoch}/{run.training.epochs}, {seconds:.1f} s, "
        f"{f'at most {format_duration(left)} left, ' if epoch < run.training.epochs else ''}"
        f"train loss {row['train_loss']:.4f} accuracy {row['train_accuracy']:.4f}, "
        f"val loss {row['val_loss']:.4f} accuracy {row['val_accuracy']:.4f}"
    )
