"""thaw check: refuse wrong parameters before anything runs."""

import argparse

from thaw import paths
from thaw.app.commands.common import add_overrides
from thaw.stage import composed_params


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "check",
        help="check params.yaml, or what conf/ composes to with overrides, before anything runs",
        epilog="example: %(prog)s head.units=128",
    )
    add_overrides(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    composed_params(arguments.overrides)
    print("accepted" if arguments.overrides else f"{paths.PARAMS}: accepted")
