"""Grids of images: training images in their views, and test images with their predictions. Start at `draw_grid`."""

import io
import math
import textwrap
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from thaw.figures.style import CORRECT, WRONG
from thaw.runtime.files import replacing

# Characters per line of a caption, as wide as an image.
CAPTION_WIDTH = 23

# Pixels of a grid of images per inch.
DPI = 100

# Side in pixels up to which an image is enlarged with sharp pixels, and above which it is drawn no larger.
SHARP, LARGEST = 64, 160


def draw_grid(path: Path, title: str, rows: np.ndarray, row_titles: list[str], column_titles: list[str]) -> None:
    """Write a PNG of images in rows and columns.

    Args:
        path: of the PNG.
        title: above all images.
        rows: images, uint8 (rows, columns, side, side, 3).
        row_titles: one for each row, on its left.
        column_titles: one for each column, above it.
    """
    # Without pyplot, which takes longer to import and keeps global state.
    from matplotlib.figure import Figure

    inches = _inches(rows, 1.0)
    figure = Figure(
        figsize=(inches * len(column_titles) + 0.8, inches * len(rows) + 0.7), dpi=DPI, layout="constrained"
    )
    figure.suptitle(title, fontsize=9, parse_math=False)
    for r, (images, row_title) in enumerate(zip(rows, row_titles, strict=True)):
        for c, (image, column_title) in enumerate(zip(images, column_titles, strict=True)):
            axes = figure.add_subplot(len(rows), len(column_titles), r * len(column_titles) + c + 1)
            _show(axes, image)
            axes.set(xticks=[], yticks=[])
            if r == 0:
                axes.set_title(column_title, fontsize=8, parse_math=False)
            if c == 0:
                axes.set_ylabel(row_title, fontsize=8, parse_math=False)
    save_figure(figure, path)


def draw_predictions(path: Path, title: str, images: np.ndarray, predictions: list[dict[str, Any]]) -> None:
    """Write a PNG of images with captions, green for a correct prediction and red for a wrong one.

    Args:
        path: of the PNG.
        title: above all images.
        images: uint8 (n, side, side, 3).
        predictions: n rows with class, predicted and confidence.
    """
    correct = [prediction["predicted"] == prediction["class"] for prediction in predictions]
    draw_captioned(path, title, images, list(map(caption, predictions)), correct)


def draw_captioned(
    path: Path, title: str, images: np.ndarray, captions: list[str], green: list[bool], columns: int = 8
) -> None:
    """Write a PNG of images with captions, green or red.

    Args:
        path: of the PNG.
        title: above all images.
        images: uint8 (n, height, width, 3).
        captions: one for each image.
        green: whether it is green, for each image.
        columns: images of a row.
    """
    from matplotlib.figure import Figure

    rows = math.ceil(len(images) / columns)
    inches, (height, width) = _inches(images, 10 / columns), images.shape[1:3]
    figure = Figure(
        figsize=(inches * columns, (inches * height / width + 0.3) * rows + 0.4), dpi=DPI, layout="constrained"
    )
    figure.suptitle(title, fontsize=11, parse_math=False)
    for number, (image, text) in enumerate(zip(images, captions, strict=True)):
        axes = figure.add_subplot(rows, columns, number + 1)
        _show(axes, image)
        axes.xaxis.set_visible(False)
        axes.yaxis.set_visible(False)
        color = CORRECT if green[number] else WRONG
        axes.set_title(text, fontsize=7, color=color, parse_math=False)
        for spine in axes.spines.values():
            spine.set(color=color, linewidth=2)
    save_figure(figure, path)


def _inches(images: np.ndarray, least: float) -> float:
    """Width of an image in a figure, with its margin; `images` are (..., height, width, 3)."""
    return max(least, min(images.shape[-2], LARGEST) / DPI + 0.25)


def _show(axes, image: np.ndarray) -> None:
    """Draw an image; a reduced one with all of its pixels, where `nearest` would leave some out."""
    axes.imshow(image, interpolation="nearest" if len(image) <= SHARP else "antialiased")


def caption(prediction: dict[str, Any]) -> str:
    """A caption such as `predicted automobile (100 %), actual ship`, in lines as wide as an image."""
    confidence = f"{prediction['confidence']:.0%}".replace("%", "\u00a0%")
    text = f"predicted {prediction['predicted']} ({confidence})"
    if prediction["predicted"] != prediction["class"]:
        text += f", actual\u00a0{prediction['class']}"
    return textwrap.fill(text, CAPTION_WIDTH)


def save_figure(figure, path: Path) -> None:
    """Write a figure as a PNG of its own resolution, with the same bytes in each run."""
    png = io.BytesIO()  # on a full disk, Pillow itself would say only "encoder error -2"
    with warnings.catch_warnings():
        # Of a class name with emoji, say, a letter is a box.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(png, format="png", dpi=figure.dpi, metadata={"Software": None})
    with replacing(path) as beside:
        beside.write_bytes(png.getvalue())
