"""Extraction by several processes: seconds an image, peak memory of each process, and the bytes, by number of images.

    python -m bench.workers                        # with the backbone of params.yaml
    python -m bench.workers backbone=mobilenetv2 backbone.weights=none --images 10000 1000000 --workers 1 2

Images are those of data/processed, repeated. One view is extracted at the head's cut. Each process computes with one
thread: their number changes the last bits, and so each worker may have a core of its own. Each run is in a fresh
process; of two sizes, the cost of an image is that of the images that the larger one has more. Runs that the output
has, of the same machine and parameters, are not run again.

A model of the time, from the runs with one worker over the two smallest numbers of images: a start, and then the
starts of the other workers and what the images cost, divided by the number of workers or, if that is smaller, by what
all cores are worth: as many runs with one worker side by side, in place of one, tell that. They share the memory.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from bench import common
from bench.scale import repeated
from thaw.runtime.memory import anonymous_gb
from thaw.runtime.workers import received_tasks
from thaw.stage import composed_params

ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description="extraction by several processes")
    parser.add_argument("overrides", nargs="*", help="as `dvc exp run -S` takes them; none: params.yaml as it is")
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--output", type=Path, default=Path("bench/results/workers.json"))
    parser.add_argument("--one", nargs=2, type=int, metavar=("IMAGES", "WORKERS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run(*arguments.one, arguments.overrides)))
        return
    os.environ.update(ONE_THREAD)
    params = composed_params(arguments.overrides)
    made = {
        "machine": common.machine("keras", params.backend, "numpy"),
        "settings": json.loads(json.dumps(common.settings(params))),
        "runs": [],
    }
    before = json.loads(arguments.output.read_text(encoding="utf-8")) if arguments.output.exists() else made
    if (before["machine"], before["settings"]) != (made["machine"], made["settings"]):
        raise SystemExit(f"{arguments.output} is of another machine or of other parameters; name another --output")
    runs = before["runs"]
    there = {(run["images"], run["workers"]) for run in runs}
    for images, workers in product(arguments.images, arguments.workers):
        if (images, workers) not in there:
            runs.append(common.apart("bench.workers", "--one", images, workers, *arguments.overrides))
            print(runs[-1], flush=True)
            runs.sort(key=lambda run: (run["images"], run["workers"]))
            common.write(arguments.output, made | {"runs": runs})
    if len({run["images"] for run in runs if run["workers"] == 1}) > 1:
        alone = sorted((run["images"], run["seconds"]) for run in runs if run["workers"] == 1)[1]
        made["cores are worth"] = before.get("cores are worth") or worth(
            *alone, made["machine"]["cores"], arguments.overrides
        )
        for run_of, seconds in zip(runs, modelled(runs, made["cores are worth"]), strict=True):
            run_of["model"] = seconds
        common.write(arguments.output, made | {"runs": runs})
    print(table(runs))


def run(images: int, workers: int, overrides: list[str]) -> dict[str, Any]:
    """Seconds, peak memory of each process in GB, and a hash of the activations."""
    from thaw.runtime.files import sha256

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        of = (folder / "images.npy", images, overrides)
        network, extraction = _prepare(*of)

        from thaw.extraction.extract import extract_features

        started = time.perf_counter()
        with Peaks() as peaks:
            extract_features(folder / "features", network, extraction, workers=workers, worker=partial(_work, *of))
        seconds = time.perf_counter() - started
        activations = sha256(folder / "features/depth0-view0.npy")
    return {
        "images": images,
        "workers": workers,
        "seconds": round(seconds, 1),
        "peak_gb": sorted(peaks.gb.values(), reverse=True),
        "sha256": activations,
    }


def _prepare(file: Path, count: int, overrides: list[str]):
    """Network and extraction; the first process makes the images."""
    from thaw.network.backend import use_backend

    params = composed_params(overrides)
    use_backend(params.backend, params.device, params.run.data_gb)

    from thaw.data.examples import Examples
    from thaw.data.splits import class_names, read_split
    from thaw.extraction.plan import Extraction
    from thaw.network.weights import load_backbone

    classes = class_names(params.dataset.classes)
    images, labels = read_split("train", classes)
    many = np.load(file, mmap_mode="r") if file.exists() else repeated(file, images, count)
    train = Examples(many, np.resize(labels, count))
    extraction = Extraction(
        pool=params.head.pool,
        classes=classes,
        train=train,
        val=Examples(train.inputs[:256], train.labels[:256]),
        augment=params.augment.model_copy(update={"views": 1}),
        settings=params.extract.model_copy(update={"cuts": [0], "budget_gb": 1000.0}),
    )
    return load_backbone(params.backbone, params.seed, params.dataset.image_size), extraction


def _work(file: Path, count: int, overrides: list[str], connection: Connection, folder: Path, depths: dict) -> None:
    network, extraction = _prepare(file, count, overrides)

    from thaw.extraction.store import ActivationStore

    store = ActivationStore(folder, network, extraction, depths)
    for task in received_tasks(connection):
        connection.send(store.write(*task))


class Peaks:
    """Peak anonymous memory, in GB, of this process and of the workers that it starts, by process; read each 0.1 s."""

    def __init__(self) -> None:
        self.gb: dict[int, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Peaks":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            for process in [os.getpid(), *(child.pid for child in multiprocessing.active_children())]:
                gb = anonymous_gb(Path(f"/proc/{process}/status"))
                self.gb[process] = max(self.gb.get(process, 0.0), round(gb, 2))


def worth(images: int, alone: float, cores: int, overrides: list[str]) -> float:
    """How many times as much as one core all cores do, each with an extraction that takes `alone` by itself."""
    with ThreadPoolExecutor() as pool:
        run_one = partial(common.apart, "bench.workers", "--one", images, 1, *overrides)
        at_once = [future.result() for future in [pool.submit(run_one) for _ in range(cores)]]
    return round(cores * alone / max(run["seconds"] for run in at_once), 2)


def modelled(runs: list[dict[str, Any]], worth: float) -> list[float]:
    """Seconds of each run by the model, from those with one worker over the two smallest numbers of images."""
    (few, first), (many, last), *_ = sorted((run["images"], run["seconds"]) for run in runs if run["workers"] == 1)
    cost = (last - first) / (many - few)
    start = first - few * cost
    return [
        round(start + ((run["workers"] - 1) * start + run["images"] * cost) / min(run["workers"], worth), 1)
        for run in runs
    ]


def table(runs: list[dict[str, Any]]) -> str:
    """The runs in Markdown; of each number of workers the cost of an image, between the least and the largest size."""
    least = min(row["images"] for row in runs)
    first = {row["workers"]: row["seconds"] for row in runs if row["images"] == least}
    lines = [
        "| images | workers | s | by the model | ms an image more | peak GB of each process | bytes |",
        "|---|---|---|---|---|---|---|",
    ]
    bytes_of = {row["images"]: row["sha256"] for row in reversed(runs)}
    for row in runs:
        more = row["images"] - least
        cost = f"{1e3 * (row['seconds'] - first[row['workers']]) / more:.3f}" if more else ""
        equal = "equal" if row["sha256"] == bytes_of[row["images"]] else "differ"
        peaks = ", ".join(f"{gb:.2f}" for gb in row["peak_gb"])
        model = f"{row['model']:.0f}" if "model" in row else ""
        cells = f"{row['images']:,}", row["workers"], f"{row['seconds']:.0f}", model, cost, peaks, equal
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
