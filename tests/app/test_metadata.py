"""What exported files tell about their model, beside the files of test_export.py."""

import json

import numpy as np
import pytest
from flatbuffers import encode, packer
from flatbuffers.table import Table

from thaw.app.metadata import ExportMetadata, _model_metadata, add_to_onnx, describe_checkpoint
from thaw.network.checkpoint import CheckpointInfo
from thaw.runtime.files import seal_folder, sha256

METADATA = ExportMetadata("thaw_cnn", "Sees é.", ["cat", "🤚", "long-eared owl"], 24, 1.7, "all", "0" * 64)


def test_it_follows_from_the_checkpoint(tmp_path):
    backbone = {"name": "mobilenetv2", "image_size": 96, "alpha": 0.35, "input_size": 64}
    info = CheckpointInfo(backbone, {}, {"pool": "avg"}, ["cat", "dog"], temperature=0.8)
    seal_folder(tmp_path / "checkpoint.json", vars(info))
    found = describe_checkpoint(tmp_path, info)
    assert (found.name, found.classes, found.input_size, found.temperature) == (
        "thaw_mobilenetv2",
        ["cat", "dog"],
        64,
        0.8,
    )
    assert "uint8 (batch, 64, 64, 3)" in found.description and "float32 (batch, 2)" in found.description
    assert found.checkpoint == tmp_path.name, "no path of this machine"
    assert found.checkpoint_sha256 == sha256(tmp_path / "checkpoint.json")


def test_an_onnx_graph_gets_names_and_properties(tmp_path):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    make, kinds = onnx.helper, onnx.TensorProto
    images = make.make_tensor_value_info("images", kinds.UINT8, ["unk__1", 3])
    output = make.make_tensor_value_info("Identity:0", kinds.FLOAT, ["unk__2", 3])
    nodes = [
        make.make_node("Cast", ["images"], ["x"], to=kinds.FLOAT),
        make.make_node("Softmax", ["x"], ["Identity:0"]),
        make.make_node("Neg", ["Identity:0"], ["unused"]),
    ]
    model = make.make_model(
        make.make_graph(nodes, "tf2onnx", [images], [output]),
        opset_imports=[make.make_opsetid("", 15)],
        ir_version=8,
    )
    onnx.save(model, tmp_path / "a.onnx")
    add_to_onnx(tmp_path / "a.onnx", METADATA)
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    (images,), (output,), about = session.get_inputs(), session.get_outputs(), session.get_modelmeta()
    assert (images.name, images.shape) == ("images", ["batch", 3])
    assert (output.name, output.shape) == ("probabilities", ["batch", 3])
    assert (about.graph_name, about.description) == ("thaw_cnn", "Sees é.")
    assert json.loads(about.custom_metadata_map["classes"]) == METADATA.classes
    assert about.custom_metadata_map["input_size"] == "24"
    assert about.custom_metadata_map["temperature"] == "1.7"
    assert about.custom_metadata_map["checkpoint"] == "all"
    (found,) = session.run(["probabilities"], {"images": np.zeros((7, 3), np.uint8)})
    np.testing.assert_allclose(found, np.full((7, 3), 1 / 3), rtol=1e-6)


def test_tflite_metadata_have_the_fields_of_their_schema():
    """Numbers of fields and values: metadata_schema.fbs 1.1.0 of tflite-support."""
    data = _model_metadata(METADATA)
    assert data[4:8] == b"M001"

    def place(table: Table, number: int) -> int:
        return table.Offset(4 + 2 * number)

    def text(table: Table, number: int) -> str:
        return table.String(table.Pos + place(table, number)).decode()

    def byte(table: Table, number: int) -> int:
        return data[table.Pos + place(table, number)]

    def only(table: Table, number: int) -> Table:
        assert table.VectorLen(place(table, number)) == 1
        return Table(data, table.Indirect(table.Vector(place(table, number))))

    def below(table: Table, number: int) -> Table:
        return Table(data, table.Indirect(table.Pos + place(table, number)))

    model = Table(data, encode.Get(packer.uoffset, data, 0))
    assert [text(model, number) for number in (0, 1, 2, 7)] == ["thaw_cnn", "Sees é.", "0" * 64, "1.0.0"]
    graph = only(model, 3)
    images, probabilities = only(graph, 2), only(graph, 3)
    assert text(images, 0) == "images"
    content = below(images, 3)
    assert byte(content, 0) == 2, "ContentProperties.ImageProperties"
    assert byte(below(content, 1), 0) == 1, "ColorSpaceType.RGB"
    assert text(probabilities, 0) == "probabilities"
    file = only(probabilities, 6)
    assert (text(file, 0), byte(file, 2)) == ("labels.txt", 2), "AssociatedFileType.TENSOR_AXIS_LABELS"
