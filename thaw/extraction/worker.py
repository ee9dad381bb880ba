"""A process that extracts ranges of rows for another one. It imports Keras no sooner than it has chosen its GPU."""

import os
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

from thaw.config.schema import Params
from thaw.network.backend import use_backend
from thaw.runtime.gpus import VISIBLE, take_gpu
from thaw.runtime.workers import received_tasks


def work(
    params: Params, visible: str | None, connection: Connection, folder: Path, depths: Mapping[str, tuple[int, ...]]
) -> None:
    """Compute and write the ranges that come, up to the end of the process that sends them.

    Args:
        params: all parameters.
        visible: CUDA_VISIBLE_DEVICES, of which one is taken; None: all GPUs.
        connection: to that process.
        folder: of the files of activations.
        depths: of the cuts that are stored, for each view.
    """
    if visible is None:
        os.environ.pop(VISIBLE, None)
    else:
        os.environ[VISIBLE] = visible
    take_gpu("extract, worker")
    use_backend(params.backend, params.device, params.run.data_gb)

    from thaw.extraction.plan import load_extraction
    from thaw.extraction.store import ActivationStore

    store = ActivationStore(folder, *load_extraction(params), depths)
    for task in received_tasks(connection):
        connection.send(store.write(*task))
