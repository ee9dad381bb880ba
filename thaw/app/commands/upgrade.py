"""thaw upgrade: a project of your own after an upgrade of thaw."""

import argparse


def add_parser(commands) -> argparse.ArgumentParser:
    return commands.add_parser(
        "upgrade",
        help="bring a project made by `thaw new` up to the installed thaw; says which stages rerun",
        epilog="example: %(prog)s, after a newer thaw has been installed",
    )


def run(arguments: argparse.Namespace) -> None:
    from thaw.app.upgrade import described, upgrade

    print(described(upgrade()))
