"""Exported files: Keras's own layers alone, and the checkpoint's probabilities."""

import keras
import numpy as np
import pytest

from tests.helpers.examples import example_images, measure_statistics, narrowest
from tests.helpers.speed import by_backbone
from thaw.app.export import predict_exported, standalone, write_export
from thaw.backbones import BACKBONES
from thaw.network.build import Network, build_network
from thaw.network.inference import predict_logits, softmax
from thaw.network.seeds import seed_initialisers

# From inside Keras.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
EXAMPLES = example_images(40)
TEMPERATURE = 1.7


def build(name: str, image_size: int = 32, pool: str = "avg") -> Network:
    seed_initialisers(0, "test")
    network = build_network(name, image_size, narrowest(name), 32)
    network.attach(pool, 8, 0.5, 4)
    measure_statistics(network, EXAMPLES.inputs)
    # Random weights would be sure of one class for all images.
    found = np.asarray(network.classifier()(EXAMPLES.inputs, training=False))
    logits = network.head.get_layer("logits")
    logits.set_weights([logits.get_weights()[0] / found.std(axis=0), -found.mean(axis=0) / found.std(axis=0)])
    return network


def probabilities(network: Network) -> np.ndarray:
    """What `thaw predict` gives."""
    return softmax(predict_logits(network.classifier(), EXAMPLES.inputs, 40), TEMPERATURE)


@pytest.mark.parametrize(
    ("name", "image_size", "pool"),
    by_backbone([*((name, 32, "avg") for name in BACKBONES), ("mobilenetv2", 48, "flatten")]),
)
def test_it_gives_the_checkpoints_probabilities(name, image_size, pool):
    network = build(name, image_size, pool)
    model = standalone(network, TEMPERATURE)
    ours = probabilities(network)
    assert np.ptp(ours, axis=0).max() > 0.01, "or there would be nothing to compare"
    # BatchNorm that is folded rounds otherwise; 1.3e-4 were seen with ResNet50's random weights.
    np.testing.assert_allclose(np.asarray(model(EXAMPLES.inputs)), ours, atol=5e-4)
    assert (model.input_shape, model.inputs[0].dtype) == ((None, 32, 32, 3), "uint8")


@pytest.mark.parametrize(
    "form", ("keras", *(pytest.param(form, marks=pytest.mark.slow) for form in ("onnx", "tflite")))
)
def test_a_file_says_what_the_network_says_in_batches_of_any_size(form, tmp_path):
    network = build("cnn")
    file = tmp_path / f"model.{form}"
    write_export(network, TEMPERATURE, form, file)
    ours = probabilities(network)
    for batch_size in (16, 40):  # 40 images: a last short batch, and one batch
        np.testing.assert_allclose(predict_exported(form, file, EXAMPLES.inputs, batch_size), ours, atol=1e-5)


@pytest.mark.parametrize(
    "form", ("keras", *(pytest.param(form, marks=pytest.mark.slow) for form in ("onnx", "tflite")))
)
def test_a_file_takes_images_of_the_networks_own_size(form, tmp_path):
    seed_initialisers(0, "test")
    network = build_network("cnn", 16, None, 24)
    network.attach("avg", None, 0.0, 4)
    images = np.random.default_rng(0).integers(0, 256, (5, 24, 24, 3), np.uint8)
    file = tmp_path / f"model.{form}"
    write_export(network, TEMPERATURE, form, file)
    ours = softmax(predict_logits(network.classifier(), images, 5), TEMPERATURE)
    np.testing.assert_allclose(predict_exported(form, file, images), ours, atol=1e-5)


@pytest.mark.slow
def test_a_keras_file_needs_nothing_of_ours(tmp_path):
    write_export(build("mobilenetv2"), TEMPERATURE, "keras", tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    layers = model._flatten_layers()
    assert all(type(layer).__module__.startswith("keras.") for layer in layers)
