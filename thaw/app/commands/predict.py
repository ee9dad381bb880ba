"""thaw predict: predict the classes of image files."""

import argparse
import sys
from pathlib import Path

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
from thaw.errors import ThawError
from thaw.images.read import UnreadableImage, find_images, read_images
from thaw.network.checkpoint import read_checkpoint_info
from thaw.runtime.progress import Progress
from thaw.stage import read_params


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
    from thaw.app.predict import as_csv, as_json, as_table, predict_images, prediction_rows

    folder, params = model_folder(arguments.model), read_params()
    side = read_checkpoint_info(folder).input_size
    check_views("--views", arguments.views, params)
    found = find_images(arguments.images)
    files, images = _read(found, side, arguments.max_pixels)
    said = f"predict: {len(files):,} of {len(found):,} files read, {len(found) - len(files):,} refused"
    if not files:
        raise ThawError(said)
    if other := other_versions(model_versions(folder)):
        print(f"predict: {folder} was {other}", file=sys.stderr)
    set_up_backend("predict", params)
    from thaw.evaluation.views import describe_views

    views, mirrored = arguments.views, bool(params.augment.flip)
    if views > 1:
        print(f"predict: mean of {describe_views(views, mirrored)}", file=sys.stderr)
    with messages_on_stderr(), Progress("predict", views * len(images), "images") as progress:
        classes, probabilities = predict_images(folder, np.stack(images), views, mirrored, progress.reach)
    rows = list(prediction_rows(files, classes, probabilities, arguments.top))
    print({"table": as_table, "json": as_json, "csv": as_csv}[arguments.form](rows), flush=True)
    if len(files) < len(found):
        raise ThawError(said)  # so that the exit code is 1
    if len(files) > 1:
        print(said, file=sys.stderr)


def _read(found: list[Path], side: int, max_pixels: int) -> tuple[list[Path], list[np.ndarray]]:
    """The files that are images, and these; for each of the others a line on standard error."""
    files, images, refused = [], [], []
    with messages_on_stderr(), Progress("predict: reading", len(found), "files") as progress:
        for number, (file, image) in enumerate(zip(found, read_images(found, side, max_pixels), strict=True), start=1):
            if isinstance(image, UnreadableImage):
                refused.append(image)
            else:
                files.append(file)
                images.append(image.pixels)
            progress.reach(number)
    for refusal in refused:
        print(refusal, file=sys.stderr)
    return files, images
