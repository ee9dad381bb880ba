"""thaw demo: run the whole pipeline on embedded data."""

import argparse


def add_parser(commands) -> argparse.ArgumentParser:
    return commands.add_parser("demo", help="run the whole pipeline on embedded data, in demo/", epilog="make demo")


def run(arguments: argparse.Namespace) -> None:
    from thaw.app.demo import run_demo

    run_demo()
