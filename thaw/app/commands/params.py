"""thaw params: compose conf/ into params.yaml."""

import argparse

from thaw.app.commands.common import add_overrides


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "params",
        help="compose conf/ into params.yaml",
        epilog="example: %(prog)s backbone=mobilenetv2",
    )
    add_overrides(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    from thaw.config.compose import compose_params

    compose_params(arguments.overrides)
    print("params.yaml written")
