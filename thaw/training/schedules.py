"""Learning rates over steps, and when a run stops early."""

import math

import keras

from thaw.config.schema import Training


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
