"""The stages of dvc.yaml: what each one does, and what all of them do around it.

Parameters are checked, time and memory are taken, and an expected failure ends in one line.
"""

import signal
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from thaw import paths
from thaw.backbones import BACKBONES
from thaw.config.checks import Tables
from thaw.config.compose import compose
from thaw.config.load import check_params, load_params
from thaw.config.schema import Params
from thaw.datasets import DATASETS
from thaw.errors import ParamError, ThawError, out_of_memory
from thaw.network.backend import provenance, use_backend
from thaw.network.cut import frozen_layers
from thaw.runtime.files import write_json
from thaw.runtime.gpus import take_gpu
from thaw.runtime.locks import locked
from thaw.runtime.memory import PeakMemory
from thaw.runtime.once import made_elsewhere
from thaw.runtime.process import Stopped, end_with_dvc, listen_for_signals

TABLES = Tables(BACKBONES, DATASETS, frozen_layers)


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        module: imported once the backend is set up.
        function: of that module; takes all parameters and, for one of many, the name after the @.
        keras: whether it computes with Keras.
    """

    module: str
    function: str
    keras: bool = True


STAGES = {
    "download": Stage("thaw.datasets.download", "download", keras=False),
    "preprocess": Stage("thaw.data.preprocess", "preprocess", keras=False),
    "backbone": Stage("thaw.training.backbone", "make_backbone"),
    "extract": Stage("thaw.features.extract", "extract"),
    "train_head": Stage("thaw.training.phase", "train_head"),
    "unfreeze": Stage("thaw.training.phase", "unfreeze"),
    "evaluate": Stage("thaw.evaluation.final", "evaluate"),
    "figures": Stage("thaw.figures.draw", "draw_figures", keras=False),
}


def read_params(path: Path = paths.PARAMS) -> Params:
    """params.yaml, checked against the backbones and datasets that there are; raises as `load_params`."""
    return load_params(TABLES, path)


def composed_params(overrides: list[str]) -> Params:
    """Checked parameters: what conf/ composes to with overrides, or params.yaml where there are none."""
    return check_params(compose(overrides), TABLES) if overrides else read_params()


def run_stage(name: str) -> None:
    """Run a stage as a program.

    Args:
        name: of the DVC stage, such as extract or unfreeze@all; its seconds, but for those that it waited, and its
            peak memory go into metrics/time/<name>.json, what it computed on into metrics/provenance/<name>.json.
    """
    listen_for_signals()
    end_with_dvc(name)
    kind, one_of_many, phase = name.partition("@")
    stage = STAGES[kind]
    try:
        params = read_params()
        if one_of_many and phase not in params.schedule.phases:
            raise ParamError("phase", phase, ", ".join(params.schedule.phases) or "none, as schedule.phases is empty")
        # DVC starts a stage beside one of an earlier DVC that was killed: two must not write one folder.
        with (
            locked(Path(".dvc/tmp/thaw") / f"{name}.lock", name),
            made_elsewhere(name) as made,
            PeakMemory() as memory,
        ):
            if made:
                return
            if stage.keras:
                take_gpu(name)
            started = time.perf_counter()  # to wait is no work
            if stage.keras:
                print(f"{name}: {use_backend(params.backend, params.device, params.run.data_gb)}", flush=True)
                write_json(paths.METRICS / "provenance" / f"{name}.json", provenance())
            work = getattr(import_module(stage.module), stage.function)
            seconds = (work(params, *([phase] if phase else [])) or 0) + time.perf_counter() - started
            spent = {"seconds": round(seconds, 2), "peak_gb": round(memory.gb, 2)}
            write_json(paths.METRICS / "time" / f"{name}.json", spent)
    except ThawError as error:
        sys.exit(f"{name}: {error}")
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        sys.exit(f"{name}: {error.strerror or error}{where}; when the cause is gone, `dvc repro` goes on")
    except Exception as error:
        if not out_of_memory(error):
            raise
        sys.exit(f"{name}: out of memory; lower batch_size, extract.batch_size or backbone.image_size ({_sizes()})")
    except Stopped as stopped:
        what = signal.Signals(stopped.number).name
        print(f"{name}: ended by {what}; the next run goes on from what is saved", file=sys.stderr, flush=True)
        sys.exit(128 + stopped.number)


def _sizes() -> str:
    params = read_params()
    return f"now {params.batch_size}, {params.extract.batch_size} and {params.backbone.image_size}"
