"""thaw export: write the model as one file, and compare its predictions with the checkpoint's."""

import argparse
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from thaw.app.commands.common import add_model, model_folder
from thaw.app.replaced import name_replaced
from thaw.errors import ParamError, ThawError
from thaw.network.backend import use_backend
from thaw.runtime.files import replacing
from thaw.runtime.gpus import VISIBLE
from thaw.runtime.installed import install_command
from thaw.stage import read_params

# Packages beyond thaw's own that write and read a form.
_PACKAGES = {"onnx": ("onnx", "onnxruntime", "tf2onnx")}


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "export",
        help="write the model as one file that takes uint8 images",
        epilog="example: %(prog)s --format onnx",
    )
    parser.add_argument("--format", choices=("keras", "onnx", "tflite"), required=True)
    parser.add_argument("--output", type=Path, metavar="FILE", help="<phase>.<format> by default")
    add_model(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    _check_packages(arguments.format)
    if arguments.format == "keras" and arguments.output and arguments.output.suffix != ".keras":
        raise ParamError("--output", str(arguments.output), "a name that ends in .keras, as Keras asks for")
    folder = model_folder(arguments.model)
    output = arguments.output or Path(f"{folder.name}.{arguments.format}")
    name_replaced("export", output)
    # A file is for any machine, and not every format has half precision: float32, computed on the CPU.
    os.environ[VISIBLE] = "-1"
    use_backend("tensorflow", read_params().device.model_copy(update={"precision": "float32"}))
    from thaw.app.export import TOLERANCE, predict_exported, write_export
    from thaw.app.metadata import describe_checkpoint
    from thaw.app.predict import Predictor
    from thaw.data.splits import read_split

    predictor = Predictor(folder)
    network, info = predictor.network, predictor.info
    images, _ = read_split("test", info.classes)
    with tempfile.TemporaryDirectory() as scratch, replacing(output) as beside:
        exported = Path(scratch) / f"model.{arguments.format}"
        write_export(network, describe_checkpoint(folder, info), arguments.format, exported)
        expected = predictor.probabilities(images)
        difference = float(abs(predict_exported(arguments.format, exported, images) - expected).max())
        if difference > TOLERANCE:
            raise ThawError(f"{output}: probabilities differ from {folder}'s by up to {difference:.2g}; not written")
        shutil.copyfile(exported, beside)
    print(f"{output}: probabilities of {len(images):,} test images differ from {folder}'s by {difference:.1e} at most")


def _check_packages(form: str) -> None:
    """Refuse a form whose packages are not installed, before TensorFlow is loaded."""
    missing = [name for name in _PACKAGES.get(form, ()) if find_spec(name) is None]
    if missing:
        raise ThawError(f"--format {form}: no {', '.join(missing)}: {install_command('export')}")
