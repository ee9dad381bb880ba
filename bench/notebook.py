"""Fine-tuning as in a careful notebook, with Keras alone: `fit` of the head, then of all blocks. Start at `main`.

    python -m bench.notebook RESULT

It takes the settings of params.yaml, those of all blocks from the phase `all`, and the images of data/processed. Of
thaw it uses the table of backbones alone: how each is built, and the images that it expects. RESULT is a JSON file of
scores, and of the seconds since the process has started. It leaves out lr_decay and moments.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import psutil
import tensorflow as tf
import yaml

from thaw.backbones import BACKBONES

PROCESSED = Path("data/processed")
Params = dict[str, Any]


def main() -> None:
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    keras.utils.set_random_seed(params["seed"])
    if tf.config.list_physical_devices("GPU"):
        keras.config.set_dtype_policy("mixed_bfloat16")
    train, val, test = (read_split(split) for split in ("train", "val", "test"))
    clock = Clock()
    model, backbone = build(params, classes=train[1].shape[1])
    for name, phase in (("head", params["head"]), ("all", params["schedule"]["phases"]["all"])):
        backbone.trainable = name == "all"
        fit(model, name, phase, params, train, val, clock)
    _, accuracy = model.evaluate(batches(*test, params["batch_size"]), verbose=0)
    kept = max(val_accuracy for _, phase, val_accuracy in clock.reached if phase == "all")
    metrics = {"accuracy": accuracy, "val_accuracy": kept}
    Path(sys.argv[1]).write_text(json.dumps({"metrics": metrics, "reached": clock.reached}), encoding="utf-8")


def read_split(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (n, 32, 32, 3), and labels, one-hot float32 (n, classes)."""
    classes = json.loads((PROCESSED / "classes.json").read_text(encoding="utf-8"))["classes"]
    images, labels = (np.load(PROCESSED / split / f"{name}.npy") for name in ("images", "labels"))
    return images, np.eye(len(classes), dtype=np.float32)[labels]


class InMode(keras.layers.Layer):
    """The backbone with BatchNorm in the mode of the settings, which `fit` would override in a functional model."""

    def __init__(self, backbone: keras.Model, batch_norm: str) -> None:
        super().__init__()
        self.backbone, self.batch_norm = backbone, batch_norm

    def call(self, images, training=False):
        return self.backbone(images, training=training and self.batch_norm == "train")


def build(params: Params, classes: int) -> tuple[keras.Model, keras.layers.Layer]:
    """The network, from images of 32 x 32 pixels to logits, and its backbone."""
    section, head = params["backbone"], params["head"]
    table, size = BACKBONES[section["name"]], section["image_size"]
    # keras.applications has a copy of ImageNet's weights on this machine; a file is loaded here.
    weights = "imagenet" if section["weights"] == "imagenet" else None
    network = table.build(size, section["alpha"], weights)
    if section["weights"] not in ("imagenet", "none"):
        network.load_weights(section["weights"])
    batch_norm = params["schedule"]["phases"]["all"]["batch_norm"]
    if batch_norm == "train":
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.9  # the statistics of a momentum of 0.999 lag for epochs
    backbone = InMode(network, batch_norm)
    inputs = x = keras.Input((32, 32, 3))
    if table.channels == "bgr":
        x = x[..., ::-1]
    scale, shift = 1 / np.array(table.std), -np.array(table.mean) / table.std
    x = keras.layers.Rescaling(scale.tolist(), shift.tolist(), dtype="float32")(x)
    x = backbone(keras.layers.Resizing(size, size, dtype="float32")(x))
    x = {"avg": keras.layers.GlobalAveragePooling2D, "flatten": keras.layers.Flatten}[head["pool"]]()(x)
    if head["units"]:
        x = keras.layers.Dense(head["units"], activation="relu")(x)
    x = keras.layers.Dropout(head["dropout"])(x)
    return keras.Model(inputs, keras.layers.Dense(classes, dtype="float32")(x)), backbone


def fit(
    model: keras.Model,
    name: str,
    phase: Params,
    params: Params,
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    clock: "Clock",
) -> None:
    """Train the trainable layers, and keep the weights of the epoch with the highest validation accuracy."""
    clock.phase = name
    rate, average = Rate(phase, len(train[0]) // params["batch_size"]), phase["average"]
    model.compile(
        keras.optimizers.Adam(rate, use_ema=average > 0, ema_momentum=average),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=phase["label_smoothing"]),
        metrics=["accuracy"],
    )
    averaged = [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if average else []
    best = keras.callbacks.EarlyStopping("val_accuracy", patience=phase["epochs"], restore_best_weights=True)
    model.fit(
        training_batches(*train, phase, params),
        validation_data=batches(*val, params["batch_size"]),
        epochs=phase["epochs"],
        callbacks=[clock, *averaged, best],
        verbose=0,
    )


class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate over steps: constant, or a linear warm-up and half a cosine down to the final rate."""

    def __init__(self, phase: Params, steps: int) -> None:
        cosine = phase["lr_schedule"] == "cosine"
        first = phase["learning_rate"]
        last = phase["final_learning_rate"] if cosine else first
        self.warmup = max(round(phase["warmup_epochs"] * steps), 1) if cosine else 1
        self.decay = keras.optimizers.schedules.CosineDecay(first, phase["epochs"] * steps, alpha=last / first)

    def __call__(self, step):
        return self.decay(step) * tf.minimum((tf.cast(step, tf.float32) + 1) / self.warmup, 1)


def training_batches(images: np.ndarray, labels: np.ndarray, phase: Params, params: Params) -> tf.data.Dataset:
    """Shuffled batches, augmented and mixed beside the training steps."""
    layers, mixup = augmentation(params["augment"]), phase["mixup"]

    def change(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x = tf.cast(x, tf.float32)
        for layer in layers:
            x = layer(x, training=True)
        if mixup:
            # A share from Beta(m, m); in float64: for a small m, float32 has draws of 0.
            one, other = tf.unstack(tf.random.gamma([2], mixup, dtype=tf.float64))
            share = tf.cast(one / (one + other), tf.float32)
            order = tf.random.shuffle(tf.range(params["batch_size"]))
            x, y = (share * part + (1 - share) * tf.gather(part, order) for part in (x, y))
        return x, y

    data = tf.data.Dataset.from_tensor_slices((images, labels)).cache()
    data = data.shuffle(len(images)).batch(params["batch_size"], drop_remainder=True)
    return not_tuned(data.map(change, num_parallel_calls=os.cpu_count()).prefetch(2))


def augmentation(section: Params) -> list[keras.layers.Layer]:
    """Keras's random layers for the section `augment`."""
    layers = {
        "flip": lambda _: keras.layers.RandomFlip("horizontal"),
        "translation": lambda share: keras.layers.RandomTranslation(share, share, interpolation="nearest"),
        "rotation": keras.layers.RandomRotation,
        "zoom": keras.layers.RandomZoom,
        "contrast": keras.layers.RandomContrast,
    }
    return [make(section[key]) for key, make in layers.items() if section[key]]


def batches(images: np.ndarray, labels: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """Batches of all images in their order."""
    return not_tuned(tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size).prefetch(2))


def not_tuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset without autotuning, which may hold up the end of an epoch for as long as the epoch took."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


class Clock(keras.callbacks.Callback):
    """Notes the time and the validation accuracy at the end of each epoch.

    Attributes:
        phase: name of the phase.
        reached: seconds since the process has started, phase, validation accuracy.
    """

    def __init__(self) -> None:
        super().__init__()
        self.phase, self.reached = "", []

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        seconds = time.time() - psutil.Process().create_time()
        self.reached.append((round(seconds, 2), self.phase, logs["val_accuracy"]))
        print(f"{self.phase}: epoch {epoch + 1}, {seconds:.0f} s, val accuracy {logs['val_accuracy']:.4f}", flush=True)


if __name__ == "__main__":
    main()
