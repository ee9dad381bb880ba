"""thaw check: refuse wrong parameters before anything runs."""

import argparse

from thaw import paths
from thaw.app.commands.common import add_overrides
from thaw.config.compose import check_grid
from thaw.stage import composed_params


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "check",
        help="check params.yaml, or what conf/ composes to with overrides, of one run or a grid, before anything runs",
        epilog="example: %(prog)s head.units=128",
    )
    add_overrides(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    runs = check_grid(arguments.overrides, composed_params)
    what = f"{paths.PARAMS}: " if not arguments.overrides else f"{runs} runs: " if runs > 1 else ""
    print(f"{what}accepted")
