"""Exported files: Keras's own layers alone, the checkpoint's probabilities, and names."""

import json
import re
import subprocess
import sys
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from tests.helpers.examples import example_images, measure_statistics, narrowest
from tests.helpers.project import ROOT
from tests.helpers.speed import by_backbone
from thaw.__main__ import main
from thaw.app.export import predict_exported, standalone, write_export
from thaw.app.metadata import ExportMetadata
from thaw.backbones import BACKBONES
from thaw.images.read import read_image
from thaw.network.build import Network, build_network
from thaw.network.inference import predict_logits, softmax
from thaw.network.seeds import seed_initialisers
from thaw.runtime.installed import install_command

# From inside Keras.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
EXAMPLES = example_images(40)
TEMPERATURE = 1.7
CLASSES = ["cat", "🤚", "long-eared owl", "line\nbreak"]
METADATA = ExportMetadata("thaw_cnn", "A test's.", CLASSES, 24, TEMPERATURE, "all", "0" * 64)


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
    model = standalone(network, TEMPERATURE, "thaw_any")
    ours = probabilities(network)
    assert np.ptp(ours, axis=0).max() > 0.01, "or there would be nothing to compare"
    # BatchNorm that is folded rounds otherwise; 1.3e-4 were seen with ResNet50's random weights.
    np.testing.assert_allclose(np.asarray(model(EXAMPLES.inputs)), ours, atol=5e-4)
    assert (model.input_shape, model.inputs[0].dtype) == ((None, 32, 32, 3), "uint8")


@dataclass(frozen=True)
class Exported:
    """A file, images of the network's size, and what the checkpoint says of them."""

    form: str
    file: Path
    images: np.ndarray
    probabilities: np.ndarray


@pytest.fixture(
    scope="module", params=("keras", *(pytest.param(form, marks=pytest.mark.slow) for form in ("onnx", "tflite")))
)
def exported(request, tmp_path_factory) -> Exported:
    seed_initialisers(0, "test")
    network = build_network("cnn", 16, None, 24)
    network.attach("avg", None, 0.0, 4)
    folder = tmp_path_factory.mktemp(request.param)
    # As large as what the documents' snippets read.
    Image.fromarray(EXAMPLES.inputs[0]).resize((40, 30)).save(folder / "cat.jpg")
    images = np.random.default_rng(0).integers(0, 256, (40, 24, 24, 3), np.uint8)
    images[0] = read_image(folder / "cat.jpg", 24).pixels
    write_export(network, METADATA, request.param, folder / f"all.{request.param}")
    ours = softmax(predict_logits(network.classifier(), images, 40), TEMPERATURE)
    assert np.ptp(ours, axis=0).max() > 0.01, "or there would be nothing to compare"
    return Exported(request.param, folder / f"all.{request.param}", images, ours)


def test_a_file_says_what_the_network_says_in_batches_of_any_size(exported):
    for batch_size in (1, 7, 40):
        found = predict_exported(exported.form, exported.file, exported.images, batch_size)
        np.testing.assert_allclose(found, exported.probabilities, atol=1e-5)


def test_a_file_has_the_names_of_its_classes_and_of_its_tensors(exported):
    if exported.form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(exported.file, providers=["CPUExecutionProvider"])
        (images,), (output,) = session.get_inputs(), session.get_outputs()
        assert (images.name, images.shape) == ("images", ["batch", 24, 24, 3])
        assert (output.name, output.shape) == ("probabilities", ["batch", 4])
        assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == CLASSES
        return
    archive = zipfile.ZipFile(exported.file)
    assert json.loads(archive.read("thaw.json")) == asdict(METADATA)
    if exported.form == "keras":
        model = keras.saving.load_model(exported.file)
        assert (model.name, model.input_shape) == ("thaw_cnn", (None, 24, 24, 3))
        return
    from tensorflow.lite.tools import flatbuffer_utils

    assert archive.read("labels.txt").decode() == "cat\n🤚\nlong-eared owl\nline\\nbreak\n"
    model = flatbuffer_utils.read_model(str(exported.file))
    (graph,) = model.subgraphs
    names = [graph.tensors[index].name for index in (*graph.inputs, *graph.outputs)]
    assert (graph.name, names) == (b"thaw_cnn", [b"images", b"probabilities"])
    (place,) = (entry.buffer for entry in model.metadata if entry.name == b"TFLITE_METADATA")
    assert bytes(model.buffers[place].data[4:8]) == b"M001"


@pytest.mark.filterwarnings("ignore::UserWarning")  # TensorFlow announces the package that will replace its Lite
def test_the_snippets_of_the_documents_predict_as_thaw_does(exported, monkeypatch, capsys):
    monkeypatch.chdir(exported.file.parent)
    text = (ROOT / "docs/exports.md").read_text(encoding="utf-8")
    reading, *snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (snippet,) = (snippet for snippet in snippets if exported.file.name in snippet)
    found: dict = {}
    exec(reading + snippet, found)
    np.testing.assert_allclose(found["probabilities"], exported.probabilities[:1], atol=1e-5)
    assert found["side"] == 24
    assert capsys.readouterr().out.startswith(f"{CLASSES[exported.probabilities[0].argmax()]} 0.")


def test_a_name_that_keras_would_not_load_is_refused_before_any_work(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["thaw", "export", "--format", "keras", "--output", "model.h5"])
    said = r"^--output: received 'model.h5'; accepted: a name that ends in \.keras, as Keras asks for$"
    with pytest.raises(SystemExit, match=said):
        main()


def test_a_missing_package_is_told_before_tensorflow_is_loaded():
    code = """
import sys
from thaw.__main__ import main
sys.modules["tf2onnx"] = sys.modules["onnxruntime"] = None
try:
    main()
finally:
    print({"keras", "tensorflow"} & set(sys.modules))
"""
    command = [sys.executable, "-c", code, "export", "--format", "onnx"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.stderr == f"--format onnx: no onnxruntime, tf2onnx: {install_command('export')}\n"
    assert (result.returncode, result.stdout) == (1, "set()\n")


@pytest.mark.slow
def test_a_keras_file_needs_nothing_of_ours(tmp_path):
    write_export(build("mobilenetv2"), METADATA, "keras", tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    layers = model._flatten_layers()
    assert all(type(layer).__module__.startswith("keras.") for layer in layers)


@pytest.mark.slow
@pytest.mark.parametrize("form", ("keras", "onnx", "tflite"))
def test_a_file_of_grouped_convolutions_and_gelu_says_what_the_network_says(form, tmp_path):
    network, file = build("convnexttiny"), tmp_path / f"model.{form}"
    write_export(network, METADATA, form, file)
    found = predict_exported(form, file, EXAMPLES.inputs, 16)
    np.testing.assert_allclose(found, probabilities(network), atol=1e-5)
