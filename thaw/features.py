"""Features: what the frozen backbone makes of each view, computed once and stored."""

import shutil
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from thaw import augmentation, feeding, files, paths, progress, seeds, splits
from thaw.errors import ThawError
from thaw.feeding import Examples
from thaw.network import Network
from thaw.params import Augment, Extract
from thaw.state import State
from thaw.training import Data

JSON = "features.json"
_KEYS = ("cuts", "views", "pool", "dtype", "classes", "sha256", "origin")


def extract(
    folder: Path,
    network: Network,
    pool: str,
    classes: list[str],
    train: Examples,
    val: Examples,
    augment: Augment,
    settings: Extract,
    state: State | None = None,
    origin: dict[str, Any] | None = None,
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
        state: where what is done is saved after each chunk, and gone on from; None saves nothing.
        origin: what `refuse_others` compares.
    """
    rows = augment.views * len(train) + len(val)
    planned = plan(network.widths(pool), rows, settings)
    for one in planned:
        print(f"extract: {one}", flush=True)
    cuts = [one.depth for one in planned if one.stored]
    with files.replacing_folder(folder) as beside:
        files.save_array(beside / "train_labels.npy", train.labels)
        files.save_array(beside / "val_labels.npy", val.labels)
        if cuts:
            # What is not done must not lie in the stage's output, which DVC deletes before each run.
            store = _Store(beside if state is None else state.folder, cuts, settings, state)
            model = storing(network.features(cuts, pool, augment), settings.dtype)
            store.fill("val", model, augmentation.inputs(val.inputs, augment, False), ())
            for view in range(augment.views):
                inputs = augmentation.inputs(train.inputs, augment, view > 0)
                store.fill(f"view{view}", model, inputs, (augment.seed, view))
            if state is not None:
                for file in store.files:
                    files.link(file, beside / file.name)
        content = {"cuts": cuts, "views": augment.views, "pool": pool, "dtype": settings.dtype, "classes": classes}
        hashes = {file.name: files.sha256(file) for file in sorted(beside.glob("*.npy"))}
        files.write_sealed(beside / JSON, content | {"sha256": hashes, "origin": origin or {}})


@dataclass(frozen=True)
class Cut:
    """What is to become of the activations at a cut.

    Attributes:
        depth: blocks above it.
        values: of a picture.
        size: bytes for all pictures.
        left: bytes that the cuts before left of the budget.
    """

    depth: int
    values: int
    size: int
    left: int

    @property
    def stored(self) -> bool:
        return self.size <= self.left

    def __str__(self) -> str:
        why = "stored" if self.stored else f"streamed: over the {self.left / 1e9:.2f} GB left of extract.budget_gb"
        return f"depth {self.depth}, {self.values:,} values a picture, {self.size / 1e9:.3f} GB, {why}"


def plan(widths: dict[int, int], rows: int, settings: Extract) -> list[Cut]:
    """Which cuts to store: shallow first, as long as all of them fit the budget.

    Args:
        widths: values per picture at each depth.
        rows: pictures in all views and in validation.
        settings: cuts, budget_gb, dtype.
    """
    planned, left = [], round(settings.budget_gb * 1e9)
    for depth in sorted(settings.cuts):
        size = widths[depth] * rows * np.dtype(settings.dtype).itemsize
        planned.append(Cut(depth, widths[depth], size, left))
        if planned[-1].stored:
            left -= size
    return planned


class _Store:
    """Files of activations, one for each cut and view, that are filled chunk by chunk."""

    def __init__(self, folder: Path, cuts: list[int], settings: Extract, state: State | None) -> None:
        self.folder, self.cuts, self.settings, self.state = folder, cuts, settings, state
        self.files: list[Path] = []
        # Checksums of the chunks that are done, by view.
        self.done: dict[str, list[int]] = state.content if state is not None and state.content else {}

    def fill(
        self, view: str, model: keras.Model, inputs: np.ndarray | dict[str, np.ndarray], seed: tuple[object, ...]
    ) -> None:
        """Run one view through the backbone; memory does not grow with the dataset.

        What is random in a chunk follows from `seed` and the chunk's number, so that it does not
        matter where a run goes on.
        """
        started = time.perf_counter()
        count = len(keras.tree.flatten(inputs)[0])
        stores = [
            self._open(depth, view, (count, *output.shape[1:]))
            for depth, output in zip(self.cuts, model.outputs, strict=True)
        ]
        sums, size = self.done.setdefault(view, []), feeding.chunk_size(model, self.settings.batch_size)
        del sums[self._whole(stores, sums, size) :]
        done = min(len(sums) * size, count)
        if done:
            print(f"extract: {view} goes on from saved state, after {done:,} pictures", flush=True)

        def before(number: int) -> None:
            seeds.reseed(model, *seed, number)

        with progress.Steps(f"extract: {view}", count, "pictures", done) as doing:
            chunks = feeding.predict(model, inputs, self.settings.batch_size, before, len(sums), doing.reach)
            for place, activations in chunks:
                for store, values in zip(stores, activations, strict=True):
                    store[place] = values
                if self.state is not None:
                    sums.append(_checksum(activations))
                    self.state.save(self.done, {})
        for store in stores:
            store.flush()
        seconds = time.perf_counter() - started
        print(f"extract: {view}, {count:,} pictures, {(count - done) / seconds:,.0f} pictures/s", flush=True)

    def _open(self, depth: int, view: str, shape: tuple[int, ...]) -> np.memmap:
        file, dtype = self.folder / f"{_name(depth)}-{view}.npy", np.dtype(self.settings.dtype)
        # Of a run that is done, for which others waited, DVC's cache may have the same file, read-only.
        if file.exists() and file.stat().st_nlink > 1:
            with files.replacing(file) as own:
                shutil.copyfile(file, own)
        try:
            store = np.load(file, mmap_mode="r+", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            store = None  # not there yet, or cut off: begun anew, as its checksums will not fit
        if store is None or (store.shape, store.dtype) != (shape, dtype):
            store = np.lib.format.open_memmap(file, "w+", dtype, shape)
        # The disk's room is taken now: where it ran out while the map is written, the process would be killed.
        # Of a file from before, too: it may be this that had failed.
        files.reserve(file)
        self.files.append(file)
        return store

    def _whole(self, stores: list[np.memmap], sums: list[int], size: int) -> int:
        """How many chunks are as they were written: a machine that crashed may have lost some."""
        for number, checksum in enumerate(sums):
            place = slice(number * size, (number + 1) * size)
            if _checksum([store[place] for store in stores]) != checksum:
                return number
        return len(sums)


def _checksum(arrays: Sequence[np.ndarray]) -> int:
    total = 0
    for array in arrays:
        total = zlib.crc32(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data, total)
    return total


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
    """What is stored: cuts, views, pool, dtype, classes, the sha256 of each file, and the origin.

    Raises:
        ThawError: the JSON is missing or damaged.
    """
    try:
        content = files.read_sealed(folder / JSON)
        return {name: content[name] for name in _KEYS}
    except (OSError, ValueError, KeyError):  # the last: of another version of thaw
        raise ThawError(f"{folder / JSON}: missing or damaged; run `dvc repro` to make it again") from None


def origin_of(blocks: dict[str, str], augment: Augment) -> dict[str, Any]:
    """What features follow from.

    Args:
        blocks: sha256 of each block of the frozen backbone.
        augment: how views differ.
    """
    pictures = {path.as_posix(): files.digest(path) for path in paths.SPLITS_LEARNT}
    return {"backbone": blocks, "dataset": pictures, "augmentation": augment.model_dump()}


def refuse_others(folder: Path, wanted: dict[str, Any]) -> None:
    """Refuse features of another origin, as they are left where files were moved by hand.

    Args:
        folder: of the features.
        wanted: as `origin_of` gives it, of the blocks alone that are frozen.

    Raises:
        ThawError: names what is another.
    """
    found = read_info(folder)["origin"]
    for name, parts in wanted.items():
        theirs = found.get(name, {})
        other = [part for part, value in parts.items() if theirs.get(part) != value]
        if other:
            raise ThawError(
                f"{folder}: made from another {name} ({', '.join(other)}); run `dvc repro` to make it again"
            )


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
    name, split = (f"view{view}", "train") if isinstance(view, int) else (view, view)
    hashes = read_info(folder)["sha256"]
    inputs, labels = folder / f"{_name(depth)}-{name}.npy", folder / f"{split}_labels.npy"
    try:
        if any(files.sha256(file) != hashes.get(file.name) for file in (inputs, labels)):
            raise ValueError("another hash")
        return Examples(np.load(inputs, mmap_mode="r", allow_pickle=False), np.load(labels, allow_pickle=False))
    except (OSError, ValueError, EOFError):
        raise ThawError(f"{folder}: {_name(depth)}, {name}: missing or damaged; run `dvc repro`") from None
