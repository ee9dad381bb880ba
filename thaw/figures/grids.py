"""Pictures of pictures: the grids that show what goes into training."""

import io
import math
from pathlib import Path

import numpy as np

from thaw.runtime.files import replacing


def draw_grid(path: Path, rows: list[np.ndarray], row_titles: list[str], titles: list[str]) -> None:
    """Write a PNG of pictures in rows and columns.

    Args:
        path: of the PNG.
        rows: one array per row of the grid, uint8 (columns, 32, 32, 3).
        row_titles: one for each row, at its left.
        titles: one for each column, above it.
    """
    # The object interface: pyplot costs more to import and keeps global state.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.0 * len(titles) + 0.8, 1.0 * len(rows) + 0.4), layout="constrained")
    for r, (pictures, row_title) in enumerate(zip(rows, row_titles, strict=True)):
        for c, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
            axes = figure.add_subplot(len(rows), len(titles), r * len(titles) + c + 1)
            axes.imshow(picture, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if r == 0:
                axes.set_title(title, fontsize=8)
            if c == 0:
                axes.set_ylabel(row_title, fontsize=8)
    save_figure(figure, path)


def draw_labelled(path: Path, title: str, images: np.ndarray, said: list[str], right: list[bool]) -> None:
    """Write a PNG of pictures, with what a model says of each in green where it is right and in red where not.

    Args:
        path: of the PNG.
        title: above them all.
        images: uint8 (n, 32, 32, 3).
        said: n texts, of a line or two.
        right: n.
    """
    from matplotlib.figure import Figure

    columns = 8
    rows = math.ceil(len(images) / columns)
    figure = Figure(figsize=(1.25 * columns, 1.55 * rows + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=11)
    for number, (image, text, good) in enumerate(zip(images, said, right, strict=True)):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.imshow(image, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        color = "#1a7f37" if good else "#c62828"
        axes.set_title(text, fontsize=7, color=color)
        for spine in axes.spines.values():
            spine.set(color=color, linewidth=2)
    save_figure(figure, path)


def save_figure(figure, path: Path) -> None:
    """Write a figure as a PNG whose bytes are the same each time."""
    png = io.BytesIO()  # where a disk is full, Pillow writing to it says "encoder error -2"
    figure.savefig(png, format="png", dpi=100, metadata={"Software": None})
    with replacing(path) as beside:
        beside.write_bytes(png.getvalue())


def sample_rows(labels: np.ndarray, classes: int, most: int = 10) -> np.ndarray:
    """The rows to show: the first picture of each class, of the first `most` classes."""
    return np.array([np.flatnonzero(labels == label)[0] for label in range(min(classes, most))])
