"""thaw stage: run a stage of dvc.yaml."""

import argparse

from thaw.stage import STAGES, run_stage


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "stage",
        help="run one stage of the pipeline, as dvc.yaml does",
        epilog="example: %(prog)s unfreeze@all",
    )
    names = ", ".join("unfreeze@PHASE" if name == "unfreeze" else name for name in STAGES)
    parser.add_argument("name", metavar="NAME", type=_name, help=names)
    return parser


def _name(text: str) -> str:
    kind, separator, phase = text.partition("@")
    if kind not in STAGES or bool(separator) != (kind == "unfreeze") or (separator and not phase):
        names = ", ".join("unfreeze@PHASE" if name == "unfreeze" else name for name in STAGES)
        raise argparse.ArgumentTypeError(f"received {text}; accepted: {names}")
    return text


def run(arguments: argparse.Namespace) -> None:
    run_stage(arguments.name)
