"""thaw new: a project of your own."""

import argparse
from pathlib import Path


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "new",
        help="lay the pipeline into a git repository of your own, without thaw's code",
        epilog="example: %(prog)s flowers --images photos",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder that is new or empty")
    words = "folder of class folders, or a CSV, to learn from: the recipe photos, with its path"
    parser.add_argument("--images", type=Path, metavar="FOLDER", help=words)
    return parser


def run(arguments: argparse.Namespace) -> None:
    from thaw.app.new import new_project

    new_project(arguments.folder, arguments.images)
    print(f"{arguments.folder}: a git repository with one commit; README.md there has what to type next")
