"""Predictions of a checkpoint, and their forms: table, JSON, CSV. Start at `predict_images`."""

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


def predict_images(
    folder: Path,
    images: np.ndarray,
    views: int = 1,
    mirrored: bool = False,
    reach: Callable[[int], None] = unseen,
    batch_size: int = 128,
) -> tuple[list[str], np.ndarray]:
    """Class names, and calibrated probabilities (n, classes) of images. Needs the backend set up.

    Args:
        folder: of the checkpoint.
        images: uint8 (n, side, side, 3).
        views, mirrored: test-time views to average over, as for `thaw.evaluation.views.further_views`.
        reach: called after each batch, from any thread, with the number of finished images of all views.
        batch_size: images per step.
    """
    from thaw.evaluation.views import mean_over_views
    from thaw.network.inference import predict_logits, softmax

    network, info = load_checkpoint(folder)
    classifier, size = network.classifier(), min(batch_size, len(images))
    predicted = softmax(predict_logits(classifier, images, size, reach), info.temperature)
    if views > 1:

        def reach_further(done: int) -> None:
            reach(len(images) + done)

        predicted = mean_over_views(
            classifier, images, predicted, info.temperature, views, mirrored, size, reach_further
        )
    return info.classes, predicted


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


def as_csv(rows: list[dict[str, Any]]) -> str:
    """One row per image and class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "rank", "class", "probability"])
    for row in rows:
        for rank, entry in enumerate(row["classes"], start=1):
            writer.writerow([row["file"], rank, entry["class"], entry["probability"]])
    return text.getvalue().rstrip("\n")
