"""thaw fresh: delete the saved state of interrupted stages."""

import argparse


def add_parser(commands) -> argparse.ArgumentParser:
    return commands.add_parser(
        "fresh", help="delete the saved state of interrupted stages: they start anew", epilog="make fresh"
    )


def run(arguments: argparse.Namespace) -> None:
    from thaw.runtime.resume import drop_states, state_home

    left = drop_states()
    but = f", except of running stages: {', '.join(left)}" if left else ""
    print(f"{state_home()}: saved state deleted{but}")
