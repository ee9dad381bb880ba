"""thaw depth: compare depths in short runs and recommend where to stop."""

import argparse

from tabulate import tabulate

from thaw.app.commands.common import learning_rate, positive_integer, set_up_backend
from thaw.app.lockfile import refuse_stale
from thaw.config.schedule import chain_of
from thaw.errors import ParamError
from thaw.stage import read_params


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "depth",
        help="compare depths in short runs on a share of the images and recommend where to stop",
        epilog="example: %(prog)s --images 4000 --rates 0.001 0.002, after `dvc repro train_head`",
    )
    words = "one of schedule.phases: its start and its settings; by default the first after the head"
    parser.add_argument("phase", metavar="PHASE", nargs="?", help=words)
    words = "training images, and validation images at most (2000)"
    parser.add_argument("--images", type=positive_integer, default=2000, metavar="N", help=words)
    parser.add_argument("--epochs", type=positive_integer, default=2, metavar="N", help="of each depth's first run (2)")
    words = "each depth's best of them; by default the phase's; a quarter of it is for a quarter of batch_size"
    parser.add_argument("--rates", type=learning_rate, nargs="+", metavar="RATE", help=words)
    return parser


def run(arguments: argparse.Namespace) -> None:
    params = read_params()
    _, *phases = chain_of(params.schedule)
    name = arguments.phase or next(iter(phases), None)
    if name not in phases:
        raise ParamError("phase", name, f"one of {', '.join(phases)}" if phases else "a schedule that has phases")
    if arguments.epochs == 1:
        raise ParamError("--epochs", 1, "2 or more: the first epoch, in which steps are compiled, tells no speed")
    refuse_stale("depth", params, name)
    set_up_backend("depth", params)
    from thaw.app.depth import recommended, try_depths

    rates = arguments.rates or [params.schedule.phases[name].learning_rate]
    pairs = try_depths(params, name, arguments.images, arguments.epochs, rates)
    best, shallowest = recommended([second for _, second in pairs])
    columns = ["depth", "trains besides the head", "rate", "s an epoch"]
    columns += [f"after {arguments.epochs} epochs", "in equal seconds", "after these"]
    rows = [
        [first.depth, first.trains, f"{first.rate:g}", f"{first.seconds:.2f}"]
        + [_accuracy(first), f"{second.epochs} epochs", _accuracy(second)]
        for first, second in pairs
    ]
    sides = ["right", "left", *["right"] * 5]
    print(f"\n{tabulate(rows, columns, disable_numparse=True, colalign=sides)}\n")
    print(f"depth: best in equal seconds: {best.depth}, {_accuracy(best)}")
    print(f"depth: shallowest within one standard error: {shallowest.depth}, {_accuracy(shallowest)}")


def _accuracy(trial) -> str:
    return f"{trial.accuracy:.4f} ± {trial.error:.4f}"
