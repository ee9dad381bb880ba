"""thaw report: write one HTML file about a run."""

import argparse
from pathlib import Path


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "report",
        help="write one HTML file about an experiment, a commit or the workspace",
        epilog="example: %(prog)s pedal-jerk --output pedal-jerk.html",
    )
    words = "an experiment, commit, branch or tag; the workspace by default"
    parser.add_argument("revision", nargs="?", metavar="REVISION", help=words)
    parser.add_argument("--output", type=Path, metavar="FILE", help="report.html, or report-REVISION.html, by default")
    return parser


def run(arguments: argparse.Namespace) -> None:
    from thaw.app.report.write import write_report

    print(f"{write_report(arguments.revision, arguments.output)} written: one file, readable without a network")
