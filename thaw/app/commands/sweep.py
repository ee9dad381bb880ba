"""thaw sweep: run the experiments of a grid on a Ray cluster, or side by side on this machine."""

import argparse

from thaw.app.commands.common import add_overrides, positive_integer


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "sweep",
        help="run the experiments of a grid side by side, on this machine or on a Ray cluster",
        epilog="example: %(prog)s -S backbone=vgg16,mobilenetv2 -S seed=0,1,2",
    )
    add_overrides(parser)
    words = "HOST:PORT of a Ray cluster; without it Ray runs on this machine, as long as the sweep"
    parser.add_argument("--on", metavar="ADDRESS", help=words)
    words = "experiments at once on a host: as many as it has GPUs, or 2"
    parser.add_argument("--jobs", type=positive_integer, metavar="N", help=words)
    words = "threads of each experiment, whose number moves the last digits: cores of the smallest host / jobs"
    parser.add_argument("--threads", type=positive_integer, metavar="N", help=words)
    return parser


def run(arguments: argparse.Namespace) -> None:
    from thaw.app.sweep.cluster import run_sweep

    run_sweep(arguments.overrides, arguments.on, arguments.jobs, arguments.threads)
