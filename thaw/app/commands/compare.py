"""thaw compare: experiments side by side."""

import argparse

from thaw import paths


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "compare",
        help="print a table of experiments and whether they differ, and chart accuracy against training time",
        epilog="example: %(prog)s pedal-jerk soppy-aged",
    )
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="names; all experiments by default")
    parser.add_argument("-A", "--all-commits", action="store_true", help="of all commits, not only of the last")
    return parser


def run(arguments: argparse.Namespace) -> None:
    from thaw.app.compare import write_comparison

    print(write_comparison(all_commits=arguments.all_commits, names=arguments.experiments))
    print(f"\n{paths.PLOTS / 'compare.md'} and {paths.PLOTS / 'compare.png'} written")
