"""thaw fresh: delete the saved state of interrupted stages."""

import argparse
import sys

from thaw import paths
from thaw.errors import ThawError


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "fresh", help="delete the saved state of interrupted stages: they start anew", epilog="make fresh"
    )
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask in a terminal")
    return parser


def run(arguments: argparse.Namespace) -> None:
    from thaw.runtime.progress import format_duration
    from thaw.runtime.resume import drop_states, saved_states, state_home
    from thaw.runtime.watched import DVC_YAML

    if not DVC_YAML.exists():
        raise paths.not_found(DVC_YAML)
    saved = saved_states()
    for name, seconds in saved.items():
        print(f"{name}: {format_duration(seconds)} of work")
    asks = bool(saved) and sys.stdin.isatty() and not arguments.yes
    if asks and input("Delete it? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ThawError("fresh: nothing deleted")
    left = drop_states()
    but = f", except of running stages: {', '.join(left)}" if left else ""
    print(f"{state_home()}: {'saved state deleted' if saved else 'nothing saved'}{but}")
