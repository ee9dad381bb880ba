"""Predictions of a checkpoint, and their forms: table, JSON, CSV. Start at `Predictor`."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from thaw.errors import ThawError, printable
from thaw.network.checkpoint import load_checkpoint
from thaw.runtime.progress import unseen


def class_number(name: str, classes: list[str]) -> int:
    """Number of a class by its name.

    Raises:
        ThawError: the model has no such class.
    """
    if name not in classes:
        known = ", ".join(classes) if len(classes) <= 10 else f"a class of the model, such as {classes[0]}"
        raise ThawError(f"--of: received {name!r}; accepted: {known}")
    return classes.index(name)


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
        self._classifier, self._called = self.network.classifier(), False
        self._views, self._mirrored, self._batch_size = views, mirrored, batch_size

    def probabilities(self, images: np.ndarray, reach: Callable[[int], None] = unseen) -> np.ndarray:
        """Calibrated probabilities (n, classes).

        Args:
            images: uint8 (n, side, side, 3).
            reach: called after each batch, from any thread, with the number of finished images of all views.
        """
        from thaw.evaluation.views import mean_over_views
        from thaw.network.inference import predict_logits, softmax

        count, size = len(images), min(self._batch_size, len(images))
        if self._called and size < self._batch_size:  # a batch of another shape would be compiled first
            images = np.concatenate([images, np.repeat(images[-1:], self._batch_size - count, axis=0)])
            size = self._batch_size
        self._called = True
        temperature = self.info.temperature
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
