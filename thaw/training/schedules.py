"""The length of a run, learning rates over steps, and when a run stops early."""

import math

import keras

from thaw.config.schema import Training


def with_min_steps(training: Training, min_steps: int, steps: int) -> Training:
    """The training of a run of `min_steps` steps or more: where its epochs have fewer, it has more epochs.

    Warm-up and patience keep their share of it.

    Args:
        training: as the parameters have it; of no epochs, it stays so.
        min_steps: of the whole run.
        steps: of an epoch.
    """
    if not training.epochs or not steps or training.epochs * steps >= min_steps:
        return training
    epochs = math.ceil(min_steps / steps)
    factor = epochs / training.epochs
    changes = {
        "epochs": epochs,
        "warmup_epochs": training.warmup_epochs * factor,
        "patience": None if training.patience is None else math.ceil(training.patience * factor),
    }
    return training.model_copy(update=changes)


def rate_schedule(training: Training, steps: int) -> keras.optimizers.schedules.LearningRateSchedule | float:
    """The learning rate over a run of `steps` steps an epoch, without warm-up, which `adam` has for each variable.

    Constant, or half a cosine from the first to the final rate (Loshchilov and Hutter, "SGDR", 2017).
    """
    first, total = training.learning_rate, training.epochs * steps
    if training.lr_schedule == "constant":
        return first
    return keras.optimizers.schedules.CosineDecay(first, max(total, 1), alpha=training.final_learning_rate / first)


def warmup_steps(training: Training, steps: int) -> int:
    """Steps of warm-up, for runs of `steps` steps an epoch."""
    return round(training.warmup_epochs * steps) if training.lr_schedule == "cosine" else 0


def stops_early(training: Training, epoch: int, best: int) -> bool:
    """Whether patience is at its end; epochs of warm-up do not try it."""
    if training.patience is None:
        return False
    warmup = math.ceil(training.warmup_epochs) if training.lr_schedule == "cosine" else 0
    return epoch - max(best, warmup) >= training.patience
