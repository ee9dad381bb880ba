"""Files of activations that are filled chunk by chunk."""

import shutil
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from thaw.config.schema import Extract
from thaw.data.stored import cut_name
from thaw.network.inference import chunk_size, predict_chunks
from thaw.runtime.files import replacing, reserve
from thaw.runtime.progress import Progress
from thaw.runtime.resume import State


class ActivationStore:
    """Files of activations, one for each cut and view, that are filled chunk by chunk."""

    def __init__(self, folder: Path, settings: Extract, state: State | None) -> None:
        self.folder, self.settings, self.state = folder, settings, state
        self.files: list[Path] = []
        # Checksums of the chunks that are done, by view.
        self.done: dict[str, list[int]] = state.content if state is not None and state.content else {}

    def fill(
        self, view: str, cuts: Sequence[int], model: keras.Model, inputs: np.ndarray | dict[str, np.ndarray]
    ) -> None:
        """Run one view through the backbone; memory does not grow with the dataset.

        Args:
            view: its name.
            cuts: depths of the cuts that are stored of it.
            model: has an output for each of `cuts`.
            inputs: of the model.
        """
        started = time.perf_counter()
        count = len(keras.tree.flatten(inputs)[0])
        stores = [
            self._open(depth, view, (count, *output.shape[1:]))
            for depth, output in zip(cuts, model.outputs, strict=True)
        ]
        sums, size = self.done.setdefault(view, []), chunk_size(model, self.settings.batch_size)
        del sums[self._whole(stores, sums, size) :]
        done = min(len(sums) * size, count)
        if done:
            print(f"extract: {view}, resuming from saved state, after {done:,} images", flush=True)
        with Progress(f"extract: {view}", count, "images", done) as progress:
            chunks = predict_chunks(model, inputs, self.settings.batch_size, len(sums), progress.reach)
            for place, activations in chunks:
                for store, values in zip(stores, activations, strict=True):
                    store[place] = values
                if self.state is not None:
                    sums.append(_checksum(activations))
                    self.state.save(self.done, {})
        for store in stores:
            store.flush()
        seconds = time.perf_counter() - started
        print(f"extract: {view}, {count:,} images, {(count - done) / seconds:,.0f} images/s", flush=True)

    def _open(self, depth: int, view: str, shape: tuple[int, ...]) -> np.memmap:
        file, dtype = self.folder / f"{cut_name(depth)}-{view}.npy", np.dtype(self.settings.dtype)
        # DVC's cache may hold the same file, read-only, of a finished run that this one waited for.
        if file.exists() and file.stat().st_nlink > 1:
            with replacing(file) as own:
                shutil.copyfile(file, own)
        try:
            store = np.load(file, mmap_mode="r+", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            store = None  # not there yet, or cut off: started anew, as its checksums will not fit
        if store is None or (store.shape, store.dtype) != (shape, dtype):
            store = np.lib.format.open_memmap(file, "w+", dtype, shape)
        # The disk's room is taken now: where it ran out while the map is written, the process would be killed.
        # Of a file from before, too: it may be this that had failed.
        reserve(file)
        self.files.append(file)
        return store

    def _whole(self, stores: list[np.memmap], sums: list[int], size: int) -> int:
        """Number of chunks that are as they were written: a machine that crashed may have lost some."""
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
    """The model with its outputs converted to the storage type on the device."""
    return keras.Model(model.input, [_Stored(dtype)(output) for output in model.outputs])


class _Stored(keras.layers.Layer):
    """Values in the storage type; float16 ends at 65,504, where an infinity would poison the head."""

    def __init__(self, dtype: str, **options) -> None:
        super().__init__(dtype=dtype, autocast=False, **options)

    def call(self, values):
        limit = float(np.finfo(self.compute_dtype).max)
        return keras.ops.cast(keras.ops.clip(keras.ops.cast(values, "float32"), -limit, limit), self.compute_dtype)
