"""thaw predict: predict the classes of image files."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

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
from thaw.images.read import UnreadableImage, find_images
from thaw.network.checkpoint import read_checkpoint_info
from thaw.runtime.progress import Progress
from thaw.stage import read_params

if TYPE_CHECKING:
    from thaw.app.predict import Predictor


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
    from thaw.app.predict import as_csv, as_json, as_table, image_batches, prediction_rows

    folder, params = model_folder(arguments.model), read_params()
    side = read_checkpoint_info(folder).input_size
    check_views("--views", arguments.views, params)
    found, stdout = find_images(arguments.images), sys.stdout
    predictor, read, collected = None, 0, []
    with messages_on_stderr(), Progress("predict", len(found), "files") as progress:

        def refuse(error: UnreadableImage) -> None:
            with progress.aside():
                print(error, file=sys.stderr)

        for files, images in image_batches(found, side, arguments.max_pixels, refuse):
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


def _load_predictor(folder: Path, params: Params, views: int) -> "Predictor":
    """Load the checkpoint, not before there is an image: that takes seconds."""
    from thaw.app.predict import BATCH, Predictor

    if other := other_versions(model_versions(folder)):
        print(f"predict: {folder} was {other}", file=sys.stderr)
    set_up_backend("predict", params)
    from thaw.evaluation.views import describe_views

    mirrored = bool(params.augment.flip)
    if views > 1:
        print(f"predict: mean of {describe_views(views, mirrored)}", file=sys.stderr)
    return Predictor(folder, views, mirrored, BATCH)
