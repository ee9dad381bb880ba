"""thaw predict: predict the classes of image files."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thaw.app.commands.common import (
    add_max_pixels,
    add_model,
    messages_on_stderr,
    model_folder,
    positive_integer,
    set_up_backend,
)
from thaw.app.versions import model_versions, other_versions
from thaw.config.checks import check_views
from thaw.config.schema import Params
from thaw.errors import ThawError
from thaw.images.read import UnreadableImage, find_images, read_images
from thaw.network.checkpoint import read_checkpoint_info
from thaw.runtime.progress import Progress
from thaw.stage import read_params

if TYPE_CHECKING:
    from thaw.app.predict import Predictor

# Images that are predicted at a time; as many files are read meanwhile.
BATCH = 64


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "predict",
        help="predict the classes of image files",
        epilog="example: %(prog)s cat.jpg holiday/ --top 3 --json",
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE|FOLDER", help="of any size and mode")
    parser.add_argument("--top", type=positive_integer, default=3, metavar="N", help="classes for each image (3)")
    words = (
        "average over the image, its mirror image (augment.flip), and shifts by a sixteenth of the side, 10 in all (1)"
    )
    parser.add_argument("--views", type=positive_integer, default=1, metavar="N", help=words)
    add_max_pixels(parser)
    add_model(parser)
    forms = parser.add_mutually_exclusive_group()
    for form, words in (("json", "as JSON"), ("csv", "as CSV, a row for each image and class")):
        forms.add_argument(f"--{form}", dest="form", action="store_const", const=form, default="table", help=words)
    return parser


def run(arguments: argparse.Namespace) -> None:
    from thaw.app.predict import as_csv, as_json, as_table, prediction_rows

    folder, params = model_folder(arguments.model), read_params()
    side = read_checkpoint_info(folder).input_size
    check_views("--views", arguments.views, params)
    found, stdout = find_images(arguments.images), sys.stdout
    predictor, read, collected = None, 0, []
    with messages_on_stderr(), Progress("predict", len(found), "files") as progress:
        for files, images in _batches(found, side, arguments.max_pixels, progress):
            predictor = predictor or _load_predictor(folder, params, arguments.views)

            def reach(done: int, before: int = read) -> None:
                progress.reach(before + done / arguments.views)

            probabilities = predictor.probabilities(images, reach)
            rows = list(prediction_rows(files, predictor.info.classes, probabilities, arguments.top))
            if arguments.form == "csv":
                with progress.aside():
                    print(as_csv(rows, header=not read), file=stdout, flush=True)
            else:
                collected += rows
            read += len(rows)
    if collected:
        print({"table": as_table, "json": as_json}[arguments.form](collected), flush=True)
    said = f"predict: {read:,} of {len(found):,} files read, {len(found) - read:,} refused"
    if read < max(1, len(found)):
        raise ThawError(said)  # so that the exit code is 1
    if read > 1:
        print(said, file=sys.stderr)


def _batches(
    found: list[Path], side: int, max_pixels: int, progress: Progress
) -> Iterator[tuple[list[Path], np.ndarray]]:
    """Files that are images, and these, uint8 (n, side, side, 3), with a line on standard error for each other file.

    However many files there are, images of few batches are in memory.
    """
    files, images = [], []
    for file, image in zip(found, read_images(found, side, max_pixels), strict=True):
        if isinstance(image, UnreadableImage):
            with progress.aside():
                print(image, file=sys.stderr)
            continue
        files.append(file)
        images.append(image.pixels)
        if len(files) == BATCH:
            yield files, np.stack(images)
            files, images = [], []
    if files:
        yield files, np.stack(images)


def _load_predictor(folder: Path, params: Params, views: int) -> "Predictor":
    """Load the checkpoint, not before there is an image: that takes seconds."""
    from thaw.app.predict import Predictor

    if other := other_versions(model_versions(folder)):
        print(f"predict: {folder} was {other}", file=sys.stderr)
    set_up_backend("predict", params)
    from thaw.evaluation.views import describe_views

    mirrored = bool(params.augment.flip)
    if views > 1:
        print(f"predict: mean of {describe_views(views, mirrored)}", file=sys.stderr)
    return Predictor(folder, views, mirrored, BATCH)
