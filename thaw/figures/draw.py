"""The stage figures: draws plots/figures from the tables of evaluate and the views of extract.

Start at `draw_figures`. It reads no split and computes no prediction: a changed caption costs seconds.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from thaw import paths
from thaw.config.schema import Params
from thaw.figures.charts import draw_calibration, draw_corruptions, draw_phases
from thaw.figures.grids import draw_grid, draw_predictions
from thaw.runtime.files import damaged, replacing_folder
from thaw.runtime.tables import read_table


def draw_figures(params: Params) -> None:
    """Draw all figures of a finished run; no parameter affects them."""
    history, predictions = _table("history", "phase"), _predictions("predictions")
    bins, evaluated = _table("calibration", "probabilities"), _json(paths.EVALUATED)
    phases = _table("phases", "phase", "trainable")
    titles = {row["phase"]: phase_title(row) for row in phases}
    kept = {row["phase"]: int(row["best_epoch"]) for row in phases}
    errors = [evaluated[name] for name in ("calibration_error", "calibration_error_uncalibrated")]
    gallery, mistakes = _predictions("gallery"), _predictions("mistakes")
    gallery_images, mistakes_images = (_images(paths.TABLES / f"{name}.npy") for name in ("gallery", "mistakes"))
    views, classes = _images(paths.VIEWS / "images.npy"), _json(paths.VIEWS / "classes.json")
    view_names = ["view 0:\nunaugmented", *(f"view {number}" for number in range(1, len(views)))]
    with replacing_folder(paths.FIGURES) as folder:
        draw_phases(folder / "phases.png", history, titles, kept)
        draw_calibration(folder / "calibration.png", bins, *errors)
        draw_predictions(folder / "gallery.png", gallery_title(gallery, predictions), gallery_images, gallery)
        draw_predictions(folder / "mistakes.png", mistakes_title(mistakes, predictions), mistakes_images, mistakes)
        draw_grid(folder / "samples.png", "Training images", views[:1], [""], classes)
        draw_grid(folder / "views.png", "Views of training images", views, view_names, classes)
        _draw_corruptions_if_measured(folder / "corruptions.png")


def _draw_corruptions_if_measured(path: Path) -> None:
    metrics = _json(paths.EVALUATED)
    if "accuracy_corrupted" in metrics:
        rows = _table("corruptions", "corruption")
        draw_corruptions(path, rows, metrics["accuracy"], metrics["accuracy_corrupted"])


def phase_title(row: dict[str, Any]) -> str:
    """A phase with its trainable blocks, and whether it kept the weights it started from."""
    title = f"{row['phase']}: {row['trainable']}"
    return f"{title} (start kept)" if row["epochs"] and not row["best_epoch"] else title


def gallery_title(shown: list[dict[str, Any]], predictions: list[dict[str, Any]]) -> str:
    """The class, the number of its test images that are classified correctly, and which of them are shown."""
    if not shown:
        return "No test images of this class"
    name = shown[0]["class"]
    of_class = [row for row in predictions if row["class"] == name]
    correct = sum(row["predicted"] == name for row in of_class)
    title = f"Test images of {name}: {correct:,} of {len(of_class):,} classified correctly"
    return title if len(shown) == len(of_class) else f"{title}, the first {len(shown)} shown"


def mistakes_title(shown: list[dict[str, Any]], predictions: list[dict[str, Any]]) -> str:
    """The number of misclassified test images, and which of them are shown."""
    if not shown:
        return "No misclassified test images"
    wrong = sum(row["predicted"] != row["class"] for row in predictions)
    if len(shown) == wrong:
        return f"All {wrong} misclassified test images, the highest confidence first"
    return f"The {len(shown)} of {wrong:,} misclassified test images with the highest confidence"


def _predictions(name: str) -> list[dict[str, Any]]:
    return _table(name, "class", "predicted")


def _table(name: str, *words: str) -> list[dict[str, Any]]:
    """Rows of a table of evaluate; columns other than `words` are numbers, or None for an unknown value."""
    path = paths.TABLES / f"{name}.csv"
    try:
        return [
            {column: value if column in words else _number(value) for column, value in row.items()}
            for row in read_table(path)
        ]
    except (OSError, ValueError, TypeError):  # TypeError: a row with fewer cells
        raise damaged(path) from None


def _number(text: str) -> float | None:
    number = float(text)
    return None if math.isnan(number) else number


def _images(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except Exception:  # a damaged header makes numpy raise various exceptions
        raise damaged(path) from None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise damaged(path) from None
