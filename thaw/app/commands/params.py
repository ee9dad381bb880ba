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
    from thaw.app.replaced import keep_edits
    from thaw.config.compose import compose, compose_params

    keep_edits("params", compose(arguments.overrides))
    compose_params(arguments.overrides)
    print("params.yaml written")
