"""thaw compare: all experiments side by side."""

import argparse

from thaw import paths


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "compare",
        help="print a table of all experiments, and chart accuracy against training time",
        epilog="example: %(prog)s --all-commits",
    )
    parser.add_argument("-A", "--all-commits", action="store_true", help="of all commits, not only of the last")
    return parser


def run(arguments: argparse.Namespace) -> None:
    from thaw.app.compare import write_comparison

    print(write_comparison(all_commits=arguments.all_commits))
    print(f"\n{paths.PLOTS / 'compare.md'} and {paths.PLOTS / 'compare.png'} written")
