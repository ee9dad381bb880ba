"""Extraction on other hosts: a process here hands ranges to an actor on a Ray cluster. Start at `work_remotely`.

What travels are parameters, the files of the backbone, and arrays: images there, activations back. The hosts need thaw
and Ray, and no disk in common.
"""

import logging
import os
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from thaw import paths
from thaw.config.schema import Params
from thaw.network.backend import use_backend
from thaw.runtime.gpus import VISIBLE
from thaw.runtime.threads import THREADS
from thaw.runtime.workers import received_tasks

Depths = Mapping[str, tuple[int, ...]]


def work_remotely(params: Params, connection: Connection, folder: Path, depths: Depths) -> None:
    """Have an actor compute the ranges that come, and write them, up to the end of the process that sends them.

    Args:
        params: all parameters; `run.cluster` is the address of the cluster.
        connection: to that process.
        folder: of the files of activations.
        depths: of the cuts that are stored, for each view.
    """
    os.environ[VISIBLE] = ""  # this process computes nothing
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    use_backend(params.backend, params.device, params.run.data_gb)

    import ray

    from thaw.extraction.plan import load_extraction
    from thaw.extraction.store import ActivationStore

    store = ActivationStore(folder, *load_extraction(params), depths)
    try:
        ray.init(params.run.cluster, logging_level=logging.ERROR, log_to_driver=False)
        # As the workers of this host would have: the number of threads moves bits.
        threads = {name: os.environ[name] for name in THREADS if name in os.environ}
        options: dict[str, Any] = {
            "num_cpus": 1,
            "num_gpus": int(bool(ray.cluster_resources().get("GPU"))),
            "scheduling_strategy": "SPREAD",
            "runtime_env": {"env_vars": threads | {"KERAS_BACKEND": params.backend}},
        }
        backbone = {path.name: path.read_bytes() for path in paths.BACKBONE.iterdir()}
        actor: Any = ray.remote(**options)(Extractor)
        actor = actor.remote(params, backbone, depths)
        ray.get(actor.ready.remote())
        for view, start, stop in received_tasks(connection):
            activations = ray.get(actor.compute.remote(view, store.chunk(view, start, stop), stop - start))
            connection.send(store.put(view, start, stop, activations))
    except (ray.exceptions.RayError, ConnectionError, RuntimeError) as error:
        print(f"extract: run.cluster: {type(error).__name__}: {' '.join(str(error).split())[:200]}", flush=True)
        sys.exit(1)


class Extractor:
    """The frozen backbone on another host; an actor."""

    def __init__(self, params: Params, backbone: dict[str, bytes], depths: Depths) -> None:
        """Load the backbone.

        Args:
            params: all parameters, as there.
            backbone: contents of the files of its checkpoint, by name.
            depths: of the cuts that are stored, for each view.
        """
        use_backend(params.backend, params.device, params.run.data_gb)

        from thaw.data.examples import Examples
        from thaw.extraction.plan import Extraction
        from thaw.extraction.store import ActivationStore
        from thaw.network.checkpoint import load_checkpoint

        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for name, content in backbone.items():
                (folder / name).write_bytes(content)
            network, _ = load_checkpoint(folder, with_head=False)
        nothing = Examples(np.zeros(0, np.uint8), np.zeros(0, np.int64))
        extraction = Extraction(
            pool=params.head.pool, classes=[], train=nothing, val=nothing, augment=params.augment,
            settings=params.extract,
        )  # fmt: skip
        self._store = ActivationStore(Path(), network, extraction, depths)

    def ready(self) -> None:
        """Return when the backbone is there."""

    def compute(self, view: str, chunk: np.ndarray | dict[str, np.ndarray], count: int) -> list[np.ndarray]:
        """As `ActivationStore.compute`."""
        return self._store.compute(view, chunk, count)
