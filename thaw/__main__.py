"""thaw's own commands; everything else is DVC's. `python -m thaw` explains itself."""

import argparse
import sys
import tempfile
from pathlib import Path

from thaw.errors import ThawError


def _params(arguments: argparse.Namespace) -> None:
    from thaw import compose

    compose.compose(arguments.overrides)
    print("params.yaml written")


def _check(arguments: argparse.Namespace) -> None:
    from thaw import compose, params, paths

    if not arguments.overrides:
        params.load()
        print(f"{paths.PARAMS}: accepted")
        return
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / paths.PARAMS
        compose.compose(arguments.overrides, output)
        params.load(output)
    print("accepted")


def _fresh(arguments: argparse.Namespace) -> None:
    import shutil

    from thaw import state

    folder = state.home()
    shutil.rmtree(folder, ignore_errors=True)
    print(f"{folder}: no saved state is left")


def _demo(arguments: argparse.Namespace) -> None:
    from thaw import demo

    demo.run()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m thaw",
        description="Gradual unfreezing as a DVC pipeline. Runs are DVC's: dvc repro, dvc exp run -S backbone=vgg16.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    one = commands.add_parser(
        "params",
        help="compose conf/ into params.yaml",
        epilog="example: python -m thaw params backbone=mobilenetv2",
    )
    one.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as -S takes them")
    one.set_defaults(command=_params)

    one = commands.add_parser(
        "check",
        help="check params.yaml, or what conf/ composes to with overrides, before anything runs",
        epilog="example: python -m thaw check head.units=128",
    )
    one.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as -S takes them")
    one.set_defaults(command=_check)

    one = commands.add_parser("demo", help="run the whole pipeline on embedded data, in demo/", epilog="make demo")
    one.set_defaults(command=_demo)

    one = commands.add_parser(
        "fresh", help="drop the saved state of stages that did not end: they start anew", epilog="make fresh"
    )
    one.set_defaults(command=_fresh)

    arguments = parser.parse_args(sys.argv[1:] or ["--help"])
    try:
        arguments.command(arguments)
    except ThawError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
