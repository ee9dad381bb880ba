"""The model as one file, from uint8 images to probabilities, for use without thaw. Start at `write_export`."""

import contextlib
import io
import warnings
from pathlib import Path

import keras
import numpy as np

from thaw.app.metadata import IMAGES, PROBABILITIES, ExportMetadata, add_to_onnx, add_to_tflite, add_to_zip
from thaw.backbones import BACKBONES
from thaw.network.backend import quiet
from thaw.network.build import Network
from thaw.network.folding import is_depthwise

# Largest accepted difference of a probability from the checkpoint's: other programs sum in another order.
TOLERANCE = 1e-3


def standalone(network: Network, temperature: float, name: str) -> keras.Model:
    """The network with its preprocessing, in Keras's own layers only: a saved file loads without thaw.

    From images, uint8 (n, side, side, 3), to probabilities, float32 (n, classes), of logits divided by the temperature.
    """
    row = BACKBONES[network.name]
    images = keras.Input((network.input_size, network.input_size, 3), dtype="uint8", name=IMAGES)
    x = keras.layers.Rescaling(1.0, name="as_float")(images)
    # Normalisation and the order of the channels are one 1x1 convolution.
    kernel = np.diag(1 / np.array(row.std))
    if row.channels == "bgr":
        kernel = kernel[::-1]
    normalise = keras.layers.Conv2D(3, 1, trainable=False, name="normalise")
    x = normalise(x)
    normalise.set_weights([kernel[None, None].astype("float32"), -(np.array(row.mean) / row.std).astype("float32")])
    if network.image_size != network.input_size:
        x = keras.layers.Resizing(network.image_size, network.image_size, name="resize")(x)
    for block in network.blocks:
        x = _in_operations_of_onnx(block)(x, training=False)
    x = network.head(network.pooled(x), training=False)
    if temperature != 1:
        x = keras.layers.Rescaling(1 / temperature, name="temperature")(x)
    return keras.Model(images, keras.layers.Softmax(name=PROBABILITIES)(x), name=name)


def _in_operations_of_onnx(block: keras.Model) -> keras.Model:
    """A block without the two things that Keras has TensorFlow compute by operations that ONNX lacks.

    Convolutions with one group for each channel, which XLA computes, are DepthwiseConv2D; GELU is written with erf, not
    with erfc.
    """
    depthwise = {layer.name: _depthwise_layer(layer) for layer in block.layers if is_depthwise(layer)}
    gelus = {layer.name for layer in block.layers if _is_gelu(layer)}
    if not depthwise and not gelus:
        return block

    def call(layer: keras.layers.Layer, x, *others, **options):
        return 0.5 * x * (1 + keras.ops.erf(x / 2**0.5)) if layer.name in gelus else layer(x, *others, **options)

    copy = keras.models.clone_model(
        block, clone_function=lambda layer: depthwise.get(layer.name, layer), call_function=call
    )
    for name, layer in depthwise.items():
        kernel, *bias = block.get_layer(name).get_weights()
        layer.set_weights([kernel.swapaxes(2, 3), *bias])
    return copy


def _is_gelu(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.gelu


def _depthwise_layer(conv: keras.layers.Conv2D) -> keras.layers.DepthwiseConv2D:
    shared = ("name", "kernel_size", "strides", "padding", "dilation_rate", "activation", "use_bias")
    return keras.layers.DepthwiseConv2D(**{name: getattr(conv, name) for name in shared})


def write_export(network: Network, metadata: ExportMetadata, form: str, path: Path) -> None:
    """Write the network as one file.

    Args:
        network, metadata: of a checkpoint.
        form: keras, onnx or tflite.
    """
    model = standalone(network, metadata.temperature, metadata.name)
    if form == "keras":
        model.save(path)
        add_to_zip(path, metadata, labels=False)
    elif form == "onnx":
        model(np.zeros((1, *model.input_shape[1:]), np.uint8))  # Keras exports no model that was never called
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # tf2onnx uses what NumPy no longer has
            model.export(path, format="onnx", verbose=False)
        add_to_onnx(path, metadata)
    else:
        import tensorflow as tf

        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        # TensorFlow lists every variable on standard output.
        with quiet(), contextlib.redirect_stdout(io.StringIO()):
            content = converter.convert()
        path.write_bytes(content)
        add_to_tflite(path, metadata)


def predict_exported(form: str, path: Path, images: np.ndarray, batch_size: int = 128) -> np.ndarray:
    """Probabilities (n, classes) that an exported file gives images, uint8 (n, side, side, 3)."""
    run = {"keras": _keras, "onnx": _onnx, "tflite": _tflite}[form](path)
    return np.concatenate([run(images[first : first + batch_size]) for first in range(0, len(images), batch_size)])


def _keras(path: Path):
    model = keras.models.load_model(path)
    return lambda images: np.asarray(model(images, training=False))


def _onnx(path: Path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def _tflite(path: Path):
    import tensorflow as tf

    with quiet(), warnings.catch_warnings():
        # TensorFlow announces the package that will replace it.
        warnings.simplefilter("ignore", UserWarning)
        interpreter = tf.lite.Interpreter(str(path))
        interpreter.allocate_tensors()
    start, end = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(images: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(start, images.shape)
        with quiet():  # the interpreter prints which delegate computes
            interpreter.allocate_tensors()
        interpreter.set_tensor(start, images)
        interpreter.invoke()
        return interpreter.get_tensor(end)

    return run
