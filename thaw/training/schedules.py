"""Learning rates over steps, and when a run stops early."""

import math

import keras

from thaw.config.schema import Training


def rate_schedule(training: Training, steps: int) -> keras.optimizers.schedules.LearningRateSchedule | float:
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


def stops_early(training: Training, epoch: int, best: int) -> bool:
    """Whether patience is at its end; epochs of warm-up do not try it."""
    if training.patience is None:
        return False
    warmup = math.ceil(training.warmup_epochs) if training.lr_schedule == "cosine" else 0
    return epoch - max(best, warmup) >= training.patience
