"""thaw lr-range: compare learning rates for a phase in short runs."""

import argparse
from pathlib import Path

from thaw.app.commands.common import learning_rate, positive_integer, set_up_backend
from thaw.app.lockfile import refuse_stale
from thaw.app.replaced import name_replaced
from thaw.config.schema import HEAD
from thaw.runtime.files import replacing
from thaw.stage import read_params


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "lr-range",
        help="compare learning rates for a phase in short runs, chart their accuracy and suggest one",
        epilog="example: %(prog)s depth3 --rates 0.001 0.002 0.004, after `dvc repro train_head`",
    )
    parser.add_argument(
        "phase", metavar="PHASE", help="head, or one of schedule.phases; needs the previous phase's checkpoint"
    )
    parser.add_argument(
        "--rates", type=learning_rate, nargs="+", metavar="RATE", help="1e-5 to 0.1 by default, two a decade"
    )
    parser.add_argument("--epochs", type=positive_integer, default=2, metavar="N", help="of each run (2)")
    parser.add_argument("--output", type=Path, metavar="PNG", help="lr-range-<phase>.png by default")
    return parser


def run(arguments: argparse.Namespace) -> None:
    from thaw.app.lr_range import RATES, draw_trials, run_trials, suggestion

    params = read_params()
    refuse_stale("lr-range", params, arguments.phase)
    output = arguments.output or Path(f"lr-range-{arguments.phase}.png")
    name_replaced("lr-range", output)
    with replacing(output) as beside:
        beside.touch()  # an output that cannot be written fails before training
        set_up_backend("lr-range", params)
        trials = []
        for trial in run_trials(params, arguments.phase, arguments.rates or RATES, arguments.epochs):
            trials.append(trial)
            scores = f"validation accuracy {trial.val_accuracy:.4f}, loss {trial.val_loss:.4f}"
            print(f"lr-range: {trial.rate:g}: {scores}", flush=True)
        best = suggestion(trials)
        draw_trials(beside, arguments.phase, trials)
    key = HEAD if arguments.phase == HEAD else f"schedule.phases.{arguments.phase}"
    print(f"{output}: best at {best.rate:g}: -S {key}.learning_rate={best.rate:g}")
