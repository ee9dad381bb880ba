"""Inference: the outputs of a model, chunk by chunk, and probabilities. Start at `predict_logits`."""

import math
from collections.abc import Callable, Iterator

import keras
import numpy as np

from thaw.network.backend import active_device
from thaw.network.batches import CountBatches, in_batches
from thaw.network.replicas import active_replicas, predict_divided
from thaw.runtime.progress import unseen


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities over the last axis, float64; a temperature above 1 makes them more alike, and moves no maximum."""
    shifted = np.asarray(logits, np.float64) / temperature
    shifted = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


# Limits of a chunk, the examples of one call of Keras's `predict`: their number, and bytes of inputs and outputs.
CHUNK = 16_384
CHUNK_BYTES = 256e6


def compiles(model: keras.Model) -> bool:
    """Whether XLA compiles a model: not where a layer cannot be compiled, of which Keras would warn."""
    return active_device().xla and all(layer.supports_jit for layer in model._flatten_layers())


def chunk_size(model: keras.Model, batch_size: int) -> int:
    """Number of examples of a chunk: whole batches, within CHUNK and CHUNK_BYTES."""
    tensors = keras.tree.flatten([model.inputs, model.outputs])
    size = sum(math.prod(tensor.shape[1:]) * np.dtype(tensor.dtype).itemsize for tensor in tensors)
    most = max(1, min(CHUNK, int(CHUNK_BYTES / size)))
    return most // batch_size * batch_size or most


def predict_chunks(
    model: keras.Model,
    inputs: np.ndarray | dict[str, np.ndarray],
    batch_size: int,
    reach: Callable[[int], None] = unseen,
) -> Iterator[tuple[slice, list[np.ndarray]]]:
    """The outputs of a model chunk by chunk, so that memory does not grow with the number of examples.

    Args:
        model: in inference mode.
        inputs: array (n, ...), or a dict of such arrays.
        batch_size: examples per step.
        reach: called after each batch, from any thread, with the number of finished examples.

    Yields:
        The slice of examples of a chunk, and an array for each output of the model.
    """
    count, size = len(keras.tree.flatten(inputs)[0]), chunk_size(model, batch_size)
    for number in range(math.ceil(count / size)):
        place = slice(number * size, min((number + 1) * size, count))

        def reach_rows(rows: int, place: slice = place) -> None:
            reach(place.start + rows)

        yield place, predict_rows(model, inputs, batch_size, place, reach_rows)


def predict_rows(
    model: keras.Model,
    inputs: np.ndarray | dict[str, np.ndarray],
    batch_size: int,
    place: slice,
    reach: Callable[[int], None] = unseen,
) -> list[np.ndarray]:
    """The outputs of a model for some examples, an array for each output.

    Args:
        model, inputs, batch_size: as for `predict_chunks`.
        place: slice of the examples, from a whole number of batches on.
        reach: called after each batch, from any thread, with the number of finished examples of the slice.
    """
    if active_replicas().count > 1:
        return predict_divided(model, inputs, np.r_[place], batch_size, reach)
    return predict_chunk(model, chunk_of(inputs, batch_size, place), batch_size, place.stop - place.start, reach)


def chunk_of(
    inputs: np.ndarray | dict[str, np.ndarray], batch_size: int, place: slice
) -> np.ndarray | dict[str, np.ndarray]:
    """A copy of some examples, the last one repeated up to whole batches; arguments as for `predict_rows`.

    A batch of another shape is traced first, 0.7 s for MobileNetV2 on a CPU.
    """
    count, own = len(keras.tree.flatten(inputs)[0]), place.stop - place.start
    short = -own % batch_size if count > batch_size else 0
    rows = np.r_[place, np.full(short, place.stop - 1)]
    return keras.tree.map_structure(lambda array: np.asarray(array[rows]), inputs)


def predict_chunk(
    model: keras.Model,
    chunk: np.ndarray | dict[str, np.ndarray],
    batch_size: int,
    own: int,
    reach: Callable[[int], None] = unseen,
) -> list[np.ndarray]:
    """The outputs of a model for the first `own` examples of a chunk; the rest as for `predict_rows`."""
    model.jit_compile = compiles(model)
    count_batches = CountBatches(lambda batches: reach(min(batches * batch_size, own)))
    outputs = model.predict(**in_batches(batch_size, chunk), verbose=0, callbacks=[count_batches])
    # Flattened, since Keras returns a single output without a list.
    return [output[:own] for output in keras.tree.flatten(outputs)]


def predict_logits(
    classifier: keras.Model, inputs: np.ndarray, batch_size: int, reach: Callable[[int], None] = unseen
) -> np.ndarray:
    """Logits, float32 (n, classes), of all inputs; arguments as for `predict_chunks`."""
    return np.concatenate([logits for _, (logits,) in predict_chunks(classifier, inputs, batch_size, reach=reach)])
