"""The stages of dvc.yaml: the function of each, and the steps that all have in common.

Start at `main`, which reads the command line, or at `run_stage`.
It checks the parameters, measures time and memory, and ends an expected failure with one line.
"""

import argparse
import json
import os
import signal
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Literal

from thaw import paths
from thaw.backbones import BACKBONES
from thaw.config.checks import Tables
from thaw.config.compose import compose
from thaw.config.load import check_params, load_params
from thaw.config.naming import flat
from thaw.config.schema import Params
from thaw.datasets import DATASETS, described
from thaw.errors import ParamError, ThawError, out_of_memory
from thaw.network.backend import provenance, use_backend
from thaw.network.checkpoint import read_checkpoint_info
from thaw.network.cut import frozen_layers
from thaw.network.replicas import join_processes, replica_count, use_replicas
from thaw.runtime.code import refuse_other_code
from thaw.runtime.files import write_json
from thaw.runtime.gpus import take_gpus
from thaw.runtime.launched import ALONE, Processes, launched_processes
from thaw.runtime.locks import locked
from thaw.runtime.logs import log_scores, refuse_missing_logs
from thaw.runtime.memory import PeakMemory
from thaw.runtime.once import made_elsewhere
from thaw.runtime.process import Stopped, end_with_dvc, escape_output, listen_for_signals

# Of dataset=folder they know no classes: only its folder does, or what preprocess has made of it.
TABLES = Tables(BACKBONES, DATASETS, frozen_layers, read_checkpoint_info)


@dataclass(frozen=True)
class Stage:
    """A stage of dvc.yaml.

    Attributes:
        module: dotted name; imported after the backend is set up.
        function: name in that module; takes the parameters and, for `unfreeze@NAME`, the name of the phase.
        keras: whether the stage computes with Keras, from what the stage preprocess has written.
        trains: whether it trains, on `run.replicas` devices.
    """

    module: str
    function: str
    keras: bool = True
    trains: bool = False


STAGES = {
    "download": Stage("thaw.datasets.download", "download", keras=False),
    "preprocess": Stage("thaw.data.preprocess", "preprocess", keras=False),
    "backbone": Stage("thaw.training.backbone", "make_backbone", trains=True),
    "extract": Stage("thaw.extraction.extract", "extract"),
    "train_head": Stage("thaw.training.phase", "train_head", trains=True),
    "unfreeze": Stage("thaw.training.phase", "unfreeze", trains=True),
    "evaluate": Stage("thaw.evaluation.final", "evaluate"),
    "figures": Stage("thaw.figures.draw", "draw_figures", keras=False),
}


def read_params(path: Path = paths.PARAMS) -> Params:
    """params.yaml, checked against the tables of backbones and datasets; raises the errors of `load_params`."""
    return load_params(TABLES, path)


def composed_params(overrides: list[str]) -> Params:
    """Checked parameters of a run to come: what conf/ composes to with overrides, or params.yaml without any."""
    tables = replace(TABLES, describe=described)
    return check_params(compose(overrides), tables) if overrides else load_params(tables)


def _read_processed_params() -> Params:
    """params.yaml, checked against what the stage preprocess has made of a folder."""
    from thaw.data.splits import processed_dataset

    return load_params(replace(TABLES, describe=processed_dataset))


def main(stage: str, words: str) -> None:
    """Run a stage as dvc.yaml's command does: without arguments, or with the name of a phase.

    Args:
        stage: its name in dvc.yaml.
        words: what it does, for --help.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m stages.{stage}",
        description=words,
        epilog="`dvc repro` runs it where its parameters, code or inputs have changed",
    )
    if stage == "unfreeze":
        parser.add_argument("phase", metavar="PHASE", help="a key of schedule.phases in params.yaml")
    arguments = parser.parse_args()
    run_stage(f"{stage}@{arguments.phase}" if stage == "unfreeze" else stage)


def run_stage(name: str) -> None:
    """Run a stage as a program.

    Args:
        name: name of the DVC stage, such as extract or unfreeze@all. Its seconds without waiting and its peak memory
            are written to metrics/time/<name>.json, device and versions to metrics/provenance/<name>.json.
    """
    escape_output()
    listen_for_signals()
    end_with_dvc(name)
    kind, separator, phase = name.partition("@")
    stage = STAGES[kind]
    try:
        params = _read_processed_params() if stage.keras else read_params()
        refuse_other_code([name], params.model_dump())
        refuse_missing_logs(params.run.log)
        if separator and phase not in params.schedule.phases:
            raise ParamError("phase", phase, ", ".join(params.schedule.phases) or "none, as schedule.phases is empty")
        replicas = _replicas(name, params)
        processes = ALONE if replicas == 1 else launched_processes(os.environ)
        if processes.count > 1 and name == "backbone":
            raise ParamError("run.replicas", replicas, "1 for this stage, where several processes are started for it")
        work = partial(_work, name, params, replicas, processes)
        if not processes.first:
            with open(os.devnull, "w", encoding="utf-8") as null, redirect_stdout(null):
                work()
            return
        # After a killed DVC, a stage of it may still run: two processes must not write the same folder.
        with (
            locked(Path(".dvc/tmp/thaw") / f"{name}.lock", name),
            made_elsewhere(name) as made,
            PeakMemory() as memory,
        ):
            if made:
                return
            seconds = work()
            if name == "evaluate":
                scores = json.loads(paths.EVALUATED.read_text(encoding="utf-8"))
                log_scores(params.run.log, name, flat(params.model_dump()), flat(scores))
            if name == "preprocess":
                _read_processed_params()  # refuses what only a folder's images tell, such as too large a batch_size
            spent = {"seconds": round(seconds, 2), "peak_gb": round(memory.gb, 2)}
            write_json(paths.METRICS / "time" / f"{name}.json", spent)
    except ThawError as error:
        sys.exit(f"{name}: {error}")
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        sys.exit(f"{name}: {error.strerror or error}{where}; when the cause is gone, `dvc repro` resumes")
    except Exception as error:
        if not out_of_memory(error):
            raise
        sys.exit(f"{name}: out of memory; lower batch_size, extract.batch_size or backbone.image_size ({_sizes()})")
    except Stopped as stopped:
        signal_name = signal.Signals(stopped.number).name
        print(f"{name}: ended by {signal_name}; the next run resumes from saved state", file=sys.stderr, flush=True)
        sys.exit(128 + stopped.number)


def _replicas(name: str, params: Params) -> int | Literal["auto"]:
    """`run.replicas` where the stage trains; TensorFlow has one."""
    trains = STAGES[name.partition("@")[0]].trains
    return params.run.replicas if trains and params.backend == "jax" else 1


def _work(name: str, params: Params, asked: int | Literal["auto"], processes: Processes) -> float:
    """Do what a stage is for; its seconds without waiting, with those of the processes that it resumes.

    Args:
        name: of the stage.
        params: all parameters.
        asked: replicas.
        processes: that do it together.
    """
    kind, _, phase = name.partition("@")
    stage = STAGES[kind]
    if stage.keras:
        batch_size = params.batch_size
        take_gpus(name, partial(replica_count, asked, batch_size=batch_size, processes=processes.count))
        join_processes(processes)
    started = time.perf_counter()  # after the wait for a GPU
    if stage.keras:
        device = use_backend(params.backend, params.device, params.run.data_gb)
        count = use_replicas(asked, batch_size, processes, f"{name} {params.model_dump_json()}")
        print(f"{name}: {f'{count} replicas, ' if count > 1 else ''}{device}", flush=True)
        if processes.first:
            write_json(paths.METRICS / "provenance" / f"{name}.json", provenance())
    function = getattr(import_module(stage.module), stage.function)
    return (function(params, *([phase] if phase else [])) or 0) + time.perf_counter() - started


def _sizes() -> str:
    params = read_params()
    return f"now {params.batch_size}, {params.extract.batch_size} and {params.backbone.image_size}"
