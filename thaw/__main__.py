"""The command line: finds the command and hands over to its module in thaw.app.commands. Start at `main`."""

import argparse
import os
import sys
from pathlib import Path

from thaw import __version__
from thaw.app.commands import (
    audit,
    check,
    compare,
    demo,
    depth,
    explain,
    export,
    fresh,
    lr_range,
    new,
    params,
    predict,
    report,
    serve,
    stage,
    summary,
    sweep,
    upgrade,
)
from thaw.errors import ThawError, out_of_memory, printable
from thaw.runtime.process import escape_output

COMMANDS = (
    params, check, summary, lr_range, depth, sweep, demo, new, upgrade, fresh, compare, report, predict, export,
    explain, serve, audit, stage,
)  # fmt: skip


def build_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of all commands; docs/commands.md is made of it, too."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Gradual unfreezing as a DVC pipeline. Runs are DVC's: dvc repro, dvc exp run -S backbone=vgg16.",
    )
    parser.add_argument("--version", action="version", version=f"thaw {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands).set_defaults(run=command.run)
    return parser


def main() -> None:
    """Parse the command line and hand over to the command's module; an expected failure ends in one line."""
    parser = build_parser("python -m thaw" if Path(sys.argv[0]).name == "__main__.py" else "thaw")
    arguments = parser.parse_args(sys.argv[1:] or ["--help"])
    escape_output()
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except ThawError as error:
        sys.exit(printable(str(error)))  # file names may hold anything
    except BrokenPipeError:  # the reader, such as `head`, is done; Python would write the rest at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        sys.exit(printable(f"{error.filename}: {error.strerror}" if error.filename else str(error)))
    except Exception as error:
        if not out_of_memory(error):
            raise
        sys.exit("out of memory; a smaller batch_size, head.units or backbone.image_size needs less")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
