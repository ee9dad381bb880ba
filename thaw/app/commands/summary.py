"""thaw summary: print the blocks, cuts and phases of a run, and estimate its duration."""

import argparse

from tabulate import tabulate

from thaw.app.commands.common import add_overrides, set_up_backend
from thaw.config.schedule import chain_of
from thaw.runtime.progress import format_duration
from thaw.stage import composed_params


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "summary",
        help="print the blocks, cuts and phases of a run, and estimate its duration",
        epilog="example: %(prog)s backbone=mobilenetv2 schedule=full",
    )
    add_overrides(parser, "; without any, params.yaml")
    parser.add_argument("--no-estimate", dest="estimate", action="store_false", help="do not measure speeds")
    return parser


def run(arguments: argparse.Namespace) -> None:
    params = composed_params(arguments.overrides)
    device = set_up_backend("summary", params)
    from thaw.app.summary import (
        BLOCK_COLUMNS,
        PHASE_COLUMNS,
        block_rows,
        build_untrained,
        estimate_seconds,
        phase_row,
    )

    network = build_untrained(params)
    print(_table(BLOCK_COLUMNS, block_rows(params, network)), end="\n\n")
    rows = [phase_row(params, network, name).cells() for name in chain_of(params.schedule)]
    print(_table(PHASE_COLUMNS, rows), flush=True)
    if not arguments.estimate:
        return
    print(f"\nEstimated from about a second of each stage's steps, {device}:", flush=True)
    total = 0.0
    for stage, seconds in estimate_seconds(params, network):
        total += seconds
        print(f"{stage:20} {format_duration(seconds):>9}", flush=True)
    words = "plus some seconds a stage to start; early stopping and the cache save time"
    print(f"{'all':20} {format_duration(total):>9}, {words}")


def _table(columns: dict[str, str], rows: list[list[str]]) -> str:
    return tabulate(rows, list(columns), disable_numparse=True, colalign=list(columns.values()))
