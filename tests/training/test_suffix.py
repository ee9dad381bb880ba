"""Training from stored activations is training through the whole network: the claim that thaw's speed rests on.

Without a random view the two ways do the same arithmetic, but for the order of sums in layers that one
compiles without the other and, with float16, for the rounding of what is stored (2**-11 of each value).
Adam divides by the size of a gradient, so that where one is about zero its rounding is a step of the
learning rate; SGD keeps small differences small, and is what the weights are compared under.
"""

import keras
import numpy as np
import pytest

from tests.helpers.examples import (
    OnRows,
    augment,
    data,
    example_images,
    extraction,
    measure_statistics,
    narrowest,
    run,
    small_network,
    training,
)
from tests.helpers.speed import by_backbone
from thaw.backbones import BACKBONES
from thaw.config.schema import Extract
from thaw.data.examples import Examples, TrainingData
from thaw.data.stored import phase_data, read_activations
from thaw.extraction.extract import extract_features
from thaw.network.build import Network, build_network
from thaw.network.history import Row
from thaw.network.seeds import seed_initialisers
from thaw.training import loop
from thaw.training.loop import train_network

TRAIN, VAL = example_images(24), example_images(12, seed=1)
CLASSES = ["cat", "dog", "frog", "horse"]
PLAIN = augment()


def started(name: str, frozen: int) -> Network:
    """The same network each time, with dropout, and BatchNorm that has seen something; frozen below a cut."""
    seed_initialisers(0, name)
    built = build_network(name, 32, narrowest(name), 32)
    measure_statistics(built, TRAIN.inputs)
    seed_initialisers(0, "head")
    built.attach("avg", 16, 0.3, len(CLASSES))
    built.freeze(frozen)
    return built


def trained(
    network: Network, of: TrainingData, batch_norm: str, epochs: int, rate: float
) -> tuple[list[Row], list[np.ndarray]]:
    """The rows, and the weights after the last epoch, be it the best or not."""
    settings = run(training(epochs=epochs, learning_rate=rate), augment=PLAIN, batch_norm=batch_norm)
    seen = []
    watch = OnRows(lambda rows: seen.append(network.classifier().get_weights()))
    return train_network(network, settings, of, [watch]).rows, seen[-1]


class PlainSGD(keras.optimizers.SGD):
    """What the loop asks of an optimizer, without moments and averages."""

    def __init__(self, rate, *others) -> None:
        super().__init__(rate)

    def assign_averages(self) -> None:
        pass

    def moments(self, variable) -> None:
        return None


@pytest.fixture
def sgd(monkeypatch):
    monkeypatch.setattr(loop, "Adam", PlainSGD)


def frozen_below(name: str, depth: int) -> int:
    blocks = BACKBONES[name].blocks
    return sum(count for _, count in blocks[: len(blocks) - depth])


@pytest.mark.parametrize(
    ("name", "frozen", "depth", "batch_norm", "dtype"),
    by_backbone(
        [
            ("vgg16", frozen_below("vgg16", 2), 2, "inference", "float32"),
            pytest.param("vgg16", frozen_below("vgg16", 2), 2, "inference", "float16", marks=pytest.mark.slow),
            ("resnet18", frozen_below("resnet18", 2), 2, "inference", "float32"),
            ("resnet18", frozen_below("resnet18", 2), 2, "inference", "float16"),
            ("resnet18", frozen_below("resnet18", 2), 2, "train", "float32"),
            ("mobilenetv2", frozen_below("mobilenetv2", 0), 0, "inference", "float32"),
            ("mobilenetv2", frozen_below("mobilenetv2", 1), 1, "train", "float32"),
            ("mobilenetv2", frozen_below("mobilenetv2", 2), 2, "inference", "float32"),
            ("mobilenetv2", frozen_below("mobilenetv2", 2), 2, "inference", "float16"),
            ("resnet50v15", frozen_below("resnet50v15", 1), 1, "inference", "float32"),
            ("convnexttiny", frozen_below("convnexttiny", 2), 2, "inference", "float32"),
            # Between two layers that drop branches.
            ("efficientnetv2b0", 200, 1, "train", "float32"),
            # 50 layers end inside a residual; what lies between there and the boundary below stays frozen.
            ("mobilenetv2", 50, 5, "inference", "float32"),
            ("mobilenetv2", 50, 5, "train", "float32"),
        ]
    ),
)
def test_stored_activations_train_as_the_whole_network(tmp_path, sgd, name, frozen, depth, batch_norm, dtype):
    # Networks with random weights multiply a difference from step to step, and float16 starts with a larger one.
    epochs, rate, rel, share = {"float32": (2, 1e-4, 2e-4, 1e-3), "float16": (1, 1e-4, 3e-2, 0.25)}[dtype]
    whole = started(name, frozen)
    before = whole.classifier().get_weights()
    rows, weights = trained(whole, data(TRAIN, VAL), batch_norm, epochs, rate)
    assert whole.depth_above(frozen) == depth

    suffix = started(name, frozen)
    settings = Extract(cuts=sorted({0, depth}), budget_gb=1.0, dtype=dtype, batch_size=8)
    extract_features(tmp_path / "features", suffix, extraction(TRAIN, VAL, settings))
    stored = phase_data(tmp_path / "features", depth, CLASSES)
    assert stored.depth == depth
    suffix_rows, suffix_weights = trained(suffix, stored, batch_norm, epochs, rate)

    for column in ("train_loss", "val_loss"):
        mine, theirs = ([row[column] for row in one[1:]] for one in (suffix_rows, rows))
        assert mine == pytest.approx(theirs, rel=rel), column
    for mine, theirs, start in zip(suffix_weights, weights, before, strict=True):
        if np.array_equal(theirs, start):
            np.testing.assert_array_equal(mine, start)
    moved = distance(weights, before)
    assert moved > 0, "or nothing would be compared"
    assert distance(suffix_weights, weights) < share * moved


def distance(some: list[np.ndarray], others: list[np.ndarray]) -> float:
    return float(np.sqrt(sum(np.square(a - b, dtype=np.float64).sum() for a, b in zip(some, others, strict=True))))


@pytest.mark.parametrize("batch_norm", ["inference", "train"])
def test_dropout_in_thawed_blocks_drops_the_same_from_activations_as_from_images(sgd, batch_norm):
    def start() -> Network:
        network = small_network(dropout=0.5)
        network.attach("avg", None, 0.3, len(CLASSES))
        network.freeze(5)
        return network

    rows, weights = trained(start(), data(TRAIN, VAL), batch_norm, epochs=2, rate=1e-2)
    suffix = start()
    below = suffix.features([1], "avg", None)
    stored = [
        Examples(keras.tree.flatten(below.predict(some.inputs, verbose=0))[0], some.labels) for some in (TRAIN, VAL)
    ]
    suffix_rows, suffix_weights = trained(suffix, data(*stored, depth=1), batch_norm, epochs=2, rate=1e-2)
    assert [row["train_loss"] for row in suffix_rows[1:]] == pytest.approx([row["train_loss"] for row in rows[1:]])
    for mine, theirs in zip(suffix_weights, weights, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def test_views_take_turns_from_epoch_to_epoch_and_the_last_epoch_has_the_images_as_they_are(tmp_path):
    small = started("cnn", frozen_below("cnn", 1))
    varied = augment(flip=True, translation=0.2, views=3)
    settings = Extract(cuts=[0, 1], budget_gb=1.0, dtype="float32", batch_size=8)
    extract_features(tmp_path / "features", small, extraction(TRAIN, VAL, settings, augment=varied))
    stored = phase_data(tmp_path / "features", 1, CLASSES)
    views = [read_activations(tmp_path / "features", 1, view).inputs for view in range(3)]
    for epoch, view in ((1, 0), (2, 2), (3, 1), (4, 0)):
        np.testing.assert_array_equal(stored.view(epoch, epochs=4).inputs, views[view])
    assert not np.array_equal(views[0], views[1])
    plain = small.features([1], "avg", None).predict(TRAIN.inputs, batch_size=8, verbose=0)
    np.testing.assert_array_equal(views[0], keras.tree.flatten(plain)[0])


@pytest.mark.parametrize(
    ("name", "layers", "depth"),
    [("mobilenetv2", 0, 7), ("mobilenetv2", 8, 7), ("mobilenetv2", 9, 6), ("mobilenetv2", 50, 5), ("vgg16", 19, 0)],
)
def test_a_cut_inside_a_block_counts_for_the_boundary_below(name, layers, depth):
    assert build_network(name, 32, narrowest(name), 32).depth_above(layers) == depth
