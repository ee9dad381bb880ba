"""What Keras's `fit`, `evaluate` and `predict` are given: arrays in batches, and a count of what is done."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from thaw.network.replicas import active_replicas
from thaw.runtime.progress import unseen


class CountBatches(keras.callbacks.Callback):
    """Reports the number of finished batches; no step waits for that."""

    # Keras calls these methods from other threads, in any order: they must not touch the model.
    async_safe = True

    def __init__(self, reach: Callable[[int], None] = unseen) -> None:
        super().__init__()
        self.async_safe = not active_replicas().waits
        self._reach = reach

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._reach(batch + 1)

    on_test_batch_end = on_predict_batch_end = on_train_batch_end


def in_batches(batch_size: int, x: Any, y: Any = None, sample_weight: Any = None) -> dict[str, Any]:
    """Arguments of `fit`, `evaluate` and `predict` for arrays that are read in their order.

    For TensorFlow they are a dataset without functions. Of arrays Keras makes one with several, which are traced for
    each call: 0.15 s on a CPU, longer than an epoch of a small head.

    Args:
        batch_size: examples per step; the last batch may have fewer.
        x: array (n, ...), or a dict of such arrays.
        y: array (n, ...), or None.
        sample_weight: array (n,), or None.
    """
    if keras.backend.backend() != "tensorflow":
        given = {"x": x, "y": y, "sample_weight": sample_weight, "batch_size": batch_size}
        return {name: value for name, value in given.items() if value is not None}
    import tensorflow as tf

    arrays = tuple(each for each in (x, y, sample_weight) if each is not None)
    count = len(keras.tree.flatten(arrays)[0])
    batches, rest = divmod(count, batch_size)

    def whole(array: np.ndarray) -> np.ndarray:
        return array[: count - rest].reshape(batches, batch_size, *array.shape[1:])

    dataset = tf.data.Dataset.from_tensor_slices(keras.tree.map_structure(whole, arrays))
    # Also where nothing is left: so the number of examples is none of the shape, and no function is traced for it.
    last = tf.data.Dataset.from_tensors(keras.tree.map_structure(lambda array: array[count - rest :], arrays))
    return {"x": _not_tuned(dataset.concatenate(last.take(min(rest, 1))))}


def read_ahead(batches: keras.utils.PyDataset) -> Any:
    """What `fit` and `evaluate` take for batches that are made one by one: for TensorFlow a dataset that makes the next
    two beside the steps, with the number of examples none of the shape; else `batches` themselves."""
    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    def spec(array: np.ndarray):
        return tf.TensorSpec((None, *array.shape[1:]), array.dtype)

    def make():
        return (batches[number] for number in range(len(batches)))

    dataset = tf.data.Dataset.from_generator(make, output_signature=keras.tree.map_structure(spec, batches[0]))
    return _not_tuned(dataset.apply(tf.data.experimental.assert_cardinality(len(batches))).prefetch(2))


def _not_tuned(dataset):
    """A dataset whose parallelism and buffers are not tuned while it is read.

    The thread that tunes sleeps twice as long each time, and a request to end is lost where it wakes before the request
    is marked (tensorflow/core/framework/cancellation.cc, 2.21). Then the end of an epoch waits until it wakes by
    itself, for up to as long as the epoch took.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
