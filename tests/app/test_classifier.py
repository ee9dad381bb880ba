"""The Python API predicts as `thaw predict` does, prints nothing, and leaves what else the process computes alone."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import thaw
from tests.helpers.examples import example_images, measure_statistics
from tests.helpers.project import ROOT
from thaw.__main__ import main
from thaw.app.commands import predict
from thaw.app.explain import grad_cam
from thaw.app.predict import BATCH, BatchSizes
from thaw.images.read import read_image
from thaw.network.build import build_network
from thaw.network.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from thaw.network.inference import softmax
from thaw.network.seeds import seed_initialisers
from thaw.stage import read_params

BACKBONE = {"name": "cnn", "image_size": 24, "alpha": None, "input_size": 32}
HEAD = {"pool": "avg", "units": 8, "dropout": 0.5}
CLASSES = ["cat", "dog", "long-eared owl"]
EXAMPLES = example_images(BATCH + 6).inputs
TEMPERATURE = 1.7


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder with models/all and models/backbone, image files of other sizes in holiday/, and cat.jpg."""
    folder = tmp_path_factory.mktemp("project")
    seed_initialisers(0, "test")
    network = build_network(**BACKBONE)
    save_checkpoint(folder / "models/backbone", CheckpointInfo(BACKBONE, {}), network)
    network.attach(**HEAD, classes=len(CLASSES))
    measure_statistics(network, EXAMPLES)
    info = CheckpointInfo(BACKBONE, {}, HEAD, CLASSES, temperature=TEMPERATURE)
    save_checkpoint(folder / "models/all", info, network)
    (folder / "holiday").mkdir()
    for number, image in enumerate(EXAMPLES):
        Image.fromarray(image).resize((40, 30 + number % 2)).save(folder / f"holiday/{number:02}.png")
    Image.fromarray(EXAMPLES[0]).save(folder / "cat.jpg")
    return folder


@pytest.fixture(scope="module")
def classifier(project) -> thaw.Classifier:
    return thaw.load(project / "models/all")


def test_predictions_are_those_of_thaw_predict_to_the_bit(project, monkeypatch, capsys):
    files = sorted((project / "holiday").glob("*.png"))
    monkeypatch.setattr(predict, "read_params", lambda: read_params(ROOT / "params.yaml"))
    monkeypatch.setattr(predict, "set_up_backend", lambda *arguments: None)
    words = ["predict", *map(str, files), "--model", str(project / "models/all"), "--top", "3", "--json"]
    monkeypatch.setattr("sys.argv", ["thaw", *words])
    main()
    rows = json.loads(capsys.readouterr().out)
    told = [{entry["class"]: np.float32(entry["probability"]) for entry in row["classes"]} for row in rows]
    found = thaw.load(project / "models/all").predict(files)
    assert np.ptp(found, axis=0).max() > 0.01, "or there would be nothing to compare"
    assert [dict(zip(CLASSES, row, strict=True)) for row in found] == told


def test_files_and_their_pixels_give_equal_probabilities(project, classifier):
    for number, image in enumerate(EXAMPLES[:3]):
        Image.fromarray(image).save(project / f"{number}.png")
    files = [project / f"{number}.png" for number in range(3)]
    found = classifier.predict(EXAMPLES[:3])
    assert (found.dtype, found.shape) == (np.float32, (3, 3))
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    for images in (files, map(str, files), iter(files), tuple(files)):
        np.testing.assert_array_equal(classifier.predict(images), found)
    for image in (EXAMPLES[0], EXAMPLES[:1], files[0], str(files[0]), [files[0]]):
        np.testing.assert_allclose(classifier.predict(image), found[:1], atol=1e-6)


def test_what_there_is_none_of_has_no_rows(classifier):
    assert classifier.predict([]).shape == classifier.predict(EXAMPLES[:0]).shape == (0, 3)
    assert classifier.features([]).shape == classifier.features(EXAMPLES[:1])[:0].shape


def test_a_classifier_tells_what_its_checkpoint_has(project, classifier):
    assert (classifier.classes, classifier.input_size, classifier.temperature) == (CLASSES, 32, TEMPERATURE)
    assert repr(classifier) == (
        f"Classifier(path={project / 'models/all'!r}, classes={CLASSES}, input_size=32, temperature={TEMPERATURE})"
    )


def test_a_file_that_is_no_image_is_named(project, classifier):
    (project / "text.png").write_bytes(b"text")
    for name, why in (("text.png", "not a readable image"), ("none.png", "not found")):
        with pytest.raises(thaw.UnreadableImage, match=f"^{re.escape(str(project / name))}: {why}$"):
            classifier.predict([project / "holiday/00.png", project / name, project / "other.png"])
    assert issubclass(thaw.UnreadableImage, thaw.ThawError)


ACCEPTED = "; accepted: RGB images, uint8 (n, 32, 32, 3) or (32, 32, 3); or paths of image files, of any size"


@pytest.mark.parametrize(
    ("images", "received"),
    [
        (np.zeros((2, 40, 40, 3), np.uint8), "uint8 (2, 40, 40, 3)"),
        (np.zeros((2, 32, 32, 3), np.float32), "float32 (2, 32, 32, 3)"),
        (np.zeros((32, 32), np.uint8), "uint8 (32, 32)"),
        (np.zeros((1, 2, 32, 32, 3), np.uint8), "uint8 (1, 2, 32, 32, 3)"),
        ([EXAMPLES[0]], "list"),
        (Image.new("RGB", (32, 32)), "Image"),
        (None, "NoneType"),
    ],
)
def test_other_images_are_refused_in_one_line(classifier, images, received):
    for compute in (classifier.predict, classifier.features):
        with pytest.raises(thaw.ThawError, match=f"^{re.escape(f'images: received {received}{ACCEPTED}')}$"):
            compute(images)


def test_a_folder_of_images_is_refused_with_what_to_write(project, classifier):
    folder = project / "holiday"
    with pytest.raises(thaw.ThawError) as error:
        classifier.predict(folder)
    assert (
        str(error.value) == f"{folder}: a folder; accepted: its files, such as sorted(Path('{folder}').glob('*.jpg'))"
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # from inside Keras
def test_the_keras_model_predicts_the_same_with_weights_of_its_own(classifier):
    expected, model = classifier.predict(EXAMPLES), classifier.keras()
    np.testing.assert_allclose(np.asarray(model(EXAMPLES)), expected, atol=1e-4)
    assert (model.name, model.input_shape, model.inputs[0].dtype) == ("thaw_cnn", (None, 32, 32, 3), "uint8")
    assert all(type(layer).__module__.startswith("keras.") for layer in model._flatten_layers())
    for weight in model.weights:
        weight.assign(weight + 1)
    np.testing.assert_array_equal(classifier.predict(EXAMPLES), expected)


def test_features_are_what_the_head_takes(project, classifier):
    network, info = load_checkpoint(project / "models/all")
    found = classifier.features(EXAMPLES)
    logits = np.asarray(network.head(found, training=False))
    np.testing.assert_allclose(softmax(logits, TEMPERATURE), classifier.predict(EXAMPLES), atol=1e-5)
    np.testing.assert_array_equal(thaw.features(project / "models/all", EXAMPLES), found)


def test_features_of_a_deeper_cut_are_pooled(project, classifier):
    network, _ = load_checkpoint(project / "models/all")
    files = sorted((project / "holiday").glob("*.png"))[:3]
    images = np.stack([read_image(file, 32).pixels for file in files])
    (maps,) = keras.tree.flatten(network.features([2], "avg", None)(images))
    found = classifier.features(files, depth=2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.asarray(maps).mean(axis=(1, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # from inside Keras
def test_maps_are_those_of_grad_cam_for_a_class_or_for_the_most_probable_one(project, classifier):
    network, _ = load_checkpoint(project / "models/all")
    best = classifier.predict(EXAMPLES[:5]).argmax(axis=1)
    found = classifier.grad_cam(EXAMPLES[:5])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, grad_cam(network, EXAMPLES[:5], best), atol=1e-4)
    dogs = grad_cam(network, EXAMPLES[:5], np.full(5, 1))
    for _ in range(2):  # what is made once keeps nothing of the image before
        np.testing.assert_allclose(classifier.grad_cam(EXAMPLES[:5], of="dog"), dogs, atol=1e-4)
    assert classifier.grad_cam([]).shape == (0, *found.shape[1:])
    files = sorted((project / "holiday").glob("*.png"))
    assert classifier.grad_cam(files, "cat").shape == (len(files), *found.shape[1:])
    with pytest.raises(thaw.ThawError, match="^of: received 'bird'; accepted: cat, dog, long-eared owl$"):
        classifier.grad_cam(EXAMPLES[0], of="bird")


def test_a_backbone_without_a_head_has_features_and_no_classifier(project):
    found = thaw.features(project / "models/backbone", EXAMPLES[:2])
    assert found.shape == (2, load_checkpoint(project / "models/backbone")[0].widths("avg")[0])
    with pytest.raises(thaw.ThawError, match="models/backbone: a backbone without a head; accepted: the checkpoint of"):
        thaw.load(project / "models/backbone")


@pytest.mark.parametrize("depth", [-1, 4, 1.5, "all"])
def test_a_depth_that_the_backbone_has_not_is_refused(project, classifier, depth):
    message = re.escape(f"depth: received {depth!r}; accepted: 0 to 3, as cnn has 4 blocks")
    with pytest.raises(thaw.ThawError, match=f"^{message}$"):
        classifier.features(EXAMPLES, depth)
    with pytest.raises(thaw.ThawError, match=f"^{message}$"):
        thaw.features(project / "models/all", EXAMPLES, depth)


def test_what_is_no_checkpoint_of_ours_is_refused_in_one_line(project, tmp_path):
    for load in (thaw.load, lambda folder: thaw.features(folder, EXAMPLES)):
        with pytest.raises(thaw.ThawError, match=f"^{tmp_path}: no checkpoint there; accepted: a folder with checkp"):
            load(tmp_path)
    network, info = load_checkpoint(project / "models/all")
    other = dataclasses.replace(info, backbone=BACKBONE | {"name": "mine"})
    save_checkpoint(tmp_path / "all", other, network)
    with pytest.raises(thaw.ThawError, match="the backbone is 'mine', of which thaw/backbones has no module$"):
        thaw.load(tmp_path / "all")


def test_a_backend_that_keras_was_not_loaded_with_is_refused(project):
    loaded = keras.config.backend()
    other = {"tensorflow": "jax", "jax": "tensorflow"}[loaded]
    message = f"^backend: received '{other}'; accepted: {loaded}, with which Keras is loaded already in this process$"
    with pytest.raises(thaw.ThawError, match=message):
        thaw.load(project / "models/all", backend=other)
    with pytest.raises(thaw.ThawError, match="^backend: received 'torch'; accepted: tensorflow or jax$"):
        thaw.load(project / "models/all", backend="torch")


def test_the_policy_of_the_process_is_kept_and_changes_no_result(project, classifier):
    before = keras.config.dtype_policy()
    expected = classifier.predict(EXAMPLES), classifier.features(EXAMPLES)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        found = thaw.load(project / "models/all")
        np.testing.assert_array_equal(found.predict(EXAMPLES), expected[0])
        np.testing.assert_array_equal(found.features(EXAMPLES), expected[1])
        assert {layer.compute_dtype for layer in found.keras().layers if layer.weights} == {"float32"}
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(before)


def test_a_few_images_are_filled_up_to_the_smallest_batch_that_is_known():
    sizes = BatchSizes(8)
    counts = [1, 1, 3, 2, 1, 20]
    filled = [(len(images), size) for images, size in (sizes.fill(EXAMPLES[:count]) for count in counts)]
    assert filled == [(1, 1), (1, 1), (8, 8), (8, 8), (1, 1), (20, 8)]
    images, _ = sizes.fill(EXAMPLES[:3])
    np.testing.assert_array_equal(images, EXAMPLES[[0, 1, 2, 2, 2, 2, 2, 2]])


# As a user's own program: nothing of the pipeline around it.
PROGRAM = """
import sys
import thaw
assert not {"numpy", "keras", "tensorflow", "jax"} & set(sys.modules), "import thaw is cheap"
import numpy as np
classifier = thaw.load(sys.argv[1])
images = np.load("images.npy")
np.save("found.npy", classifier.predict(images))
np.save("features.npy", thaw.features(sys.argv[1], images))
classifier.keras().predict(images[:1], verbose=0)
if classifier.keras().weights and "tensorflow" in sys.modules:
    import tensorflow as tf
    tf.random.normal([1])  # refused where operations are to be deterministic
"""


def test_a_program_elsewhere_sees_nothing_of_tensorflow_and_gets_the_same(project, classifier, tmp_path):
    np.save(tmp_path / "images.npy", EXAMPLES)
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment |= {"KERAS_BACKEND": keras.config.backend(), "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(project / "models/all")],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), classifier.predict(EXAMPLES))
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), classifier.features(EXAMPLES))


def test_the_api_is_what_the_package_names():
    assert {"load", "features", "Classifier", "ThawError", "UnreadableImage"} <= set(dir(thaw))
    assert all(getattr(thaw, name).__doc__ for name in thaw.__all__)
    with pytest.raises(AttributeError, match="module 'thaw' has no attribute 'lod'"):
        thaw.lod  # noqa: B018
    assert (ROOT / "thaw/py.typed").is_file(), "its types are for others, too"


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # from inside Keras
def test_the_snippets_of_the_page_run_as_they_stand(project, tmp_path, monkeypatch, capsys):
    (tmp_path / "models").symlink_to(project / "models")
    (tmp_path / "holiday").mkdir()
    for name in ("cat.jpg", "holiday/00.png", "holiday/01.png", "holiday/02.png"):
        shutil.copy(project / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    Path("holiday/notes.txt").write_text("no image")
    text = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    found: dict = {}
    for snippet in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(snippet, found)
    best, left_out, like = capsys.readouterr().out.splitlines()
    assert best.rsplit(maxsplit=1)[0] in CLASSES
    assert left_out == "holiday/notes.txt: not a readable image"
    assert re.fullmatch(r"holiday/00.png is most like holiday/\d\d.png", like)
    assert list(found["predicted"]) == ["00.png", "01.png", "02.png"]


def test_the_page_of_models_names_every_key_of_a_checkpoint():
    text = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    keys = {field.name for field in dataclasses.fields(CheckpointInfo)} | {"sha256", "seal"}
    assert keys == set(re.findall(r"^\| `(\w+)` \|", text.split("## checkpoint.json")[1].split("\n## ")[0], re.M))
