"""The network put together: modes of BatchNorm, activations at cuts, views, head, resizing."""

import keras
import numpy as np
import pytest

from tests.helpers.examples import augment, data, example_images, run, small_network, training, weights
from thaw.backbones import BACKBONES
from thaw.network.augmentation import augmentation_inputs
from thaw.network.build import Network, adapt_batch_norm, build_head, build_network
from thaw.network.seeds import reseed_layers, seed_initialisers
from thaw.training.loop import train_network

EXAMPLES = example_images(32)
CLASSES = 4


def build(
    image_size: int = 16, pool: str = "avg", units: int | None = None, dropout: float = 0.0, input_size: int = 32
) -> Network:
    """A cnn with a head; 16 pixels are enough where size does not matter."""
    seed_initialisers(0, "test")
    network = build_network("cnn", image_size, None, input_size)
    network.attach(pool, units, dropout, CLASSES)
    return network


def depth_of_images(network: Network) -> int:
    """The cut below all blocks, where the activations are the normalised images."""
    return len(network.blocks)


def seen(network: Network, how=None, view: int = 1) -> np.ndarray:
    """The images of 0 to 255 that the lowest block gets."""
    model = network.features([depth_of_images(network)], "avg", how)
    inputs = augmentation_inputs(EXAMPLES.inputs, how, view) if how else EXAMPLES.inputs
    return np.asarray(predicted(model, inputs)[0]) * 127.5 + 127.5


def predicted(model: keras.Model, inputs=EXAMPLES.inputs) -> list[np.ndarray]:
    return keras.tree.flatten(model.predict(inputs, batch_size=16, verbose=0))


def statistics(network: Network) -> dict[str, np.ndarray]:
    return {key: value for key, value in weights(network.layers()).items() if "/moving_" in key}


def compiled(network: Network, batch_norm: str) -> keras.Model:
    model = network.classifier(batch_norm=batch_norm)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, run_eagerly=True, jit_compile=False)  # tracing would take most of the time
    return model


def one_epoch(network: Network, batch_norm: str, batch_size: int = 16) -> float:
    model = compiled(network, batch_norm)
    history = model.fit(EXAMPLES.inputs, EXAMPLES.labels, batch_size, epochs=1, shuffle=False, verbose=0).history
    return history["loss"][0]


def test_thawed_batch_norm_in_inference_mode_keeps_its_statistics_and_learns_its_scale():
    network = build()
    network.freeze(0)
    before = weights(network.layers())
    one_epoch(network, "inference")
    after = weights(network.layers())
    for name in before:
        stays = "/moving_" in name
        assert np.array_equal(before[name], after[name]) == stays, name
    assert any("/gamma" in name for name in before)


def test_fit_sees_the_network_as_inference_does_where_batch_norm_is_in_inference_mode():
    # One step over all examples: its loss is of the weights that it starts from.
    for batch_norm, same in (("inference", True), ("train", False)):
        network = build()
        network.freeze(0)
        model = compiled(network, batch_norm)
        expected = model.evaluate(EXAMPLES.inputs, EXAMPLES.labels, batch_size=32, verbose=0)
        found = one_epoch(network, batch_norm, batch_size=32)
        assert (found == pytest.approx(expected, rel=1e-5)) == same, batch_norm


@pytest.mark.parametrize("batch_norm", ["inference", "train"])
def test_training_differs_from_inference_by_batch_statistics_alone(batch_norm):
    network = build()
    model = network.classifier(batch_norm=batch_norm)
    x = keras.ops.convert_to_tensor(EXAMPLES.inputs)
    trains, infers = np.asarray(model(x, training=True)), np.asarray(model(x, training=False))
    assert np.array_equal(trains, infers) == (batch_norm == "inference")


def test_batch_norm_in_train_mode_moves_the_statistics_of_thawed_layers_alone():
    network = build()
    frozen = sum(len(block.layers) for block in network.blocks[:2]) - 1  # without the second's input
    network.freeze(frozen)
    before = statistics(network)
    one_epoch(network, "train")
    after = statistics(network)
    for name in before:
        stays = name.startswith(("block1", "block2"))
        assert np.array_equal(before[name], after[name]) == stays, name


@pytest.mark.parametrize(
    ("steps", "average", "momentum"),
    [
        *((steps, 0.0, 0.9) for steps in (0, 1, 50, 100)),
        *((200, 0.0, 0.95), (390, 0.0, 1 - 10 / 390), (5000, 0.0, 0.998), (100, 0.99, 0.99), (5000, 0.99, 0.998)),
    ],
)
def test_thawed_batch_norm_gets_a_momentum_that_the_epoch_can_follow(steps, average, momentum):
    thawed, frozen = keras.layers.BatchNormalization(momentum=0.5), keras.layers.BatchNormalization(momentum=0.5)
    frozen.trainable = False
    adapt_batch_norm([frozen, keras.layers.ReLU(), thawed], steps, average)
    assert thawed.momentum == pytest.approx(momentum)
    assert frozen.momentum == 0.5


def test_a_run_adapts_the_momentum_where_batch_norm_trains():
    network = build()
    network.freeze(BACKBONES["cnn"].layer_count - 7)
    train_network(network, run(training(epochs=1), batch_norm="train"), data(EXAMPLES))
    found = {
        layer.name: layer.momentum for layer in network.layers() if isinstance(layer, keras.layers.BatchNormalization)
    }
    assert found.pop("block4_conv1_bn") == found.pop("block4_conv2_bn") == 0.9
    assert set(found.values()) == {0.99}, "Keras's own, for all that is frozen"


@pytest.mark.parametrize("pool", ["avg", "flatten"])
def test_features_at_the_heads_cut_are_what_the_classifier_gives_its_head(pool):
    network = build(image_size=32, pool=pool)
    classifier = network.classifier()
    pooled = keras.Model(classifier.input, classifier.get_layer("pool").output)
    features = predicted(network.features([0], pool, None))[0]
    assert features.shape == (32, 256 if pool == "avg" else 2 * 2 * 256)
    assert np.ptp(features) > 0
    np.testing.assert_array_equal(features, predicted(pooled)[0])
    logits = network.head.predict(features, batch_size=16, verbose=0)
    np.testing.assert_allclose(logits, predicted(classifier)[0], rtol=1e-5, atol=1e-6)


def test_features_come_in_the_order_asked_for_each_of_its_own_block():
    network = build()
    deep, pooled, pixels, top = predicted(network.features([2, 0, 4, 1], "avg", None))
    assert deep.shape == (32, 4, 4, 64)
    assert pooled.shape == (32, 256)
    assert pixels.shape == (32, 16, 16, 3)
    assert top.shape == (32, 2, 2, 128)
    again = network.blocks[2].predict(deep, batch_size=16, verbose=0)
    np.testing.assert_allclose(again, top, rtol=1e-5, atol=1e-6)


def test_features_use_the_statistics_that_batch_norm_has_whatever_the_mode_and_what_is_thawed():
    network = build()
    network.freeze(0)
    before = statistics(network)
    model = network.features([1], "avg", None)
    x = keras.ops.convert_to_tensor(EXAMPLES.inputs)
    trains, infers = (keras.tree.flatten(model(x, training=mode))[0] for mode in (True, False))
    np.testing.assert_array_equal(np.asarray(trains), np.asarray(infers))
    after = statistics(network)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_features_without_augmentation_are_of_the_images_as_they_are():
    np.testing.assert_allclose(seen(build(32)), EXAMPLES.inputs, atol=1e-3)


@pytest.mark.parametrize(
    "chosen", [{"flip": True, "contrast": 0.3}, {"translation": 0.2, "rotation": 0.1, "zoom": 0.1}]
)
def test_features_with_augmentation_are_of_images_as_they_are_in_the_first_view(chosen):
    network, varied = build(32), augment(**chosen)
    both = predicted(network.features([1], "avg", varied), augmentation_inputs(EXAMPLES.inputs, varied))
    np.testing.assert_array_equal(both[0], predicted(network.features([1], "avg", None))[0])


def test_features_with_augmentation_are_of_augmented_images_in_predict():
    views = seen(build(32), augment(flip=True)).round().astype(np.uint8)
    same = [np.array_equal(view, image) for view, image in zip(views, EXAMPLES.inputs, strict=True)]
    mirrored = [np.array_equal(view, image[:, ::-1]) for view, image in zip(views, EXAMPLES.inputs, strict=True)]
    assert all(a or b for a, b in zip(same, mirrored, strict=True))
    assert any(same)
    assert any(mirrored)


@pytest.mark.parametrize(
    "chosen", [{"flip": True}, {"translation": 0.2}, {"rotation": 0.1}, {"zoom": 0.2}, {"contrast": 0.3}]
)
def test_each_augmentation_changes_images_by_its_seed_and_stays_within_their_range(chosen):
    network, settings = build(32), augment(**chosen, seed=5)
    first = seen(network, settings)
    assert not np.allclose(first, EXAMPLES.inputs, atol=1)
    assert first.min() >= -1e-3
    assert first.max() <= 255 + 1e-3
    np.testing.assert_array_equal(seen(network, settings), first)
    assert not np.allclose(seen(network, settings, view=2), first, atol=1)
    assert not np.allclose(seen(network, augment(**chosen, seed=6)), first, atol=1)


def test_a_translation_moves_whole_pixels():
    views = seen(build(32), augment(translation=0.2))
    # To within the rounding of the normalisation.
    np.testing.assert_allclose(views, views.round(), atol=1e-3)


def test_a_classifier_augments_in_training_and_never_in_inference():
    network = build()
    x = keras.ops.convert_to_tensor(EXAMPLES.inputs)
    augmenting, plain = network.classifier(augment=augment(flip=True, translation=0.3)), network.classifier()
    expected = np.asarray(plain(x, training=False))
    np.testing.assert_array_equal(np.asarray(augmenting(x, training=False)), expected)
    np.testing.assert_array_equal(np.asarray(plain(x, training=True)), expected)
    assert not np.allclose(np.asarray(augmenting(x, training=True)), expected)


@pytest.mark.parametrize(("units", "sizes"), [(None, [(5, 3), (3,)]), (7, [(5, 7), (7,), (7, 3), (3,)])])
def test_a_head_has_a_hidden_layer_where_units_are_given(units, sizes):
    head = build_head(5, units, 0.0, 3)
    assert [weight.shape for weight in head.weights] == sizes
    assert head.output.shape == (None, 3)


def test_a_head_without_hidden_layer_and_dropout_is_one_affine_map():
    head = build_head(5, None, 0.0, 3)
    x = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")
    kernel, bias = (weight.numpy() for weight in head.weights)
    for training_mode in (False, True):
        np.testing.assert_allclose(np.asarray(head(x, training=training_mode)), x @ kernel + bias, rtol=1e-5, atol=1e-6)


def test_dropout_in_the_head_drops_in_training_alone_and_by_the_seed():
    head = build_head(50, None, 0.5, 3)
    x = np.ones((4, 50), "float32")

    def logits(seed: int, training_mode: bool) -> np.ndarray:
        reseed_layers(head, seed)
        return np.asarray(head(x, training=training_mode))

    np.testing.assert_array_equal(logits(0, False), logits(1, False))
    np.testing.assert_array_equal(logits(0, True), logits(0, True))
    assert not np.allclose(logits(0, True), logits(1, True))
    assert not np.allclose(logits(0, True), logits(0, False))


@pytest.mark.parametrize("batch_norm", ["inference", "train"])
def test_dropout_in_a_block_drops_where_it_is_thawed_and_trained_alone(batch_norm):
    network = small_network(dropout=0.5)
    network.attach("avg", None, 0.5, CLASSES)
    x = keras.ops.convert_to_tensor(EXAMPLES.inputs)

    def random_layers(model: keras.Model) -> int:
        return sum(variable.path.endswith("seed_generator_state") for variable in model.variables)

    # The head's own, and one of each thawed block.
    for thawed, frozen in enumerate((9, 5, 0)):
        network.freeze(frozen)
        model = network.classifier(batch_norm=batch_norm)
        assert random_layers(model) == 1 + thawed
        if thawed:
            assert random_layers(network.classifier(thawed, batch_norm=batch_norm)) == 1 + thawed
    features = network.features([0], "avg", None)
    assert random_layers(features) == 0
    network.attach("avg", None, 0.0, CLASSES)
    model = network.classifier(batch_norm=batch_norm)
    reseed_layers(model, 0)
    drops = np.asarray(model(x, training=True))
    reseed_layers(model, 0)
    np.testing.assert_array_equal(np.asarray(model(x, training=True)), drops)
    assert not np.allclose(drops, np.asarray(model(x, training=False)))


@pytest.mark.parametrize("image_size", [16, 64])
def test_the_network_takes_stored_images_and_resizes_them_without_rounding(image_size):
    network = build(image_size)
    assert network.classifier().input_shape == (None, 32, 32, 3)
    assert predicted(network.classifier())[0].shape == (32, CLASSES)
    resized = keras.ops.image.resize(EXAMPLES.inputs.astype("float32"), (image_size, image_size))
    np.testing.assert_allclose(seen(network), np.asarray(resized), atol=1e-3)


@pytest.mark.parametrize(("input_size", "resized"), [(16, False), (24, True), (40, True)])
def test_images_of_any_size_are_taken_and_resized_where_the_backbones_is_another(input_size, resized):
    network = build(16, input_size=input_size)
    images = np.random.default_rng(0).integers(0, 256, (2, input_size, input_size, 3), np.uint8)
    for how in (None, augment(translation=0.2)):
        model = network.features([depth_of_images(network)], "avg", how)
        pixels = np.asarray(predicted(model, augmentation_inputs(images, how) if how else images)[0])
        assert ("resize" in [layer.name for layer in model.layers]) == resized
        assert pixels.shape == (2, 16, 16, 3)
        if not resized:
            np.testing.assert_allclose(pixels * 127.5 + 127.5, images, atol=1e-3)
    assert network.classifier().input_shape == (None, input_size, input_size, 3)


@pytest.mark.parametrize("layers", [0, 1, 9, 22, 29])
def test_freezing_counts_in_the_layers_of_the_architecture_and_spares_the_head(layers):
    network = build()
    network.freeze(29)
    network.head.trainable = False
    network.freeze(layers)
    trainable = {layer.name for layer in network.layers() if layer.trainable}
    assert trainable == set(network.order[max(layers, 1) :])  # the first is the input, which holds nothing
    assert network.head.trainable
    assert all(weight.trainable for weight in network.head.weights)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (0, "all blocks"),
        (1, "all blocks"),
        (5, "part of block1 and above"),
        (15, "block3 and above"),
        (22, "block4"),
        (24, "part of block4"),
        (29, "nothing but the head"),
    ],
)
def test_what_is_thawed_in_words(layers, words):
    network = build()
    network.freeze(layers)
    assert network.thawed() == words


def test_another_head_takes_the_place_of_the_first():
    network = build()
    network.attach("flatten", 8, 0.0, 7)
    assert predicted(network.classifier())[0].shape == (32, 7)
    assert network.head.input_shape == (None, 256)


@pytest.fixture
def mixed():
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


def test_in_mixed_precision_images_and_logits_stay_exact(mixed):
    varied = augment(flip=True, translation=0.3)
    network = build(image_size=20)
    pixels = seen(network, varied)
    model = network.classifier(augment=varied)
    logits = predicted(model)[0]
    features = network.features([1], "avg", None)(keras.ops.convert_to_tensor(EXAMPLES.inputs))
    assert keras.backend.standardize_dtype(keras.tree.flatten(features)[0].dtype) == "bfloat16"
    assert {weight.dtype for weight in network.head.weights} == {"float32"}
    keras.config.set_dtype_policy("float32")
    exact = build(image_size=20)
    np.testing.assert_array_equal(pixels, seen(exact, varied))
    expected = predicted(exact.classifier(augment=varied))[0]
    assert logits.dtype == expected.dtype == np.float32
    assert not np.array_equal(logits, expected)
    np.testing.assert_allclose(logits, expected, atol=0.05 * np.abs(expected).max())


@pytest.mark.slow
def test_a_network_learns_in_mixed_precision(mixed):
    network = build(units=8)
    network.freeze(15)
    settings = run(training(epochs=12, learning_rate=0.003), augment=augment(flip=True))
    rows = train_network(network, settings, data(EXAMPLES)).rows
    # Chance has the logarithm of the number of classes.
    assert rows[-1]["train_loss"] < 0.75 * np.log(CLASSES)
