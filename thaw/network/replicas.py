"""Replicas: devices that train one phase together, each on its share of every batch; on JAX alone.

Keras's DataParallel gives each device a copy of every variable. JAX divides what is computed for a batch, and draws the
random numbers of the whole batch. The devices may be those of several processes, on several hosts: all of them run the
same code, and wait for each other where a value goes onto the devices. Start at `use_replicas`; in a process that does
not call it there is one replica.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from thaw.errors import ParamError, ThawError
from thaw.network.seeds import derive_seed, seed_initialisers
from thaw.runtime.gpus import VISIBLE, holds_gpus
from thaw.runtime.launched import ALONE, Processes
from thaw.runtime.progress import unseen


@dataclass(frozen=True)
class Replicas:
    """The replicas that this process computes with.

    Attributes:
        count: of devices, those of all processes.
        waits: whether a step must have ended before the next one starts. Devices that a CPU is divided into share its
            threads: with several steps under way, all threads may wait for a sum over devices that none computes.
        processes: whose devices they are.
    """

    count: int = 1
    waits: bool = False
    processes: Processes = ALONE

    def share(self, count: int) -> slice:
        """Places of this process's examples in a batch of `count`."""
        size = count // self.processes.count
        return slice(self.processes.number * size, (self.processes.number + 1) * size)


_active = Replicas()


def active_replicas() -> Replicas:
    """The replicas that `use_replicas` set up; before that, one."""
    return _active


def is_first_process() -> bool:
    """Whether this process is the one that writes files."""
    return _active.processes.first


def replica_count(asked: int | Literal["auto"], devices: int, batch_size: int, processes: int = 1) -> int:
    """The number of replicas of each process that has so many devices: for auto, as many as divide a batch.

    Raises:
        ParamError: more are asked for than there are, or the processes do not divide them.
    """
    if asked == "auto":
        if batch_size % processes:
            raise ParamError("batch_size", batch_size, f"a multiple of {processes}, as the processes divide each batch")
        return max(count for count in range(1, devices + 1) if batch_size % (count * processes) == 0)
    if asked % processes:
        raise ParamError("run.replicas", asked, f"a multiple of {processes}, the processes that were started, or auto")
    if asked > devices * processes:
        raise ParamError("run.replicas", asked, f"1 to {devices * processes}, the devices there are, or auto")
    return asked // processes


def join_processes(processes: Processes) -> None:
    """Meet the other processes, if any; called before JAX computes anything.

    Raises:
        ThawError: they do not come.
    """
    if processes.count == 1:
        return
    import jax

    # What JAX takes for granted, one GPU for each process of a host, is not so where it has a GPU of its own.
    own = list(range(len(os.environ[VISIBLE].split(",")))) if holds_gpus() else None
    try:
        jax.distributed.initialize(num_processes=processes.count, process_id=processes.number, local_device_ids=own)
    except (RuntimeError, ValueError) as error:
        raise ThawError(f"{processes.count} processes do not meet: {' '.join(str(error).split())[:300]}") from None


def use_replicas(asked: int | Literal["auto"], batch_size: int, processes: Processes = ALONE, task: str = "") -> int:
    """Have Keras compute on several devices, where the backend is JAX; called before any model is built.

    Args:
        asked: `run.replicas`.
        batch_size: examples per step; divided among the replicas.
        processes: as `join_processes` got them.
        task: what all of them must be started for.

    Returns:
        The number of replicas.

    Raises:
        ParamError: more are asked for than there are devices.
        ThawError: another process was started for another task.
    """
    global _active
    if asked == 1:
        return 1
    import keras

    if keras.backend.backend() != "jax":
        return 1
    import jax

    gpus = jax.devices()[0].platform == "gpu"
    here = len(jax.local_devices()) if gpus or asked != "auto" else 1
    own = replica_count(asked, here, batch_size, processes.count)
    if (count := own * processes.count) > 1:
        _active = Replicas(count, not gpus, processes)
        refuse_different("stage, parameters or number of GPUs", task, own)
        devices = [
            device
            for number in range(processes.count)
            for device in [each for each in jax.devices() if each.process_index == number][:own]
        ]
        distribution = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
        keras.distribution.set_distribution(distribution)
        if processes.count > 1:
            # Weights have random values before those of a checkpoint are loaded: the same in all processes.
            seed_initialisers("replicas")
    return count


def refuse_different(what: str, *values: object) -> None:
    """Refuse values that are not the same in all processes; they wait for each other here.

    Raises:
        ThawError: names `what` differs.
    """
    if _active.processes.count > 1:
        from jax.experimental import multihost_utils

        values_of_all = multihost_utils.process_allgather(np.array(derive_seed(*values), np.uint32))
        if len(set(np.ravel(values_of_all).tolist())) > 1:
            raise ThawError(f"the {_active.processes.count} processes differ in {what}")


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
        own = whole[_active.share(size)]
        batch = keras.tree.map_structure(lambda array, own=own: _divided(np.asarray(array[own])), inputs)
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
    """An array of which each device has its share of the rows, of which this process has its own."""
    import jax
    import keras

    layout = keras.distribution.distribution().get_data_layout(rows.shape).backend_layout
    return jax.make_array_from_process_local_data(layout, rows)
