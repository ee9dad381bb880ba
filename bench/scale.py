"""Cost per image and peak memory by number of images: extract and one phase on 5,000, 50,000 and 500,000 images.

    python -m bench.scale                          # with the backbone of params.yaml
    python -m bench.scale backbone=mobilenetv2 backbone.weights=none --images 5000 50000

Images are those of data/processed, repeated. One view is extracted at the cuts of the head and of the
top block; then the top block is trained. Costs that do not depend on the number of images (building,
tracing, validation) are separated: extraction and epochs are timed less those of a few images, epochs without
the first, and either is the median of as many repeats as make 50,000 images. Each size runs in a separate
process.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench import common
from thaw.stage import composed_params

DEPTH = 1


def main() -> None:
    parser = argparse.ArgumentParser(description="cost per image and peak memory by number of images")
    parser.add_argument("overrides", nargs="*", help="as `dvc exp run -S` takes them; none: params.yaml as it is")
    parser.add_argument("--images", type=int, nargs="+", default=[5_000, 50_000, 500_000])
    parser.add_argument("--output", type=Path, default=Path("bench/results/scale.json"))
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run(arguments.one, arguments.overrides)))
        return
    runs = []
    for count in arguments.images:
        runs.append(common.apart("bench.scale", "--one", count, *arguments.overrides))
        print(runs[-1], flush=True)
    params = composed_params(arguments.overrides)
    result = {"machine": common.machine("keras", params.backend, "numpy"), "settings": common.settings(params)}
    common.write(arguments.output, result | {"runs": runs})
    print(table(runs))


def run(count: int, overrides: list[str]) -> dict[str, Any]:
    """Seconds per image of extraction and of training, once-only seconds, and peak memory."""
    from thaw.network.backend import active_device, use_backend

    params = composed_params(overrides)
    use_backend(params.backend, params.device, params.run.data_gb)

    from bench.clock import Clock
    from thaw.data.examples import Examples, TrainingData
    from thaw.data.splits import class_names, read_split
    from thaw.data.stored import phase_data, read_activations
    from thaw.extraction.extract import extract_features
    from thaw.extraction.plan import Extraction
    from thaw.network.seeds import seed_initialisers
    from thaw.network.weights import load_backbone
    from thaw.runtime.memory import PeakMemory
    from thaw.training.loop import Run, train_network

    classes = class_names(params.dataset.classes)
    network = load_backbone(params.backbone, params.seed, params.dataset.image_size)
    seed_initialisers(params.seed, "head")
    network.attach(params.head.pool, params.head.units, params.head.dropout, len(classes))
    network.freeze(sum(count for _, count in _blocks(network.name)[:-DEPTH]))
    # Short runs are repeated: a tenth of a second more or less would change their result.
    repeats = max(1, 50_000 // count)
    phase = params.head.model_copy(update={"epochs": 1 + repeats, "lr_schedule": "constant", "patience": None})
    settings = params.extract.model_copy(update={"cuts": [0, DEPTH], "budget_gb": 1000.0})
    augment = params.augment.model_copy(update={"views": 1})
    training_run = Run(
        stage="scale",
        phase="scale",
        training=phase,
        batch_size=params.batch_size,
        seed=params.seed,
        augment=augment,
        batch_norm="inference",
        mixup=0.2,
    )
    with tempfile.TemporaryDirectory() as temporary, PeakMemory() as memory:
        folder = Path(temporary)
        train = Examples(
            repeated(folder / "images.npy", read_split("train", classes)[0], count),
            np.resize(read_split("train", classes)[1], count),
        )
        few = Examples(train.inputs[:256], train.labels[:256])

        def extract(examples: Examples, name: str) -> None:
            pool = params.head.pool
            extraction = Extraction(
                pool=pool, classes=classes, train=examples, val=few, augment=augment, settings=settings
            )
            extract_features(folder / name, network, extraction)

        # A pass of almost no images measures tracing and the validation set; the first one warms up.
        extract(few, "few")
        once, extraction = [], []
        for _ in range(repeats):
            for examples, seconds, name in ((few, once, "few"), (train, extraction, "features")):
                started = time.perf_counter()
                extract(examples, name)
                seconds.append(time.perf_counter() - started)
        once = statistics.median(once)
        extraction = statistics.median(extraction) - once
        val = read_activations(folder / "few", DEPTH, "val")

        def epochs(name: str) -> np.ndarray:
            clock = Clock()
            data = TrainingData(DEPTH, phase_data(folder / name, DEPTH, classes).views, val)
            train_network(network, training_run, data, [clock])
            return np.diff(clock.ends)

        few_epochs, all_epochs = epochs("few"), epochs("features")
        stored = read_activations(folder / "features", DEPTH, 0).inputs.nbytes
    # Seconds of an epoch of almost no images: validation, and Keras's start.
    start = statistics.median(few_epochs[1:])
    training_seconds = statistics.median(all_epochs[1:]) - start
    return {
        "images": count,
        "extract_ms_per_image": 1e3 * extraction / (count - len(few)),
        "train_ms_per_image": 1e3 * training_seconds / (count - len(few)),
        "once_s": {"extract": once, "train": all_epochs[0] - training_seconds, "epoch": start},
        "on_device": stored <= active_device().data_gb * 1e9,
        "peak_gb": round(memory.gb, 2),
    }


def _blocks(name: str):
    from thaw.backbones import BACKBONES

    return BACKBONES[name].blocks


def repeated(file: Path, images: np.ndarray, count: int) -> np.ndarray:
    """A memory map of `count` images: the given ones, repeated."""
    store = np.lib.format.open_memmap(file, "w+", images.dtype, (count, *images.shape[1:]))
    for start in range(0, count, len(images)):
        part = images[: min(len(images), count - start)]
        store[start : start + len(part)] = part
    store.flush()
    return np.load(file, mmap_mode="r")


def table(runs: list[dict[str, Any]]) -> str:
    """The runs in Markdown, with the ratios to the middle one."""
    middle = runs[len(runs) // 2]
    lines = ["| images | extraction, ms a image | training, ms a image | peak GB |", "|---|---|---|---|"]
    for row in runs:
        costs = ("extract_ms_per_image", "train_ms_per_image")
        cells = [f"{row[cost]:.3f} ({row[cost] / middle[cost]:.2f})" for cost in costs]
        lines.append(f"| {row['images']:,} | {' | '.join(cells)} | {row['peak_gb']:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
