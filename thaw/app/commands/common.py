"""Shared by several commands: arguments, checked parameters, the backend, the checkpoint."""

import argparse
import contextlib
import sys
from pathlib import Path

from thaw import paths
from thaw.config.schema import Params
from thaw.errors import ThawError
from thaw.images.read import MAX_PIXELS
from thaw.network.backend import ComputeDevice, use_backend
from thaw.network.checkpoint import CHECKPOINT_JSON, read_checkpoint_info
from thaw.runtime.gpus import take_gpu
from thaw.stage import read_params


def add_overrides(parser: argparse.ArgumentParser, words: str = "") -> None:
    parser.add_argument(
        "overrides", nargs="*", action="extend", metavar="KEY=VALUE", help=f"as `dvc exp run -S` takes them{words}"
    )
    words = "the same, as in a command of DVC's"
    parser.add_argument("-S", "--set-param", action="append", dest="overrides", metavar="KEY=VALUE", help=words)


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="a checkpoint; that of schedule.final by default")


def add_max_pixels(parser: argparse.ArgumentParser) -> None:
    words = f"most pixels of a file ({MAX_PIXELS}); half for WebP, AVIF and HEIC, a quarter for JPEG 2000, any for JPEG"
    parser.add_argument("--max-pixels", type=positive_integer, default=MAX_PIXELS, metavar="N", help=words)


def positive_integer(text: str) -> int:
    """Type of an argument that is a count."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"received {text}; accepted: a whole number from 1 up")
    return int(text)


def learning_rate(text: str) -> float:
    """Type of an argument that is a learning rate."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 10:
        raise argparse.ArgumentTypeError(f"received {text}; accepted: a number above 0, 10 at most")
    return rate


def messages_on_stderr() -> contextlib.redirect_stdout:
    """Print messages on standard error within the block: another program may read the output."""
    return contextlib.redirect_stdout(sys.stderr)


def set_up_backend(command: str, params: Params) -> ComputeDevice:
    """Set up the backend, on a free GPU where the machine has GPUs."""
    with messages_on_stderr():
        take_gpu(command)
    return use_backend(params.backend, params.device, params.run.data_gb)


def model_folder(folder: Path | None) -> Path:
    """Folder of the checkpoint: `folder`, or that of the schedule's final phase.

    Raises:
        ThawError: the folder has no checkpoint, or one without a head.
    """
    model = folder or paths.model(read_params().schedule.final)
    if not (model / CHECKPOINT_JSON).is_file():
        raise ThawError(f"{model}: no checkpoint there; run `dvc repro` first, or name one with --model")
    if read_checkpoint_info(model).head is None:
        raise ThawError(f"{model}: a backbone without a head; name the checkpoint of a phase with --model")
    return model
