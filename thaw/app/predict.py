"""Predictions of a checkpoint, and their forms: table, JSON, CSV. Start at `Predictor`; `image_batches` reads files.

`thaw predict` and the Python API both go this way.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from thaw.errors import ThawError, printable
from thaw.images.read import UnreadableImage, read_images
from thaw.network.checkpoint import load_checkpoint
from thaw.runtime.progress import unseen

# Images that are predicted at a time; as many files are read meanwhile.
BATCH = 64


def class_number(name: str, classes: list[str], parameter: str = "--of") -> int:
    """Number of a class by its name, which `parameter` has.

    Raises:
        ThawError: the model has no such class.
    """
    if name not in classes:
        known = ", ".join(classes) if len(classes) <= 10 else f"a class of the model, such as {classes[0]}"
        if str(name) in classes:  # a number, from a program
            known = f"a name, as text, such as {str(name)!r}"
        raise ThawError(f"{parameter}: received {name!r}; accepted: {known}")
    return classes.index(name)


def image_batches(
    files: Sequence[Path], side: int, max_pixels: int, refuse: Callable[[UnreadableImage], object]
) -> Iterator[tuple[list[Path], np.ndarray]]:
    """Files that are images, and these, uint8 (n, side, side, 3), in batches.

    However many files there are, images of few batches are in memory.

    Args:
        files: in the order of the batches.
        side, max_pixels: as of `thaw.images.read.read_image`.
        refuse: called with the error of each other file.
    """
    read, images = [], []
    for file, image in zip(files, read_images(files, side, max_pixels), strict=True):
        if isinstance(image, UnreadableImage):
            refuse(image)
            continue
        read.append(file)
        images.append(image.pixels)
        if len(read) == BATCH:
            yield read, np.stack(images)
            read, images = [], []
    if read:
        yield read, np.stack(images)


class BatchSizes:
    """Sizes of the batches that a model was called with: a batch of another size would be compiled first."""

    def __init__(self, most: int) -> None:
        """Args:
        most: size of a full batch.
        """
        self._most, self._known = most, set[int]()

    def fill(self, images: np.ndarray) -> tuple[np.ndarray, int]:
        """Images, the last one repeated up to the size of a batch where they are fewer, and that size.

        A known size serves where one is large enough, the smallest first; the first call decides on its own.
        """
        count = min(len(images), self._most)
        usual = self._most if self._known else count
        size = min((known for known in self._known if known >= count), default=usual)
        self._known.add(size)
        missing = size - len(images)
        return (np.concatenate([images, np.repeat(images[-1:], missing, axis=0)]) if missing > 0 else images), size


class Predictor:
    """A checkpoint that predicts. Needs the backend set up.

    Attributes:
        network, info: of the checkpoint.
    """

    def __init__(self, folder: Path, views: int = 1, mirrored: bool = False, batch_size: int = 128) -> None:
        """Load the checkpoint.

        Args:
            folder: of the checkpoint.
            views, mirrored: test-time views to average over, as for `thaw.evaluation.views.further_views`.
            batch_size: images per step.
        """
        self.network, self.info = load_checkpoint(folder)
        self._classifier, self._sizes = self.network.classifier(), BatchSizes(batch_size)
        self._views, self._mirrored = views, mirrored

    def probabilities(self, images: np.ndarray, reach: Callable[[int], None] = unseen) -> np.ndarray:
        """Calibrated probabilities (n, classes).

        Args:
            images: uint8 (n, side, side, 3).
            reach: called after each batch, from any thread, with the number of finished images of all views.
        """
        from thaw.evaluation.views import mean_over_views
        from thaw.network.inference import predict_logits, softmax

        count, temperature = len(images), self.info.temperature
        images, size = self._sizes.fill(images)
        predicted = softmax(predict_logits(self._classifier, images, size, reach), temperature)
        if self._views > 1:
            further = self._views, self._mirrored, size, lambda done: reach(count + done)
            predicted = mean_over_views(self._classifier, images, predicted, temperature, *further)
        return predicted[:count]


def prediction_rows(files: list[Path], classes: list[str], predicted: np.ndarray, top: int) -> Iterator[dict[str, Any]]:
    """The `top` most probable classes of each file, in order of probability."""
    for file, row in zip(files, predicted, strict=True):
        order = np.argsort(-row, kind="stable")[:top]
        yield {
            "file": str(file),
            "classes": [{"class": classes[n], "probability": float(row[n])} for n in order],
        }


def as_table(rows: list[dict[str, Any]]) -> str:
    """A line for each file: name, then classes with their probabilities."""
    cells = [
        [printable(row["file"])]
        + [cell for entry in row["classes"] for cell in (entry["class"], f"{entry['probability']:.1%}")]
        for row in rows
    ]
    sides = ["left", *["left", "right"] * len(rows[0]["classes"])]
    return tabulate(cells, tablefmt="plain", disable_numparse=True, colalign=sides)


def as_json(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, indent=1)


def as_csv(rows: list[dict[str, Any]], header: bool = True) -> str:
    """One row per image and class, below the names of the columns if `header`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(["file", "rank", "class", "probability"])
    for row in rows:
        for rank, entry in enumerate(row["classes"], start=1):
            writer.writerow([row["file"], rank, entry["class"], entry["probability"]])
    return text.getvalue().rstrip("\n")
