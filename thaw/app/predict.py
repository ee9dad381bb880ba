"""Predictions for image files of any size, mode and rotation. Start at `read_image` and `predict_images`."""

import csv
import io
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from thaw.errors import ThawError
from thaw.network.checkpoint import load_checkpoint
from thaw.runtime.progress import unseen


def find_images(arguments: Iterable[Path]) -> list[Path]:
    """List each file, and all files below each folder, sorted by name, without hidden ones."""
    files = []
    for path in arguments:
        if not os.path.isdir(path):  # Path.is_dir fails on a name that is too long, or in a folder without permission
            files.append(path)
            continue
        for file in sorted(path.rglob("*")):
            hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
            # Reading a broken link reports it.
            if not hidden and (file.is_file() or (file.is_symlink() and not file.exists())):
                files.append(file)
    return files


def read_image(file: Path, side: int) -> np.ndarray:
    """Read an image as the network takes it, uint8 (side, side, 3): the central square of the upright image.

    Args:
        file: of any size and mode.
        side: of the result, in pixels.

    Raises:
        ThawError: the file is no readable image.
    """
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.fit(upright_image(file), (side, side), Image.Resampling.LANCZOS))


def upright_image(file: Path):
    """Read an image as people see it: in RGB, rotated by its EXIF data, on white where it is transparent.

    Raises:
        ThawError: the file is no readable image.
    """
    from PIL import Image, ImageOps

    if os.path.exists(file) and not os.path.isfile(file):  # reading a pipe would wait
        raise ThawError(f"{file}: not a file")
    try:
        # The files are the user's own: a panorama may be large.
        large = warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning)
        with large, Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode[0] in "IF":  # 16 or 32 bits of grey, which Pillow would clip at 255
                image = _eight_bits(image)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return image.convert("RGB")
    except FileNotFoundError:
        raise ThawError(f"{file}: not found") from None
    # Pillow fails in many ways on damaged files: SyntaxError, ValueError, struct.error, DecompressionBombError.
    except Exception as error:
        why = "" if type(error).__name__ == "UnidentifiedImageError" else f" ({error})"
        raise ThawError(f"{file}: not a readable image{why}") from None


def _eight_bits(image: Any):
    from PIL import Image

    values = np.nan_to_num(np.asarray(image, np.float64))
    # The white value: 65535 for 16 bits, 1 for floats from 0 to 1, else 255.
    top = 65535 if image.mode.startswith("I") and values.max() > 255 else 1 if 0 < values.max() <= 1 else 255
    return Image.fromarray((values.clip(0, top) * (255 / top)).round().astype(np.uint8))


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
        [_printable(row["file"])]
        + [cell for entry in row["classes"] for cell in (entry["class"], f"{entry['probability']:.1%}")]
        for row in rows
    ]
    sides = ["left", *["left", "right"] * len(rows[0]["classes"])]
    return tabulate(cells, tablefmt="plain", disable_numparse=True, colalign=sides)


def _printable(name: str) -> str:
    """File name in one line: unprintable characters, such as a line break, are escaped."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in name)


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
