"""Grad-CAM: against the gradient by hand, on every backbone, on both backends."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from tests.helpers.examples import example_images, measure_statistics, narrowest, small_network
from tests.helpers.speed import by_backbone
from thaw.app.commands import explain
from thaw.app.explain import grad_cam, last_convolution, overlay
from thaw.app.predict import Predictor
from thaw.backbones import BACKBONES
from thaw.network.build import build_network
from thaw.network.checkpoint import CheckpointInfo, save_checkpoint
from thaw.network.seeds import seed_initialisers

# From inside Keras.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
EXAMPLES = example_images(6)
LABELS = np.array([0, 1, 2, 3, 0, 1])


def test_the_map_is_the_gradients_by_hand():
    network = small_network()
    network.attach("avg", None, 0.0, 4)
    measure_statistics(network, EXAMPLES.inputs)
    conv, norm = (network.blocks[-1].get_layer(name) for name in ("high_conv", "high_bn"))
    # From the activations on: BatchNorm, ReLU, the mean over all places, and one product.
    x = keras.Model(*network.image_input())(EXAMPLES.inputs)
    x = np.asarray(conv(network.blocks[0](x, training=False)))
    scale = np.asarray(norm.gamma) / np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)
    alive = (x - np.asarray(norm.moving_mean)) * scale + np.asarray(norm.beta) > 0
    kernel = np.asarray(network.head.get_layer("logits").kernel)[:, LABELS].T[:, None, None, :]
    weights = (alive * scale * kernel / (x.shape[1] * x.shape[2])).mean(axis=(1, 2), keepdims=True)
    expected = np.maximum((weights * x).sum(axis=-1), 0)
    expected /= expected.max(axis=(1, 2), keepdims=True)
    found = grad_cam(network, EXAMPLES.inputs, LABELS)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert found.std() > 0.1


@pytest.mark.parametrize("name", by_backbone(BACKBONES))
def test_every_backbone_has_a_map(name):
    seed_initialisers(0, "test")
    network = build_network(name, 64, narrowest(name), 32)
    network.attach("avg", None, 0.0, 4)
    measure_statistics(network, EXAMPLES.inputs)
    before = [np.array(weight) for layer in network.layers() for weight in layer.weights]
    found = grad_cam(network, EXAMPLES.inputs, LABELS)
    side = last_convolution(network).output.shape[1]
    assert found.shape == (6, side, side)
    assert side > 1
    assert found.min() >= 0
    assert found.max() == 1
    assert not np.array_equal(found, grad_cam(network, EXAMPLES.inputs, LABELS[::-1])), "it is of the class"
    after = [np.array(weight) for layer in network.layers() for weight in layer.weights]
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_network_of_two_precisions_has_a_map():
    """As on a GPU, where activations are bfloat16."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = small_network()
        network.attach("avg", None, 0.0, 4)
        found = grad_cam(network, EXAMPLES.inputs, LABELS)
    finally:
        keras.config.set_dtype_policy("float32")
    assert last_convolution(network).compute_dtype == "bfloat16"
    assert found.max() == 1


def test_a_class_that_nothing_speaks_for_has_an_empty_map():
    network = small_network()
    network.attach("avg", None, 0.0, 4)
    network.head.get_layer("logits").kernel.assign(np.zeros((16, 4)))
    assert not grad_cam(network, EXAMPLES.inputs, LABELS).any()


def test_the_overlay_is_a_png(tmp_path):
    image = EXAMPLES.inputs[0]
    overlay(tmp_path / "a.png", image, image, np.eye(4), "cat, 90 %")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_photograph_is_shown_in_its_own_proportions(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("thaw.app.explain.save_figure", lambda figure, path: drawn.append(figure))
    overlay(tmp_path / "a.png", np.zeros((40, 60, 3), np.uint8), EXAMPLES.inputs[0], np.eye(4), "cat")
    drawn[0].draw_without_rendering()
    heights = {round(axes.get_window_extent().height) for axes in drawn[0].axes}
    assert len(heights) == 1, "of the three panels"
    scale = drawn[0].axes[2].child_axes[0]
    assert scale.get_ylabel() == "support for the class" and scale.get_ylim() == (0, 1)
    for axes, ratio in zip(drawn[0].axes, (1.5, 1, 1), strict=True):
        for image in axes.images:
            left, right, bottom, top = image.get_extent()
            assert (right - left) / (top - bottom) == ratio


def test_the_image_is_seen_where_nothing_speaks_for_the_class_and_through_the_map_elsewhere(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("thaw.app.explain.save_figure", lambda figure, path: drawn.append(figure))
    overlay(tmp_path / "a.png", EXAMPLES.inputs[0], EXAMPLES.inputs[0], np.eye(4), "cat")
    _, heat = drawn[0].axes[2].images
    assert heat.get_alpha().min() == 0 and 0.3 < heat.get_alpha().max() < 0.8


def test_the_probability_is_that_of_a_prediction(tmp_path, monkeypatch, capsys):
    network = build_network("cnn", 16, None, 32)
    head = {"pool": "avg", "units": None, "dropout": 0.0}
    network.attach(**head, classes=2)
    info = CheckpointInfo(
        {"name": "cnn", "image_size": 16, "alpha": None, "input_size": 32}, {}, head, ["cat", "dog"], temperature=0.3
    )
    save_checkpoint(tmp_path / "model", info, network)
    Image.fromarray(EXAMPLES.inputs[0]).save(tmp_path / "a.png")
    for name in ("read_params", "set_up_backend"):
        monkeypatch.setattr(explain, name, lambda *given: None)
    output = tmp_path / "explained.png"
    given = {
        "image": tmp_path / "a.png",
        "of": "dog",
        "output": output,
        "model": tmp_path / "model",
        "max_pixels": 10**8,
    }
    explain.run(argparse.Namespace(**given))
    ((cat, dog),) = Predictor(tmp_path / "model").probabilities(EXAMPLES.inputs[:1])
    assert abs(dog - dog**0.3 / (cat**0.3 + dog**0.3)) > 0.01, "or it might be without the temperature"
    assert capsys.readouterr().out == f"{output}: dog, {dog:.1%}\n"


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="this is that run")
def test_the_other_backend_gives_the_map_by_hand_too():
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"{__file__}::test_the_map_is_the_gradients_by_hand"],
        cwd=Path(__file__).parents[2], env=os.environ | {"KERAS_BACKEND": "jax"}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
