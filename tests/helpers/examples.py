"""What several test files start from: images that can be told apart, and settings in full."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from thaw.backbones import BACKBONES
from thaw.config.schema import Augment, Backbone, Extract, Training
from thaw.data.examples import Examples, TrainingData
from thaw.extraction.plan import Extraction
from thaw.network.build import Network
from thaw.network.checkpoint import named_weights
from thaw.network.history import Row
from thaw.network.seeds import seed_initialisers
from thaw.training.loop import Run
from thaw.training.reporting import EpochEnd, Observer


def example_images(count: int, classes: int = 4, seed: int = 0) -> Examples:
    """Images, uint8 (count, 32, 32, 3), whose colour tells the class, under noise of their own."""
    # The colours do not follow the seed, so that training and validation images show the same classes.
    colours = np.random.default_rng(99).integers(50, 206, (classes, 1, 1, 3))
    labels = (np.arange(count) % classes).astype(np.int32)
    noise = np.random.default_rng(seed).integers(-50, 51, (count, 32, 32, 3))
    return Examples((colours[labels] + noise).astype(np.uint8), labels)


def points(count: int, classes: int = 3, seed: int = 0, width: int = 6, spread: float = 0.6) -> Examples:
    """Features, float32 (count, width), around one centre for each class."""
    centres = np.random.default_rng(99).normal(size=(classes, width))
    labels = (np.arange(count) % classes).astype(np.int32)
    noise = np.random.default_rng(seed).normal(size=(count, width)) * spread
    return Examples((centres[labels] + noise).astype(np.float32), labels)


def data(train: Examples, val: Examples | None = None, depth: int | None = None) -> TrainingData:
    """The same training examples in every epoch, and `val`, or the same again, for validation."""
    return TrainingData(depth, [train], val or train)


@dataclass(frozen=True)
class DataByEpoch(TrainingData):
    """Training examples that are what `views` gives for an epoch, counted from 1."""

    views: Callable[[int], Examples]

    def view(self, epoch: int, epochs: int) -> Examples:
        return self.views(epoch)


class OnRows(Observer):
    """Calls `report` with the rows so far, at the start and after each epoch."""

    def __init__(self, report: Callable[[list[Row]], object]) -> None:
        self.report = report

    def on_start(self, rows: list[Row], resumed: bool) -> None:
        self.report(rows)

    def on_epoch(self, end: EpochEnd) -> None:
        self.report(end.rows)


def augment(**chosen) -> Augment:
    """No augmentation but for what is chosen."""
    nothing = {
        "name": "none",
        "flip": False,
        "translation": 0.0,
        "rotation": 0.0,
        "zoom": 0.0,
        "contrast": 0.0,
        "views": 1,
        "seed": 0,
    }
    return Augment(**nothing | chosen)


def narrowest(name: str) -> float | None:
    """The least alpha that the backbone has ImageNet weights for; None where it has no alpha."""
    return BACKBONES[name].alphas[0] if BACKBONES[name].alphas else None


def backbone(name: str, **chosen) -> Backbone:
    """The section of the parameters: a narrow backbone with random weights, but for what is chosen."""
    usual = {"weights": "none", "image_size": 32, "source": None, "alpha": narrowest(name)}
    usual |= {"learning_rate": 0.001, "learning_rate_all": 0.001, "batch_norm": "inference"}
    chosen = usual | chosen
    return Backbone(name=name, weights_file=chosen["weights"], **chosen)


def training(**chosen) -> Training:
    usual = {"epochs": 3, "learning_rate": 0.01, "lr_schedule": "constant", "warmup_epochs": 0.0, "patience": None}
    usual |= {"final_learning_rate": 0.0, "label_smoothing": 0.0, "average": 0.0}
    return Training(**usual | chosen)


def run(settings: Training | None = None, **chosen) -> Run:
    usual = {"stage": "unfreeze@all", "phase": "all", "batch_size": 8, "seed": 0}
    usual |= {"augment": augment(), "batch_norm": "inference"}
    return Run(training=settings or training(), **usual | chosen)


def extraction(train: Examples, val: Examples, settings: Extract, **chosen) -> Extraction:
    usual = {"pool": "avg", "classes": ["cat", "dog", "frog", "horse"], "augment": augment()}
    return Extraction(train=train, val=val, settings=settings, **usual | chosen)


def small_network(dropout: float = 0.0) -> Network:
    """A network without head that is traced in a moment: two blocks with BatchNorm, of 8x8 and 4x4 positions.

    It takes images of 16 pixels and normalises them as the cnn does.

    Args:
        dropout: of each block's output.
    """
    seed_initialisers(0, "small_network")
    x = start = keras.Input((16, 16, 3))
    blocks = []
    for name, filters in (("low", 8), ("high", 16)):
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False, name=f"{name}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
        x = keras.layers.ReLU(name=f"{name}_relu")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"{name}_drop")(x)
        blocks.append(keras.Model(start, x, name=name))
        start = x
    order = ["input"] + [layer.name for block in blocks for layer in block.layers[1:]]
    return Network("cnn", 16, None, 32, blocks, order)


def weights(model) -> dict[str, np.ndarray]:
    """Copies of all weights of a model (or of a list of layers), by layer and name."""
    layers = model if isinstance(model, list) else model.layers
    return {name: np.array(weight.numpy()) for name, weight in named_weights(layers)}


def scramble(model, seed: int) -> None:
    """Give every weight values of its own, so that no two of one shape can be mistaken for each other."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(generator.normal(size=weight.shape).astype("float32"))


def measure_statistics(network: Network, images: np.ndarray) -> None:
    """Set all BatchNorm statistics to those of some images, as training would in the end.

    With the statistics that a new network starts with, deep ones give almost nothing.
    """
    norms = [layer for layer in network.layers() if isinstance(layer, keras.layers.BatchNormalization)]
    before = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    x = keras.Model(*network.image_input())(images)
    for block in network.blocks:
        x = block(x, training=True)
    for layer, momentum in zip(norms, before, strict=True):
        layer.momentum = momentum


# What may happen to a file, by name.
SPOILT: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "cut_short": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "something_else": lambda file: file.write_bytes(b"neither an array nor safetensors" * 50),
}
