"""thaw fresh: drop the saved state of stages that did not end."""

import argparse


def add_parser(commands) -> argparse.ArgumentParser:
    return commands.add_parser(
        "fresh", help="drop the saved state of stages that did not end: they start anew", epilog="make fresh"
    )


def run(arguments: argparse.Namespace) -> None:
    from thaw.runtime.resume import drop_states, state_home

    left = drop_states()
    but = f" but that of what is running: {', '.join(left)}" if left else ""
    print(f"{state_home()}: no saved state is left{but}")
