"""thaw summary: print the blocks, depths and phases of a run, and with --estimate its duration."""

import argparse

from tabulate import tabulate

from thaw.app.commands.common import add_overrides, messages_on_stderr, set_up_backend
from thaw.config.schedule import chain_of
from thaw.runtime.progress import Progress, format_duration
from thaw.stage import composed_params


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "summary",
        help="print the blocks, depths and phases of a run before it is started",
        epilog="example: %(prog)s backbone=mobilenetv2 schedule=full",
    )
    add_overrides(parser, "; without any, params.yaml")
    words = "also measure about a second of steps at each depth and of each stage, which takes minutes"
    parser.add_argument("--estimate", action=argparse.BooleanOptionalAction, default=False, help=words)
    return parser


def run(arguments: argparse.Namespace) -> None:
    params = composed_params(arguments.overrides)
    device = set_up_backend("summary", params)
    from thaw.app.summary import (
        BLOCK_COLUMNS,
        DEPTH_COLUMNS,
        PHASE_COLUMNS,
        block_rows,
        build_untrained,
        depth_rows,
        describe_images,
        estimate_seconds,
        phase_row,
    )

    network = build_untrained(params)
    print(_table(BLOCK_COLUMNS, block_rows(network)), end="\n\n", flush=True)
    depths = []
    title = "summary: measuring" if arguments.estimate else "summary: counting"
    with messages_on_stderr(), Progress(title, len(network.blocks) + 1, "depths") as progress:
        for depth in depth_rows(params, network, arguments.estimate):
            depths.append(depth)
            progress.reach(len(depths))
    print(_table(DEPTH_COLUMNS, depths), end="\n\n", flush=True)
    print(describe_images(params, network), end="\n\n", flush=True)
    rows = [phase_row(params, network, name).cells() for name in chain_of(params.schedule)]
    print(_table(PHASE_COLUMNS, rows), flush=True)
    if not arguments.estimate:
        print(
            "\n--estimate measures how long an epoch at each depth and each stage take here; that itself takes minutes"
        )
        return
    print(f"\nEstimated from about a second of each stage's steps, {device}:", flush=True)
    total = 0.0
    for stage, seconds in estimate_seconds(params, network):
        total += seconds
        print(f"{stage:20} {format_duration(seconds):>9}", flush=True)
    words = "plus some seconds a stage to start; early stopping and the cache save time"
    print(f"{'all':20} {format_duration(total):>9}, {words}")


def _table(columns: dict[str, str], rows: list[list[str]]) -> str:
    shown = list(columns)[: len(rows[0])]
    return tabulate(rows, shown, disable_numparse=True, colalign=[columns[name] for name in shown])
