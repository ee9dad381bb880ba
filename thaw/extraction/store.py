"""Files of activations that are filled range by range. Start at `ActivationStore`."""

import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from thaw.data.stored import cut_name
from thaw.extraction.plan import Extraction
from thaw.network.augmentation import augmentation_inputs
from thaw.network.build import Network
from thaw.network.inference import chunk_of, chunk_size, predict_chunk
from thaw.runtime.files import replacing, reserve
from thaw.runtime.progress import Progress, unseen
from thaw.runtime.resume import State
from thaw.runtime.workers import Workers

# A view, the first of its rows, and the one after the last.
Range = tuple[str, int, int]

Inputs = np.ndarray | dict[str, np.ndarray]

# Ranges of a view for each worker, at least: the last ones to end are waited for.
RANGES = 8


class ActivationStore:
    """Files of activations, one for each cut and view, that are filled range by range.

    A range of rows is computed and written by any process; which one moves no bit.
    """

    def __init__(
        self, folder: Path, network: Network, extraction: Extraction, depths: Mapping[str, tuple[int, ...]]
    ) -> None:
        """Begin.

        Args:
            folder: of the files.
            network: the frozen backbone.
            extraction: images and settings.
            depths: of the cuts that are stored, for each view.
        """
        self.folder, self.depths = folder, depths
        self._network, self._extraction = network, extraction
        self._models: dict[tuple[int, ...], keras.Model] = {}
        # View that was asked for last, its arrays and its inputs.
        self._opened: tuple[str, list[np.memmap], Inputs] | None = None

    def files(self) -> list[Path]:
        return [self._file(depth, view) for view, depths in self.depths.items() for depth in depths]

    def fill(self, workers: Workers, state: State | None) -> None:
        """Run all views through the backbone; memory does not grow with the number of images.

        Args:
            workers: compute, with this process.
            state: saves which ranges are done, and is resumed from; None saves nothing.
        """
        # First row, the one after the last, and checksum of the ranges that are done, by view.
        done: dict[str, list[list[int]]] = state.content if state is not None and state.content else {}

        def save() -> None:
            if state is not None:
                state.save(done, {})

        for view in self.depths:
            self._fill_view(view, workers, done.setdefault(view, []), save)

    def _fill_view(self, view: str, workers: Workers, done: list[list[int]], save: Callable[[], None]) -> None:
        started = time.perf_counter()
        count = len(self._images(view))
        for depth, output in zip(self.depths[view], self._model(view).outputs, strict=True):
            self._make(self._file(depth, view), (count, *output.shape[1:]))
        done[:] = [
            [start, stop, checksum] for start, stop, checksum in done if self._is_whole(view, start, stop, checksum)
        ]
        before = images = sum(stop - start for start, stop, _ in done)
        if before:
            print(f"extract: {view}, resuming from saved state, after {before:,} images", flush=True)
        with Progress(f"extract: {view}", count, "images", before) as progress:

            def work(task: Range) -> int:
                return self.write(*task, lambda reached: progress.reach(images + reached))

            def record(task: Range, checksum: int) -> None:
                nonlocal images
                _, start, stop = task
                images += stop - start
                progress.reach(images)
                done.append([start, stop, checksum])
                save()

            workers.run(
                [(view, *rows) for rows in missing_ranges(count, done, self._size(view, workers.count))], work, record
            )
        for array in self._open(view)[0]:
            array.flush()
        seconds = time.perf_counter() - started
        print(f"extract: {view}, {count:,} images, {(count - before) / seconds:,.0f} images/s", flush=True)

    def write(self, view: str, start: int, stop: int, reach: Callable[[int], None] = unseen) -> int:
        """Compute the activations of some rows and write them into the files, which are there.

        Args:
            view: its name.
            start, stop: the first row, and the one after the last.
            reach: called with the number of finished rows.

        Returns:
            A checksum of what was written.
        """
        activations = self.compute(view, self.chunk(view, start, stop), stop - start, reach)
        return self.put(view, start, stop, activations)

    def chunk(self, view: str, start: int, stop: int) -> Inputs:
        """The inputs of some rows, up to whole batches."""
        return chunk_of(self._open(view)[1], self._extraction.settings.batch_size, slice(start, stop))

    def compute(self, view: str, chunk: Inputs, count: int, reach: Callable[[int], None] = unseen) -> list[np.ndarray]:
        """The activations of the first `count` rows of a chunk, an array for each cut; reads no image and no file."""
        return predict_chunk(self._model(view), chunk, self._extraction.settings.batch_size, count, reach)

    def put(self, view: str, start: int, stop: int, activations: Sequence[np.ndarray]) -> int:
        """Write the activations of some rows, an array for each cut; a checksum of them."""
        for array, values in zip(self._open(view)[0], activations, strict=True):
            array[start:stop] = values
        return _checksum(activations)

    def _images(self, view: str) -> np.ndarray:
        return (self._extraction.val if view == "val" else self._extraction.train).inputs

    def _model(self, view: str) -> keras.Model:
        depths, of = self.depths[view], self._extraction
        if depths not in self._models:
            self._models[depths] = storing(self._network.features(depths, of.pool, of.augment), of.settings.dtype)
        return self._models[depths]

    def _size(self, view: str, workers: int) -> int:
        """Rows of a range: a chunk, or less where that leaves a worker without any."""
        batch_size = self._extraction.settings.batch_size
        size = chunk_size(self._model(view), batch_size)
        share = len(self._images(view)) // (RANGES * workers) // batch_size * batch_size
        return size if workers == 1 else min(size, max(share, batch_size))

    def _file(self, depth: int, view: str) -> Path:
        return self.folder / f"{cut_name(depth)}-{view}.npy"

    def _open(self, view: str) -> tuple[list[np.memmap], Inputs]:
        """The arrays of a view, to be written, and its inputs."""
        if self._opened is None or self._opened[0] != view:
            number = 0 if view == "val" else int(view.removeprefix("view"))
            inputs = augmentation_inputs(self._images(view), self._extraction.augment, number)
            files = [self._file(depth, view) for depth in self.depths[view]]
            self._opened = view, [np.load(file, mmap_mode="r+", allow_pickle=False) for file in files], inputs
        return self._opened[1:]

    def _make(self, file: Path, shape: tuple[int, ...]) -> None:
        """Make a file of activations, or keep what is there."""
        dtype = np.dtype(self._extraction.settings.dtype)
        # DVC's cache may hold the same file, read-only, of a finished run that this one waited for.
        if file.exists() and file.stat().st_nlink > 1:
            with replacing(file) as own:
                shutil.copyfile(file, own)
        try:
            array = np.load(file, mmap_mode="r+", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            array = None  # not there yet, or cut off: started anew, as its checksums will not fit
        if array is None or (array.shape, array.dtype) != (shape, dtype):
            np.lib.format.open_memmap(file, "w+", dtype, shape)
        # The disk's room is taken now: where it ran out while the map is written, the process would be killed.
        # Of a file from before, too: it may be this that had failed.
        reserve(file)

    def _is_whole(self, view: str, start: int, stop: int, checksum: int) -> bool:
        """Whether a range is as it was written: a machine that crashed may have lost some."""
        return _checksum([array[start:stop] for array in self._open(view)[0]]) == checksum


def missing_ranges(count: int, done: Iterable[Sequence[int]], size: int) -> Iterator[tuple[int, int]]:
    """First row, and the one after the last, of the ranges that are left of `count` rows, of `size` rows at most.

    Args:
        count: number of all rows.
        done: ranges that are done: first row, the one after the last, and anything else.
        size: rows of a range.
    """
    start = 0
    for first, after in [*sorted((first, after) for first, after, *_ in done), (count, count)]:
        for row in range(start, first, size):
            yield row, min(row + size, first)
        start = after


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
