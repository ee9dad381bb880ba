"""What an exported file tells about its model, where its format keeps that. Start at `ExportMetadata`.

A .keras file is a zip file, and a .tflite file may have one at its end: `thaw.json` is in both. An .onnx file has
properties, which are text.
"""

import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from thaw import __version__
from thaw.errors import printable
from thaw.network.checkpoint import CHECKPOINT_JSON, CheckpointInfo
from thaw.runtime.files import sha256

# Names of input, output and first dimension in every format that names them.
IMAGES, PROBABILITIES, BATCH = "images", "probabilities", "batch"

# Members of the zip files; TensorFlow Lite's readers look for the second.
THAW_JSON, LABELS_TXT = "thaw.json", "labels.txt"


@dataclass(frozen=True)
class ExportMetadata:
    """What a file tells about its model.

    Attributes:
        name: of the model.
        description: its input and its output.
        classes: names, in the order of the probabilities.
        input_size: side of the images in pixels.
        temperature: what logits are divided by.
        checkpoint: name of the folder.
        checkpoint_sha256: of its checkpoint.json, which has the hashes of all weights.
        thaw: version.
    """

    name: str
    description: str
    classes: list[str]
    input_size: int
    temperature: float
    checkpoint: str
    checkpoint_sha256: str
    thaw: str = __version__


def model_name(info: CheckpointInfo) -> str:
    """Name of the model of a checkpoint, wherever one is written."""
    return f"thaw_{info.backbone['name']}"


def describe_checkpoint(folder: Path, info: CheckpointInfo) -> ExportMetadata:
    """The metadata of a checkpoint with a head."""
    side, count = info.input_size, len(info.classes)
    return ExportMetadata(
        name=model_name(info),
        description=f"Image classifier. Input: RGB images, uint8 ({BATCH}, {side}, {side}, 3), 0 to 255. "
        f"Output: probabilities of the classes, float32 ({BATCH}, {count}).",
        classes=info.classes,
        input_size=side,
        temperature=info.temperature,
        checkpoint=folder.resolve().name,
        checkpoint_sha256=sha256(folder / CHECKPOINT_JSON),
    )


def add_to_zip(path: Path, metadata: ExportMetadata, labels: bool) -> None:
    """Add `thaw.json`, and a file of class names if `labels`, to a zip file, or to a file that gets one at its end."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(THAW_JSON, json.dumps(asdict(metadata), indent=1))
        if labels:
            archive.writestr(LABELS_TXT, "".join(f"{printable(name)}\n" for name in metadata.classes))


def add_to_onnx(path: Path, metadata: ExportMetadata) -> None:
    """Name the graph, its input, its output and their first dimension, and add properties.

    tf2onnx calls the last two `Identity:0` and `unk__663`. A property that is no text is JSON.
    """
    import onnx

    model = onnx.load(path)
    graph, output = model.graph, model.graph.output[0].name
    model.doc_string, graph.name = metadata.description, metadata.name
    for tensor in (graph.input[0], graph.output[0]):
        tensor.type.tensor_type.shape.dim[0].dim_param = BATCH
    graph.output[0].name = PROBABILITIES
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [PROBABILITIES if name == output else name for name in names]
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in asdict(metadata).items()}
    onnx.helper.set_model_props(model, texts)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def add_to_tflite(path: Path, metadata: ExportMetadata) -> None:
    """Name the model, its input and its output, and add metadata with a file of class names.

    Source: https://ai.google.dev/edge/litert/conversion/tensorflow/metadata
    """
    # With these modules TensorFlow's own converter adds metadata.
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    (graph,), (signature,) = model.subgraphs, model.signatureDefs
    model.description, graph.name = metadata.description, metadata.name
    for tensor, name in ((graph.inputs[0], IMAGES), (graph.outputs[0], PROBABILITIES)):
        graph.tensors[tensor].name = name
    signature.outputs[0].name = PROBABILITIES
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = _model_metadata(metadata)
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata.append(entry)
    flatbuffer_utils.write_model(model, str(path))
    add_to_zip(path, metadata, labels=True)


def _model_metadata(metadata: ExportMetadata) -> bytes:
    """A `ModelMetadata` of tflite-support's metadata_schema.fbs 1.1.0, whose numbers of fields and values these are."""
    import flatbuffers

    rgb, image_properties, tensor_axis_labels = 1, 2, 2
    image = {0: image_properties, 1: {0: rgb}}
    images = {0: IMAGES, 1: "RGB, 0 to 255", 3: image}
    labels = {0: LABELS_TXT, 1: "Names of the classes", 2: tensor_axis_labels}
    probabilities = {0: PROBABILITIES, 1: "Probabilities of the classes", 6: [labels]}
    graph = {0: metadata.name, 2: [images], 3: [probabilities]}
    builder = flatbuffers.Builder()
    fields = {0: metadata.name, 1: metadata.description, 2: metadata.checkpoint_sha256, 3: [graph], 7: "1.0.0"}
    builder.Finish(_add_table(builder, fields), file_identifier=b"M001")
    return bytes(builder.Output())


def _add_table(builder: Any, fields: dict[int, Any]) -> int:
    """Add a table to a flatbuffer: texts, bytes, tables and lists of tables, by number of the field."""
    places = {number: _add(builder, value) for number, value in fields.items() if not isinstance(value, int)}
    builder.StartObject(max(fields) + 1)
    for number, value in fields.items():
        if number in places:
            builder.PrependUOffsetTRelativeSlot(number, places[number], 0)
        else:
            builder.PrependInt8Slot(number, value, 0)
    return builder.EndObject()


def _add(builder: Any, value: str | dict | list[dict]) -> int:
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, dict):
        return _add_table(builder, value)
    tables = [_add_table(builder, table) for table in value]
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    return builder.EndVector()
