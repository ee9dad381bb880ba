"""Replicas: devices that train one phase together, each on its share of every batch; on JAX alone.

Keras's DataParallel gives each device a copy of every variable. JAX divides what is computed for a batch, and draws the
random numbers of the whole batch. Start at `use_replicas`; in a process that does not call it there is one replica.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from thaw.errors import ParamError
from thaw.runtime.progress import unseen


@dataclass(frozen=True)
class Replicas:
    """The replicas that this process computes with.

    Attributes:
        count: of devices.
        waits: whether a step must have ended before the next one starts. Devices that a CPU is divided into share its
            threads: with several steps under way, all threads may wait for a sum over devices that none computes.
    """

    count: int = 1
    waits: bool = False


_active = Replicas()


def active_replicas() -> Replicas:
    """The replicas that `use_replicas` set up; before that, one."""
    return _active


def replica_count(asked: int | Literal["auto"], devices: int, batch_size: int) -> int:
    """The number of replicas on so many devices: for auto, as many as divide a batch.

    Raises:
        ParamError: more are asked for than there are.
    """
    if asked == "auto":
        return max(count for count in range(1, devices + 1) if batch_size % count == 0)
    if asked > devices:
        raise ParamError("run.replicas", asked, f"1 to {devices}, the devices there are, or auto")
    return asked


def use_replicas(asked: int | Literal["auto"], batch_size: int) -> int:
    """Have Keras compute on several devices, where the backend is JAX; called before any model is built.

    Args:
        asked: `run.replicas`.
        batch_size: examples per step; divided among the replicas.

    Returns:
        The number of replicas.

    Raises:
        ParamError: more are asked for than there are devices.
    """
    global _active
    if asked == 1:
        return 1
    import keras

    if keras.backend.backend() != "jax":
        return 1
    import jax

    devices = jax.local_devices()
    gpus = devices[0].platform == "gpu"
    count = replica_count(asked, len(devices) if gpus or asked != "auto" else 1, batch_size)
    if count > 1:
        _active = Replicas(count, waits=not gpus)
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices[:count]))
    return count


def padded(count: int) -> int:
    """The least number from `count` on that the replicas divide."""
    return -(-count // _active.count) * _active.count


def predict_divided(
    model: Any,
    inputs: np.ndarray | dict[str, np.ndarray],
    rows: np.ndarray,
    batch_size: int,
    reach: Callable[[int], None] = unseen,
) -> list[np.ndarray]:
    """The outputs of a model for some rows, each batch divided among the replicas; an array for each output.

    The last batch is padded.

    Args:
        model: in inference mode.
        inputs: array (n, ...), or a dict of such arrays.
        rows: numbers of the examples.
        batch_size: examples per step.
        reach: called after each batch with the number of finished examples.
    """
    import keras

    variables = [[each.value for each in of] for of in (model.trainable_variables, model.non_trainable_variables)]
    # All batches of one shape, as each is traced first.
    function, size = _predict_function(model), padded(min(batch_size, len(rows)))
    outputs = []
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        whole = np.r_[some, np.full(size - len(some), some[-1])]
        batch = keras.tree.map_structure(lambda array, whole=whole: _divided(np.asarray(array[whole])), inputs)
        results = keras.tree.flatten(function(*variables, batch))
        outputs.append([np.asarray(result)[: len(some)] for result in results])
        reach(start + len(some))
    return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]


def _predict_function(model: Any) -> Callable[..., Any]:
    """The compiled function from variables and inputs of a model to its outputs, which every device has whole."""
    import jax
    import keras

    function = getattr(model, "thaw_predict_function", None)
    if function is None:

        def predict(trainable: list, non_trainable: list, batch: Any) -> Any:
            return model.stateless_call(trainable, non_trainable, batch, training=False)[0]

        mesh = keras.distribution.distribution().device_mesh.backend_mesh
        whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        function = model.thaw_predict_function = jax.jit(predict, out_shardings=whole)
    return function


def _divided(rows: np.ndarray) -> Any:
    """An array of which each device has its share of the rows."""
    import jax
    import keras

    layout = keras.distribution.distribution().get_data_layout(rows.shape).backend_layout
    return jax.make_array_from_process_local_data(layout, rows)
