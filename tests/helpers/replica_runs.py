"""A short training run with all that is random in it, on one device or on several; `train` is the way in.

    python -m tests.helpers.replica_runs FOLDER

runs it on one and on two devices of a CPU, in a process of its own: only one that has not computed yet can be given
several. Of several processes each does its part of a run.
"""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.helpers.examples import OnRows, augment, data, example_images, run, small_network, training
from thaw.config.schema import Device
from thaw.data.examples import Examples, TrainingData
from thaw.network import backend
from thaw.network.backend import active_device, use_backend
from thaw.network.replicas import active_replicas, is_first_process, join_processes, use_replicas
from thaw.network.seeds import seed_initialisers
from thaw.runtime.launched import launched_processes
from thaw.runtime.resume import State
from thaw.training.calibration import validation_temperature
from thaw.training.loop import train_network

BATCH = 8
# Two devices of a CPU, and code that is compiled in a third of the time.
FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def examples() -> TrainingData:
    """Training images that give whole batches, and validation images that do not, some of them with a wrong label."""
    train, val = example_images(40), example_images(21, seed=1)
    return data(train, Examples(val.inputs, np.where(np.arange(21) % 5, val.labels, 0).astype(np.int32)))


def train(file: Path, state: State | None = None, then: tuple[int, Path] | None = None) -> None:
    """Write weights, history and temperature after 10 steps, 2 epochs.

    Args:
        file: .npz.
        state: of the run.
        then: after which epoch to copy that state, and where.
    """

    starts = []

    def copy(rows: list) -> None:
        starts.append(len(rows) - 1)
        if then is not None and len(rows) == then[0] + 1:
            shutil.copytree(state.folder, then[1])

    network = small_network()
    seed_initialisers(0, "head")
    network.attach("avg", 8, 0.3, 4)
    network.freeze(0)
    settings = run(
        training(epochs=2, learning_rate=0.003, average=0.9),
        batch_size=BATCH,
        mixup=0.4,
        augment=augment(flip=True),
        batch_norm="train",
        class_weights=np.array([1, 2, 0.5, 1], np.float32),
    )
    rows = train_network(network, settings, examples(), [OnRows(copy)], state).rows
    print(f"{file.name}: from epoch {starts[0]} on")
    columns = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
    layers = [*network.layers(), *network.head.layers]
    arrays = {weight.path: weight.numpy() for layer in layers for weight in layer.weights}
    arrays["history"] = np.array([[row[column] for column in columns] for row in rows[1:]])
    arrays["temperature"] = np.array(validation_temperature(network, examples(), "unfreeze@all", BATCH))
    if is_first_process():
        np.savez(file, **arrays)


def main() -> None:
    folder = Path(sys.argv[1])
    processes = launched_processes(os.environ)
    join_processes(processes)
    use_backend("jax", Device(xla="auto", precision="float32"))
    if processes.count > 1:
        assert use_replicas(2, BATCH, processes, "test") == 2
        train(folder / "processes.npz")
        return
    train(folder / "one.npz", State("unfreeze@all", folder / "state"), (1, folder / "half"))
    assert use_replicas(2, BATCH) == active_replicas().count == 2
    train(folder / "devices.npz")
    backend._active = replace(active_device(), data_gb=0.0)  # read batch by batch
    train(folder / "resumed.npz", State("unfreeze@all", folder / "half"))


if __name__ == "__main__":
    main()
