"""Weights files: both layouts fill every layer, and one that does not fit is refused by the layer's name."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from tests.helpers.examples import SPOILT, backbone, example_images, narrowest, scramble, training, weights
from tests.helpers.speed import by_backbone
from tests.helpers.weights_files import layers_of, write_keras2, write_keras3
from thaw.backbones import BACKBONES
from thaw.config.schema import Source
from thaw.errors import ParamError
from thaw.network.build import Network, build_network
from thaw.network.checkpoint import CheckpointInfo, save_checkpoint
from thaw.network.seeds import seed_initialisers
from thaw.network.weights import load_backbone, load_weights_file, weights_origin

# From inside Keras's `save_weights`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

# What keras.applications' files have on top, under the names that Keras 2 gave.
TOPS = {
    "vgg16": ["fc1", "fc2", "predictions"],
    "resnet50": ["probs"],
    "mobilenetv2": ["Logits"],
    "efficientnetv2b0": ["predictions"],
    "convnexttiny": ["convnext_tiny_head_dense"],
}


@cache
def build(name: str, alpha: float | None = None) -> keras.Model:
    """The backbone, the narrowest there is by default, with values of its own in every weight."""
    model = BACKBONES[name].build(32, alpha or narrowest(name), None)
    scramble(model, seed=1)
    return model


def load(name: str, path: Path) -> Network:
    """What the stage gets from the file, in place of random values of its own."""
    return load_backbone(backbone(name, weights=str(path)), seed=0, input_size=32)


def refusal(path: Path, name: str = "cnn") -> str:
    with pytest.raises(ParamError) as caught:
        load(name, path)
    message = str(caught.value)
    assert message.startswith("backbone.weights: ")
    assert "\n" not in message
    return message


def assert_filled(network: Network, model: keras.Model) -> None:
    filled = [weight for layer in network.layers() for weight in layer.weights]
    assert len(filled) == len(model.weights)
    for ours, theirs in zip(filled, model.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=theirs.path)


@pytest.mark.parametrize("name", by_backbone([*TOPS, "cnn"]))
def test_a_keras_applications_file_fills_every_weight(name, tmp_path):
    model = build(name)
    assert_filled(load(name, write_keras2(tmp_path / "weights.h5", layers_of(model))), model)


def test_names_may_be_stored_as_text_or_as_bytes(tmp_path):
    model = build("cnn")
    for text in (str, str.encode):
        assert_filled(load("cnn", write_keras2(tmp_path / text.__name__, layers_of(model), text)), model)


@pytest.mark.parametrize("name", by_backbone(BACKBONES))
def test_a_keras_3_file_fills_every_weight(name, tmp_path):
    model = build(name)
    assert_filled(load(name, write_keras3(tmp_path / "weights", model)), model)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "build_theirs"),
    [
        ("efficientnetv2b0", keras.applications.EfficientNetV2B0),
        ("convnexttiny", keras.applications.ConvNeXtTiny),
    ],
)
def test_imagenet_weights_and_preprocessing_are_those_of_keras_which_would_preprocess_inside(
    name, build_theirs, monkeypatch, tmp_path
):
    theirs = build_theirs(include_top=False, weights=None, input_shape=(32, 32, 3))
    scramble(theirs, seed=1)
    file = write_keras2(tmp_path / "weights.h5", layers_of(theirs))
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: str(file))
    network = load_backbone(backbone(name, weights="imagenet"), seed=0, input_size=32)
    assert_filled(network, theirs)
    inside = next(layer for layer in theirs.layers if isinstance(layer, keras.layers.Normalization))
    images = example_images(4).inputs
    expected = keras.Model(theirs.input, inside.output)(images.astype("float32"))
    ours = keras.Model(*network.image_input())(images)
    np.testing.assert_allclose(np.asarray(ours), np.asarray(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", by_backbone(TOPS))
def test_a_file_with_the_classifier_is_accepted_without_it(name, tmp_path):
    model = build(name)
    top = [(layer, [np.ones((4, 4), "float32"), np.ones(4, "float32")]) for layer in TOPS[name]]
    path = write_keras2(tmp_path / "weights.h5", [*layers_of(model), ("avg_pool", []), *top])
    assert_filled(load(name, path), model)


def test_layers_of_other_names_are_matched_by_their_order(tmp_path):
    model = build("cnn")
    renamed = [(f"layer_{number}", values) for number, (_, values) in enumerate(layers_of(model))]
    assert_filled(load("cnn", write_keras2(tmp_path / "weights.h5", renamed)), model)


@pytest.mark.slow
def test_another_alpha_is_refused_by_the_first_layer_that_differs(tmp_path):
    wide, narrow = build("mobilenetv2", 0.5), build("mobilenetv2")
    first = next(
        ours.name
        for ours, theirs in zip(narrow.layers, wide.layers, strict=True)
        if [w.shape for w in ours.weights] != [w.shape for w in theirs.weights]
    )
    for path in (write_keras2(tmp_path / "old.h5", layers_of(wide)), write_keras3(tmp_path / "new", wide)):
        assert f"layer {first} of mobilenetv2" in refusal(path, "mobilenetv2")


@pytest.mark.parametrize("layout", ["keras 2", "keras 3"])
def test_another_architecture_is_refused_by_its_first_layer(layout, tmp_path):
    model = build("vgg16")
    old = layout == "keras 2"
    path = write_keras2(tmp_path / "w.h5", layers_of(model)) if old else write_keras3(tmp_path / "w", model)
    assert "layer block1_conv1 of cnn" in refusal(path)


@pytest.mark.parametrize("missing", ["block2_conv1_bn", "block4_conv2_bn"])
def test_a_missing_layer_is_named(missing, tmp_path):
    layers = [(layer, values) for layer, values in layers_of(build("cnn")) if layer != missing]
    assert f"layer {missing} of cnn" in refusal(write_keras2(tmp_path / "weights.h5", layers))


def test_a_layer_that_is_missing_from_a_keras_3_file_is_named(tmp_path):
    path = write_keras3(tmp_path / "weights", build("cnn"))
    with h5py.File(path, "a") as file:
        del file["layers/batch_normalization_2"]
    assert "layer block2_conv1_bn of cnn" in refusal(path)


def test_a_further_layer_is_named(tmp_path):
    # The path is as long as they come, and must not push the name out of the message.
    layers = [*layers_of(build("cnn")), ("attention", [np.ones((4, 4), "float32")])]
    path = tmp_path / ("long" * 30)
    assert "attention" in refusal(write_keras2(path, layers))


def test_a_further_layer_of_a_keras_3_file_is_named(tmp_path):
    model = build("cnn")
    more = keras.Model(model.input, keras.layers.Conv2DTranspose(2, 1)(model.output))
    assert "conv2d_transpose" in refusal(write_keras3(tmp_path / "weights", more))


def test_a_layer_that_differs_is_named_whatever_the_length_of_the_path(tmp_path):
    layers = layers_of(build("cnn"))
    number = [layer for layer, _ in layers].index("block3_conv1")
    layers[number] = ("mine", [np.ones((5, 5, 64, 128), "float32")])
    message = refusal(write_keras2(tmp_path / ("long" * 30), layers))
    assert "layer block3_conv1 of cnn" in message
    assert "mine" in message
    assert "(5, 5, 64, 128)" in message
    assert "(3, 3, 64, 128)" in message


def no_hdf5(path: Path) -> None:
    path.write_text("no HDF5\n")


def cut_short(path: Path) -> None:
    content = write_keras2(path, layers_of(build("cnn"))).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def damaged_inside(path: Path) -> None:
    write_keras2(path, layers_of(build("cnn")))
    with h5py.File(path, "a") as file:
        del file["block3_conv1"]


def no_layers(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["something"] = np.ones(3)


def empty(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize("spoil", [no_hdf5, cut_short, damaged_inside, no_layers, empty])
def test_a_file_that_holds_no_weights_is_refused(spoil, tmp_path):
    path = tmp_path / "weights.h5"
    spoil(path)
    assert re.search(
        "accepted: (an HDF5 weights file|a file in keras.applications' or Keras 3's layout)", refusal(path)
    )


def test_a_file_that_does_not_fit_leaves_the_model_as_it_was(tmp_path):
    # The last layer differs, so that all others could have been filled by then.
    layers = [(layer, values) for layer, values in layers_of(build("cnn")) if layer != "block4_conv2_bn"]
    model = BACKBONES["cnn"].build(32, None, None)
    before = model.get_weights()
    with pytest.raises(ParamError):
        load_weights_file(model, write_keras2(tmp_path / "weights.h5", layers))
    for was, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)


def drawn(seed: int) -> list[np.ndarray]:
    network = load_backbone(backbone("cnn"), seed, 32)
    return [weight.numpy() for layer in network.layers() for weight in layer.weights]


def test_random_weights_follow_the_seed_and_nothing_else():
    first, other = drawn(3), drawn(4)
    seed_initialisers(5, "something else")
    keras.random.normal((100,))
    again = drawn(3)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    # BatchNorm starts the same whatever the seed.
    kernels = [(a, b) for a, b in zip(first, other, strict=True) if a.ndim == 4]
    assert kernels
    assert not any(np.array_equal(a, b) for a, b in kernels)


SOURCE = Source(classes=[0, 1], **training().model_dump())


# --- checkpoints ---

HEAD = {"pool": "avg", "units": 5, "dropout": 0.5, "scale": 0.5}


def saved(
    folder: Path, name: str = "cnn", image_size: int = 32, head: dict[str, Any] | None = HEAD
) -> tuple[Network, CheckpointInfo]:
    """A checkpoint with values of its own in every weight, moving statistics among them."""
    alpha = narrowest(name)
    network = build_network(name, image_size, alpha, 32)
    if head is not None:
        network.attach(**head, classes=3)
    for number, part in enumerate([*network.blocks, *([network.head] if head else [])]):
        scramble(part, seed=number)
    section = {"name": name, "image_size": image_size, "alpha": alpha, "input_size": 32}
    info = CheckpointInfo(section, {"origin": "none", "seed": 0}, head, ["a", "b", "c"] if head else [])
    save_checkpoint(folder, info, network)
    return network, info


@pytest.mark.parametrize("name", by_backbone(["cnn", "mobilenetv2"]))
def test_a_checkpoint_fills_every_weight_and_brings_its_head(name, tmp_path):
    network, _ = saved(tmp_path / "model", name)
    loaded = load(name, tmp_path / "model")
    before = weights(network.layers()) | weights(network.head)
    after = weights(loaded.layers()) | weights(loaded.head)
    assert any("moving_variance" in key for key in before)
    assert before.keys() == after.keys()
    for key in before:
        np.testing.assert_array_equal(before[key], after[key], err_msg=key)


def test_a_checkpoint_may_be_of_images_of_another_size(tmp_path):
    network, _ = saved(tmp_path / "model", image_size=16)
    loaded = load_backbone(backbone("cnn", weights=str(tmp_path / "model"), image_size=48), seed=0, input_size=40)
    assert (loaded.image_size, loaded.input_size) == (48, 40)
    for key, value in weights(network.layers()).items():
        np.testing.assert_array_equal(value, weights(loaded.layers())[key], err_msg=key)
    assert loaded.head is not None


def test_a_head_is_left_out_where_it_flattened_activations_of_another_size(tmp_path):
    saved(tmp_path / "model", image_size=16, head=HEAD | {"pool": "flatten"})
    of_size = {size: backbone("cnn", weights=str(tmp_path / "model"), image_size=size) for size in (16, 32)}
    assert load_backbone(of_size[16], seed=0, input_size=32).head is not None
    assert load_backbone(of_size[32], seed=0, input_size=32).head is None


def test_a_checkpoint_may_have_no_head(tmp_path):
    saved(tmp_path / "model", head=None)
    assert load("cnn", tmp_path / "model").head is None


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        *((name, "something_else") for name in ("checkpoint.json", "head.safetensors")),
        *(("block3.safetensors", spoil) for spoil in SPOILT),
    ],
)
def test_a_damaged_file_of_a_checkpoint_is_named(name, spoil, tmp_path):
    saved(tmp_path / "model")
    SPOILT[spoil](tmp_path / "model" / name)
    assert refusal(tmp_path / "model").endswith(f"accepted: a checkpoint that is whole; {tmp_path}/model/{name} is not")


def test_the_origin_of_a_checkpoint_follows_its_content_and_not_its_path(tmp_path):
    def origin(folder: str) -> dict[str, object]:
        return weights_origin(backbone("cnn", weights=str(tmp_path / folder)), seed=0)

    saved(tmp_path / "one")
    saved(tmp_path / "copy")
    saved(tmp_path / "other", head=None)
    assert origin("one") == origin("copy") != origin("other")
    assert origin("one").keys() == {"origin", "sha256"}


@pytest.mark.parametrize(
    ("weights", "source", "told"),
    [
        ("imagenet", None, {"origin": "imagenet"}),
        ("none", None, {"origin": "none", "seed": 7}),
        ("none", SOURCE, {"origin": "none", "seed": 7, "source": SOURCE.model_dump()}),
        ("imagenet", SOURCE, {"origin": "imagenet", "seed": 7, "source": SOURCE.model_dump()}),
    ],
)
def test_the_origin_names_a_seed_where_one_made_a_difference(weights, source, told):
    assert weights_origin(backbone("cnn", weights=weights, source=source), seed=7) == told


def test_the_origin_names_a_file_by_its_hash_and_not_by_its_path(tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"same")
    # Of `printf same | sha256sum`.
    sha256 = "0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5"
    assert weights_origin(backbone("cnn", weights=str(path)), seed=0) == {"origin": "file", "sha256": sha256}
