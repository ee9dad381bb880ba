"""BatchNorm folded into convolutions computes and learns what the two layers do."""

import keras
import numpy as np
import pytest

from tests.helpers.examples import example_images, measure_statistics, narrowest
from tests.helpers.speed import by_backbone
from thaw.backbones import BACKBONES
from thaw.network import build
from thaw.network.build import build_network
from thaw.network.folding import Convolution, Depthwise, Folded, Fused, fold, foldable_pairs, same_paddings
from thaw.network.seeds import seed_initialisers


def norms(model: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


@pytest.mark.parametrize("name", by_backbone(BACKBONES))
def test_every_batch_norm_of_every_backbone_is_folded_and_gives_what_it_gave(name):
    seed_initialisers(0, name)
    network = build_network(name, 32, narrowest(name), 32)
    # Of fewer, statistics of the last maps, of a single place, would be so small that rounding shows.
    images = example_images(32).inputs
    measure_statistics(network, images)
    # With other images than those measured, EfficientNetV2's activations would grow from block to block.
    x = keras.Model(*network.image_input())(images[:4])
    for block in network.blocks:
        pairs = foldable_pairs(block)
        assert set(pairs) == {layer.name for layer in norms(block)}
        folded = fold(block, pairs)
        assert not norms(folded)
        expected = np.asarray(block(x, training=False))
        np.testing.assert_allclose(np.asarray(folded(x)), expected, atol=1e-5 * np.abs(expected).max())
        x = expected


def both(conv: keras.layers.Layer, **options) -> tuple[keras.Model, keras.Model]:
    """A convolution and a BatchNorm that has seen something, as they are and folded."""
    start = keras.Input((8, 8, 6))
    norm = keras.layers.BatchNormalization(**options)
    model = keras.Model(start, norm(conv(start)))
    generator = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(generator.uniform(0.5, 1.5, weight.shape).astype("float32"))
    return model, fold(model, foldable_pairs(model))


CONVOLUTIONS = {
    "same": lambda: keras.layers.Conv2D(4, 3, padding="same", use_bias=False),
    "bias": lambda: keras.layers.Conv2D(4, 3, strides=2),
    "dilated": lambda: keras.layers.Conv2D(4, 3, dilation_rate=2),
    "groups": lambda: keras.layers.Conv2D(4, 3, groups=2),
    "depthwise": lambda: keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False),
    "depthwise, several outputs of each": lambda: keras.layers.DepthwiseConv2D(3, depth_multiplier=2),
}


@pytest.mark.parametrize("conv", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}, {"epsilon": 0.1}], ids=str)
def test_folded_weights_compute_and_learn_the_same(conv, options):
    plain, folded = both(conv(), **options)
    assert not norms(folded)
    x = np.random.default_rng(1).normal(size=(5, 8, 8, 6)).astype("float32")
    expected = np.asarray(plain(x, training=False))
    np.testing.assert_allclose(np.asarray(folded(x)), expected, rtol=1e-4, atol=1e-4)
    assert_equal_steps(plain, folded, x)


def assert_equal_steps(plain: keras.Model, other: keras.Model, x: np.ndarray) -> None:
    """Two models over the same weights learn the same in one step, in inference mode."""
    start, ends = plain.get_weights(), []
    for model in (plain, other):
        plain.set_weights(start)
        whole = keras.Model(model.input, build.InferenceMode(model)(model.input))
        whole.compile(keras.optimizers.SGD(1e-3), "mse", run_eagerly=True, jit_compile=False)
        whole.train_on_batch(x, np.zeros((len(x), *whole.output.shape[1:])))
        ends.append(plain.get_weights())
    assert any(not np.array_equal(a, b) for a, b in zip(start, ends[0], strict=True))
    for mine, theirs, before in zip(ends[1], ends[0], start, strict=True):
        np.testing.assert_allclose(mine - before, theirs - before, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 8, 6), (6,)], ids=str)
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}, {"momentum": 0.5}], ids=str)
def test_batch_statistics_are_computed_learnt_through_and_kept_as_keras_does(options, shape):
    start = keras.Input(shape)
    plain = keras.Model(start, keras.layers.BatchNormalization(**options)(start))
    generator = np.random.default_rng(0)
    for weight in plain.weights:
        weight.assign(generator.uniform(0.5, 1.5, weight.shape).astype("float32"))
    fused = fold(plain, {}, keep=[norms(plain)[0].name])
    x = generator.normal(2, 3, (5, *shape)).astype("float32")
    np.testing.assert_allclose(np.asarray(fused(x)), np.asarray(plain(x)), rtol=1e-5)
    start, ends, losses = plain.get_weights(), [], []
    for model in (plain, fused):
        plain.set_weights(start)
        model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True, jit_compile=False)
        losses.append(model.train_on_batch(x, x))
        ends.append(plain.get_weights())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert all(not np.array_equal(a, b) for a, b in zip(start, ends[0], strict=True))
    for mine, theirs in zip(ends[1], ends[0], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4)


@pytest.mark.parametrize(
    "options", [{}, {"strides": 2}, {"dilation_rate": 2}, {"use_bias": False}, {"activation": "relu"}], ids=str
)
def test_a_convolution_with_one_group_a_channel_computes_and_learns_the_same_as_a_depthwise_one(options):
    start = keras.Input((8, 8, 6))
    plain = keras.Model(start, keras.layers.Conv2D(6, 3, padding="same", groups=6, **options)(start))
    for weight in plain.weights:
        weight.assign(np.random.default_rng(0).normal(size=weight.shape).astype("float32"))
    fast = fold(plain, {})
    assert [type(layer) for layer in fast.layers[1:]] == [Depthwise]
    x = np.random.default_rng(1).normal(size=(5, 8, 8, 6)).astype("float32")
    np.testing.assert_allclose(np.asarray(fast(x)), np.asarray(plain(x)), rtol=1e-4, atol=1e-4)
    assert_equal_steps(plain, fast, x)


@pytest.mark.parametrize(
    "options", [{"filters": 12, "groups": 6}, {"filters": 6, "groups": 3}, {"filters": 6}], ids=str
)
def test_other_convolutions_are_left_as_they_are(options):
    start = keras.Input((8, 8, 6))
    plain = keras.Model(start, keras.layers.Conv2D(kernel_size=3, **options)(start))
    assert [layer for layer in fold(plain, {}).layers if isinstance(layer, Depthwise)] == []


def padded(pad, side: int, conv: keras.layers.Layer, norm: bool = False) -> keras.Model:
    """A padding and a convolution, and a BatchNorm that has seen something."""
    start = keras.Input((side, side, 6))
    x = conv(keras.layers.ZeroPadding2D(pad)(start))
    model = keras.Model(start, keras.layers.BatchNormalization()(x) if norm else x)
    generator = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(generator.uniform(0.5, 1.5, weight.shape).astype("float32"))
    return model


CONV, DEPTHWISE = keras.layers.Conv2D, keras.layers.DepthwiseConv2D
SAME = {
    "MobileNetV2's, even": (((0, 1), (0, 1)), 8, lambda: DEPTHWISE(3, strides=2, use_bias=False)),
    "MobileNetV2's, odd": (1, 9, lambda: DEPTHWISE(3, strides=2)),
    "larger": (((1, 2), (1, 2)), 8, lambda: CONV(4, 5, strides=2, activation="relu")),
    "each place": (1, 8, lambda: CONV(4, 3)),
    "of other sides": ((0, 1), 9, lambda: CONV(4, (1, 3), strides=(1, 2))),
    "dilated": (2, 8, lambda: CONV(4, 3, dilation_rate=2)),
}


@pytest.mark.parametrize("norm", [False, True], ids=["alone", "normed"])
@pytest.mark.parametrize(("pad", "side", "conv"), SAME.values(), ids=SAME)
def test_a_padding_is_left_to_the_convolution_which_computes_and_learns_the_same(pad, side, conv, norm):
    plain = padded(pad, side, conv(), norm)
    pairs = foldable_pairs(plain)
    fast = fold(plain, pairs)
    assert type(fast.layers[1]) is (Folded if pairs else Convolution)
    assert not [layer for layer in fast.layers if isinstance(layer, keras.layers.ZeroPadding2D)]
    assert fast.output.shape == plain.output.shape
    x = np.random.default_rng(1).normal(size=(5, side, side, 6)).astype("float32")
    np.testing.assert_allclose(np.asarray(fast(x)), np.asarray(plain(x)), rtol=1e-4, atol=1e-4)
    assert_equal_steps(plain, fast, x)


OTHERS = {
    "a ResNet's": (3, 8, lambda: CONV(4, 7, strides=2)),
    "on one side too many": (((0, 1), (1, 1)), 8, lambda: DEPTHWISE(3, strides=2)),
    "before one that pads": (((0, 1), (0, 1)), 8, lambda: CONV(4, 3, strides=2, padding="same")),
    "more than same": (2, 8, lambda: CONV(4, 3)),
}


@pytest.mark.parametrize(("pad", "side", "conv"), OTHERS.values(), ids=OTHERS)
def test_other_paddings_are_left_as_they_are(pad, side, conv):
    plain = padded(pad, side, conv())
    assert same_paddings(plain) == {}
    assert isinstance(fold(plain, {}).layers[1], keras.layers.ZeroPadding2D)


def test_a_padding_that_is_used_twice_is_left_as_it_is():
    start = keras.Input((8, 8, 6))
    x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)))(start)
    assert same_paddings(keras.Model(start, [DEPTHWISE(3, strides=2)(x), x])) == {}


def test_a_padding_of_one_channel_is_not_lost():
    start = keras.Input((8, 8, 1))
    plain = keras.Model(start, CONV(1, 3)(keras.layers.ZeroPadding2D(1)(start)))
    x = np.random.default_rng(1).normal(size=(5, 8, 8, 1)).astype("float32")
    fast = np.asarray(fold(plain, {})(x))
    np.testing.assert_allclose(fast, np.asarray(plain(x)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [32, 96, 160])
def test_mobilenetv2_pads_by_its_convolutions(side):
    network = build_network("mobilenetv2", side, 0.35, 32)
    pads = [layer for layer in network.layers() if isinstance(layer, keras.layers.ZeroPadding2D)]
    found = [pad for block in network.blocks for pad in same_paddings(block).values()]
    assert len(pads) == len(found) == 4


def test_dropout_is_left_out_unless_it_is_kept():
    start = keras.Input((4,))
    low, high = keras.layers.Dropout(0.5, name="low"), keras.layers.Dropout(0.5, name="high")
    model = keras.Model(start, high(keras.layers.Dense(4)(low(start))))
    kept = fold(model, {}, keep=["high"])
    assert [layer for layer in kept.layers if isinstance(layer, keras.layers.Dropout)] == [high]
    x = np.ones((8, 4), "float32")
    expected = np.asarray(model(x, training=False))
    np.testing.assert_array_equal(np.asarray(fold(model, {})(x, training=True)), expected)
    np.testing.assert_array_equal(np.asarray(kept(x, training=False)), expected)
    assert not np.array_equal(np.asarray(kept(x, training=True)), expected)


def test_what_is_no_plain_convolution_is_left_as_it_is():
    start = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization()(start)
    activated = keras.layers.Conv2D(3, 1, activation="relu")(x)
    x = keras.layers.BatchNormalization()(activated)
    used_twice = keras.layers.Conv2D(3, 1)(x)
    x = keras.layers.Add()([keras.layers.BatchNormalization()(used_twice), used_twice])
    last = keras.layers.Conv2D(3, 1)(x)
    model = keras.Model(start, [keras.layers.BatchNormalization()(last), last])
    assert foldable_pairs(model) == {}
    assert len(norms(fold(model, {}))) == 4


def test_folding_again_and_keeping_some_does_not_add_up():
    plain, _ = both(CONVOLUTIONS["same"]())
    pairs = foldable_pairs(plain)
    kept = fold(plain, pairs, keep=list(pairs))
    assert [layer.norm for layer in kept.layers if isinstance(layer, Fused)] == norms(plain)
    again = fold(plain, pairs)
    assert not norms(again)
    assert {id(weight) for weight in again.weights} == {id(weight) for weight in plain.weights}
