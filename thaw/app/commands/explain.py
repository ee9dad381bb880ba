"""thaw explain: draw the regions of an image that support a class."""

import argparse
from pathlib import Path

import numpy as np

from thaw.app.commands.common import add_max_pixels, add_model, model_folder, set_up_backend
from thaw.app.replaced import name_replaced
from thaw.errors import ParamError, printable
from thaw.images.read import read_image, read_upright
from thaw.network.checkpoint import read_checkpoint_info
from thaw.stage import read_params


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "explain",
        help="draw the regions of an image that support a class (Grad-CAM)",
        epilog="example: %(prog)s cat.jpg --of dog",
    )
    parser.add_argument("image", type=Path, metavar="IMAGE", help="of any size and mode")
    parser.add_argument("--of", metavar="CLASS", help="name of the class; the most probable by default")
    parser.add_argument(
        "--output", type=Path, default=Path("explain.png"), metavar="PNG", help="explain.png by default"
    )
    add_max_pixels(parser)
    add_model(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    from thaw.app.predict import class_number

    if arguments.output.exists() and arguments.image.exists() and arguments.output.samefile(arguments.image):
        raise ParamError("--output", str(arguments.output), "a file other than the image")
    folder = model_folder(arguments.model)
    info = read_checkpoint_info(folder)
    label = None if arguments.of is None else class_number(arguments.of, info.classes)
    image = read_image(arguments.image, info.input_size, arguments.max_pixels).pixels
    name_replaced("explain", arguments.output)
    set_up_backend("explain", read_params())
    from thaw.app.explain import PANEL, grad_cam, overlay
    from thaw.network.checkpoint import load_checkpoint
    from thaw.network.inference import softmax

    network, _ = load_checkpoint(folder)
    probabilities = softmax(network.classifier().predict(image[None], verbose=0), info.temperature)[0]
    label = int(probabilities.argmax()) if label is None else label
    heat = grad_cam(network, image[None], np.array([label]))[0]
    title = f"{info.classes[label]}, {probabilities[label]:.1%}"
    overlay(arguments.output, read_upright(arguments.image, PANEL, arguments.max_pixels), image, heat, title)
    print(f"{printable(str(arguments.output))}: {title}")
