"""thaw compare: all experiments side by side."""

import argparse

from thaw import paths


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "compare",
        help="a table of all experiments, and a picture of accuracy against training time",
        epilog="example: %(prog)s --all-commits",
    )
    parser.add_argument("-A", "--all-commits", action="store_true", help="those of all commits, not of the last alone")
    return parser


def run(arguments: argparse.Namespace) -> None:
    from thaw.app.compare import write_comparison

    print(write_comparison(all_commits=arguments.all_commits))
    print(f"\n{paths.PLOTS / 'compare.md'} and {paths.PLOTS / 'compare.png'} are written")
