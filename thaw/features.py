"""Features: what the frozen backbone makes of each view, computed once and stored."""

import json
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from thaw import augmentation, feeding, files, seeds, splits
from thaw.errors import ThawError
from thaw.feeding import Examples
from thaw.network import Network
from thaw.params import Augment, Extract
from thaw.training import Data

JSON = "features.json"


def extract(
    folder: Path,
    network: Network,
    pool: str,
    classes: list[str],
    train: Examples,
    val: Examples,
    augment: Augment,
    settings: Extract,
) -> None:
    """Pass every view of the training set, and the validation set as it is, through the backbone once.

    The first view is of the pictures as they are, which is how the network will see those that it is to
    classify; the others are augmented.

    The activations at each cut within the budget are kept; which ones are, and their bytes, is printed.

    Args:
        folder: becomes the features: one .npy per cut and view, labels, and a JSON.
        network: the frozen backbone.
        pool: of the head's cut: avg or flatten.
        classes: what the labels mean.
        train, val: pictures, uint8 (n, 32, 32, 3), and labels.
        augment: how views differ, how many there are, and their seed.
        settings: cuts, budget, storage type, pictures per step.
    """
    rows = augment.views * len(train) + len(val)
    cuts = plan(network.widths(pool), rows, settings)
    with files.replacing_folder(folder) as beside:
        np.save(beside / "train_labels.npy", train.labels)
        np.save(beside / "val_labels.npy", val.labels)
        if cuts:
            model = storing(network.features(cuts, pool, augment), settings.dtype)
            _pass(beside, "val", model, cuts, augmentation.inputs(val.inputs, augment, False), settings, ())
            for view in range(augment.views):
                inputs = augmentation.inputs(train.inputs, augment, view > 0)
                _pass(beside, f"view{view}", model, cuts, inputs, settings, (augment.seed, view))
        content = {"cuts": cuts, "views": augment.views, "pool": pool, "dtype": settings.dtype, "classes": classes}
        files.write_json(beside / JSON, content)


def plan(widths: dict[int, int], rows: int, settings: Extract) -> list[int]:
    """The cuts to store, shallow first, as long as all of them fit the budget; says so of each.

    Args:
        widths: values per picture at each depth.
        rows: pictures in all views and in validation.
        settings: cuts, budget_gb, dtype.
    """
    chosen, left = [], round(settings.budget_gb * 1e9)
    for depth in sorted(settings.cuts):
        size = widths[depth] * rows * np.dtype(settings.dtype).itemsize
        fits = size <= left
        if fits:
            chosen.append(depth)
            left -= size
        why = "stored" if fits else f"streamed: over the {left / 1e9:.2f} GB left of extract.budget_gb"
        print(f"extract: depth {depth}, {widths[depth]:,} values a picture, {size / 1e9:.3f} GB, {why}", flush=True)
    return chosen


def _pass(
    folder: Path,
    view: str,
    model: keras.Model,
    cuts: list[int],
    inputs: np.ndarray | dict[str, np.ndarray],
    settings: Extract,
    seed: tuple[object, ...],
) -> None:
    """Run one view through the backbone, chunk by chunk, so that memory does not grow with the dataset."""
    started = time.perf_counter()
    count = len(keras.tree.flatten(inputs)[0])
    stores = [
        np.lib.format.open_memmap(
            folder / f"{_name(depth)}-{view}.npy", "w+", settings.dtype, (count, *output.shape[1:])
        )
        for depth, output in zip(cuts, model.outputs, strict=True)
    ]
    chunks = feeding.predict(model, inputs, settings.batch_size, lambda number: seeds.reseed(model, *seed, number))
    for place, activations in chunks:
        for store, values in zip(stores, activations, strict=True):
            store[place] = values
    for store in stores:
        store.flush()
    seconds = time.perf_counter() - started
    print(f"extract: {view}, {count:,} pictures, {count / seconds:,.0f} pictures/s", flush=True)


def storing(model: keras.Model, dtype: str) -> keras.Model:
    """The model with its outputs in the storage type, turned into it where they are computed."""
    return keras.Model(model.input, [_Stored(dtype)(output) for output in model.outputs])


class _Stored(keras.layers.Layer):
    """Values in the storage type; float16 ends at 65,504, where an infinity would poison the head."""

    def __init__(self, dtype: str, **options) -> None:
        super().__init__(dtype=dtype, autocast=False, **options)

    def call(self, values):
        limit = float(np.finfo(self.compute_dtype).max)
        return keras.ops.cast(keras.ops.clip(keras.ops.cast(values, "float32"), -limit, limit), self.compute_dtype)


def _name(depth: int) -> str:
    return f"depth{depth}"


def read_info(folder: Path) -> dict[str, Any]:
    """What is stored: cuts, views, pool, dtype, classes.

    Raises:
        ThawError: the JSON is missing or damaged.
    """
    try:
        content = json.loads((folder / JSON).read_text(encoding="utf-8"))
        return {name: content[name] for name in ("cuts", "views", "pool", "dtype", "classes")}
    except (OSError, ValueError, KeyError, TypeError):
        raise ThawError(f"{folder / JSON}: missing or damaged; run `dvc repro` to make it again") from None


def data(folder: Path, depth: int, classes: list[str]) -> Data:
    """What a phase learns from whose cut has `depth` blocks above it: stored activations, or else pictures.

    Args:
        folder: of the features.
        depth: the cut.
        classes: that the pictures are to show; those of the features have been chosen.
    """
    stored = read_info(folder)
    if depth not in stored["cuts"]:
        train, val = (Examples(*splits.read(split, classes)) for split in ("train", "val"))
        return Data(None, [train], val)
    views = [read(folder, depth, view) for view in range(stored["views"])]
    return Data(depth, views, read(folder, depth, "val"))


def read(folder: Path, depth: int, view: int | str) -> Examples:
    """Stored activations at a cut, memory-mapped, and their labels.

    Args:
        folder: of the features.
        depth: the cut.
        view: number of a view of the training set, or "val".

    Raises:
        ThawError: a file is missing or damaged.
    """
    name, labels = (f"view{view}", "train") if isinstance(view, int) else (view, view)
    try:
        inputs = np.load(folder / f"{_name(depth)}-{name}.npy", mmap_mode="r", allow_pickle=False)
        return Examples(inputs, np.load(folder / f"{labels}_labels.npy", allow_pickle=False))
    except (OSError, ValueError, EOFError):
        raise ThawError(f"{folder}: {_name(depth)}, {name}: missing or damaged; run `dvc repro`") from None
